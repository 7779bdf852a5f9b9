"""The workers of a cluster, as the run that gives them stages sees them."""

import logging
import os
import shutil
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dvc.dependency.param import ParamsDependency
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.cache import _can_hash, _get_stage_hash
from dvc.stage.exceptions import StageCmdFailedError
from dvc.utils import relpath

from labbook.cluster.exchange import Exchange
from labbook.cluster.settings import KINDS, Cluster
from labbook.cluster.snapshot import Snapshot, snapshot
from labbook.config.messages import closest
from labbook.errors import LabbookError, ParamsError
from labbook.io import explain
from labbook.repro.show import Show

__all__ = ["Errand", "Workers", "at_work"]

MINUTES = 240  # of a job, unless the settings say otherwise; then it goes on in a new one, from its checkpoint
PAUSE = 0.5  # seconds
SECOND_LOOK = 30  # seconds
PATIENCE = 20  # seconds for a job to end that was cancelled


class Workers:
    """Those that take stages now; any thread may give one."""

    def __init__(self, cluster: Cluster, repo: Repo, tree: Snapshot) -> None:
        """Reach the remote and the engine.

        Args:
            cluster: its settings.
            repo: of the run.
            tree: what workers run.

        Raises:
            LabbookError: one of the two cannot be used.
        """
        self._cluster = cluster
        self._exchange = Exchange(repo, cluster.remote)
        self._remote = self._exchange.remote.label
        self._configuration = dict(repo.config["remote"][self._remote])
        self._tree = tree
        self._executors = {kind: _executor(cluster, kind) for kind in cluster.stages}
        self._one_at_a_time = threading.Lock()

    def errand(self, stage: Stage, upstream: Sequence[Stage], cores: int, *, force: bool) -> "Errand | None":
        """Say what a worker has to do; `None` for a stage that runs here.

        The caller holds DVC's lock on the repository.

        Args:
            stage: which.
            upstream: the stages that make what it depends on.
            cores: that its job asks for.
            force: run it even if the remote has what it makes.
        """
        if force:
            stage.save_deps()  # DVC has not
        if _kind(stage) not in self._executors or not _in_run_cache(stage):
            return None
        outs = [
            (_read_from(out, dep), out) for other in upstream for out in other.outs for dep in stage.deps if _overlap(out, dep)
        ]
        inputs = {relpath(read.fs_path, stage.repo.root_dir): read.hash_info.value for read, _ in outs if read.hash_info}
        # What git tracks is in the snapshot, unless it is new; what is new is in the cache, for the run-cache.
        needless = {read.hash_info.value for read, out in outs if not out.use_cache} - self._exchange.here(inputs.values())
        inputs = {path: oid for path, oid in inputs.items() if oid not in needless}
        inputs = self._data_of_models(stage, upstream) | inputs
        return Errand(stage, cores, _get_stage_hash(stage), inputs, force)

    def _data_of_models(self, stage: Stage, upstream: Sequence[Stage]) -> dict[str, str]:
        """Return by path what the models were trained on that a stage reads; `explain` and `sweep` read it again."""
        deps = [dep for other in upstream if _kind(other) == "train" for dep in other.deps]
        files = [dep for dep in deps if dep.hash_info and not isinstance(dep, ParamsDependency)]
        inputs = {relpath(dep.fs_path, stage.repo.root_dir): dep.hash_info.value for dep in files}
        here = self._exchange.here(inputs.values())  # other files are in git
        return {path: oid for path, oid in inputs.items() if oid in here}

    def run(self, errand: "Errand", shown: Show, interrupted: Callable[[], bool]) -> None:
        """Have a stage run, unless the remote has what it makes, and bring that into the cache.

        Args:
            errand: for which stage.
            shown: hears what it prints.
            interrupted: whether to give up.

        Raises:
            StageCmdFailedError: the exit status of its command is not 0.
            LabbookError: no worker could run it, or no result came.
        """
        stage = errand.stage
        errand.entry = None if errand.force else self._exchange.take(errand.key)
        if errand.entry:
            return
        self._exchange.lend(errand.inputs.values())
        shown.begin(stage.addressing)
        status, name = self._run(errand, shown, interrupted)
        if status:
            raise StageCmdFailedError(stage.cmd, status)
        errand.entry = self._exchange.take(errand.key, name)
        if not errand.entry:
            raise LabbookError(
                f"{stage.addressing}: a worker ran it and {self._exchange.remote.name} does not have what it made, or what it "
                f"read there was not what lies here. Run it once more; then `python -m labbook.doctor --remote {self._remote}`."
            )

    def _run(self, errand: "Errand", shown: Show, interrupted: Callable[[], bool]) -> tuple[int, str]:
        from labbook.cluster.task import Task  # needs submitit

        stage = errand.stage
        task = Task(
            stage.addressing, errand.key, self._tree, errand.inputs,
            self._remote, self._configuration, self._cluster.folder, errand.cores,
        )  # fmt: skip
        kind = _kind(stage)
        with self._one_at_a_time:
            self._executors[kind].update_parameters(**_parameters(self._cluster, errand.cores, kind))
            job = self._executors[kind].submit(task)
        shown.line(stage.addressing, f"waits as job {job.job_id}")
        try:
            for line in _lines(job, self._cluster.executor, interrupted):
                shown.line(stage.addressing, line)
        except BaseException:
            _cancel(job)
            raise
        if interrupted():
            _cancel(job)
            raise StageCmdFailedError(stage.cmd, 130)
        try:
            if not job.done():
                raise LabbookError
            if self._cluster.executor == "local":
                job._results_timeout_s = 1  # submitit waits 15 seconds for a disk of the network to show the result
            status, name = job.result()
        except Exception:  # of submitit, or what it carried here: a traceback, which the log has too
            raise LabbookError(
                f"{stage.addressing}: job {job.job_id} was lost. What it said is in {job.paths.stdout}. "
                "When the cluster is well, run the same again; a training goes on from its checkpoint."
            ) from None
        if status == 0:
            shutil.rmtree(job.paths.folder, ignore_errors=True)
        return status, name


@dataclass
class Errand:
    """A stage that a worker runs."""

    stage: Stage
    cores: int
    key: str  # of its run, in the run-cache
    inputs: Mapping[str, str]  # by path, the objects of other stages that it reads
    force: bool
    entry: dict[str, Any] | None = None  # of the run-cache: what it made

    def check_out(self) -> None:
        """Put what it made into its place. The caller holds DVC's lock on the repository."""
        self.stage.repo.stage_cache._create_stage(self.entry, wdir=self.stage.wdir).checkout()


@contextmanager
def at_work(cluster: Cluster, repo: Repo) -> Iterator[Workers]:
    """Let workers take stages of a repository.

    Raises:
        LabbookError: the code cannot be given to them, or the remote or the engine cannot be used.
    """
    if Path.cwd() != Path(repo.root_dir):
        raise LabbookError(f"--cluster: run from the root of the repository, {repo.root_dir}.")
    kinds = {_kind(stage) for stage in repo.index.stages}
    for kind in cluster.stages.keys() - kinds - set(KINDS):
        raise ParamsError(
            f"stages.{kind}: no stage of this name, without what stands behind the @{closest(kind, sorted(kinds))}"
        )
    with snapshot(Path(repo.root_dir), cluster.repository) as tree:
        yield Workers(cluster, repo, tree)


def _executor(cluster: Cluster, kind: str) -> Any:
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "WARNING")  # here and, as jobs inherit it, there
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise LabbookError("submitit: not installed. `pip install submitit` brings it.") from error
    logging.getLogger("submitit").setLevel(logging.ERROR)  # a warning each time that Slurm keeps no accounts
    try:
        cluster.logs.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is sent to workers may hold keys of the remote
        executor = submitit.AutoExecutor(cluster.logs / "%j", cluster=cluster.executor)
    except RuntimeError as error:
        raise LabbookError(f"executor: {cluster.executor}: {error} `executor: local` runs workers on this machine.") from error
    except OSError as error:
        raise LabbookError(f"logs: {explain(error, cluster.logs)}") from error
    try:
        with warnings.catch_warnings(action="error"):  # it warns of a parameter that it passes over
            executor.update_parameters(**_parameters(cluster, 1, kind))
    except (AssertionError, NameError, TypeError, ValueError, Warning) as error:
        raise ParamsError(f"parameters of {kind}: {str(error).splitlines()[0]}") from error
    return executor


def _parameters(cluster: Cluster, cores: int, kind: str) -> dict[str, Any]:
    """Say what submitit is to ask for."""
    usual = {"timeout_min": MINUTES, "cpus_per_task": cores, "name": f"labbook-{kind}", "stderr_to_stdout": True}
    return usual | cluster.parameters | cluster.stages[kind]


def _lines(job: Any, executor: str, interrupted: Callable[[], bool]) -> Iterator[str]:
    """Give what a job prints, until it has ended, is lost or is not to go on."""
    begun = ""
    look_again, gone = time.monotonic() + SECOND_LOOK, False
    with ExitStack() as stack:
        log: IO[str] | None = None
        done = False
        while not done and not interrupted():
            done = job.done()
            if time.monotonic() > look_again:
                look_again, missing = time.monotonic() + SECOND_LOOK, not done and executor == "slurm" and _is_gone(job)
                done, gone = done or (gone and missing), missing  # twice, as a disk that all see may be late
            if log is None and job.paths.stdout.exists():
                log = stack.enter_context(job.paths.stdout.open(encoding="utf-8", errors="replace"))
            *whole, begun = (begun + (log.read() if log else "")).split("\n")
            yield from whole
            time.sleep(0 if done else PAUSE)
    if begun:
        yield begun


def _is_gone(job: Any) -> bool:
    """Look for a job in Slurm's queue: where it keeps no accounts, submitit never hears that one was lost."""
    listed = subprocess.run(["squeue", "--noheader", "--jobs", job.job_id], capture_output=True, text=True, check=False)
    if listed.returncode:
        return "Invalid job id" in listed.stderr  # else Slurm itself is away for a while
    return not listed.stdout.strip()


def _cancel(job: Any) -> None:
    with suppress(Exception):  # it may have ended; the run ends in any case
        job.cancel()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not job.done():
        time.sleep(PAUSE)


def _in_run_cache(stage: Stage) -> bool:
    """Say whether DVC writes down what such a stage made."""
    return _can_hash(stage) and all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs)


def _overlap(out: Output, dep: Output) -> bool:
    return Path(out.fs_path).is_relative_to(dep.fs_path) or Path(dep.fs_path).is_relative_to(out.fs_path)


def _read_from(out: Output, dep: Output) -> Output:
    """Return what a stage reads of an output: one file of a folder, which is an object by itself, or all of it."""
    file_of_it = dep.fs_path != out.fs_path and Path(dep.fs_path).is_relative_to(out.fs_path) and not dep.hash_info.isdir
    return dep if file_of_it else out


def _kind(stage: Stage) -> str:
    name: str = stage.addressing
    return name.partition("@")[0]
