"""Submit stages to the workers of a cluster and collect their results."""

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
from labbook.io import describe_os_error
from labbook.repro.display import Display

__all__ = ["RemoteStage", "Workers", "open_workers"]

MINUTES = 240  # default timeout of a job, which is then requeued and resumes from its checkpoint
POLL_SECONDS = 0.5
QUEUE_POLL_SECONDS = 30
CANCEL_SECONDS = 20  # to wait for a cancelled job to end


class Workers:
    """The workers of one run. Methods are thread-safe."""

    def __init__(self, cluster: Cluster, repo: Repo, tree: Snapshot) -> None:
        """Connect to the remote and create the executors.

        Args:
            cluster: its settings.
            repo: of the run.
            tree: snapshot of the code.

        Raises:
            LabbookError: the remote or an executor cannot be used.
        """
        self._cluster = cluster
        self._exchange = Exchange(repo, cluster.remote)
        self._remote = self._exchange.remote.label
        self._configuration = dict(repo.config["remote"][self._remote])
        self._tree = tree
        self._executors = {kind: _executor(cluster, kind) for kind in cluster.stages}
        self._lock = threading.Lock()

    def prepare(self, stage: Stage, upstream: Sequence[Stage], cores: int, *, force: bool) -> "RemoteStage | None":
        """Return the stage for a worker; `None` if it runs on this machine.

        The caller holds DVC's lock on the repository.

        Args:
            stage: to run.
            upstream: the stages that produce its dependencies.
            cores: to request.
            force: run it even if the remote has its outputs.
        """
        if force:
            stage.save_deps()  # DVC skips this when forced
        if _kind(stage) not in self._executors or not _in_run_cache(stage):
            return None
        outs = [
            (_read_from(out, dep), out) for other in upstream for out in other.outs for dep in stage.deps if _overlap(out, dep)
        ]
        inputs = {relpath(read.fs_path, stage.repo.root_dir): read.hash_info.value for read, _ in outs if read.hash_info}
        # Outputs that git tracks are in the snapshot, except new ones, which the run cache keeps in the cache.
        needless = {read.hash_info.value for read, out in outs if not out.use_cache} - self._exchange.cached(inputs.values())
        inputs = {path: oid for path, oid in inputs.items() if oid not in needless}
        inputs = self._data_of_models(stage, upstream) | inputs
        return RemoteStage(stage, cores, _get_stage_hash(stage), inputs, force)

    def _data_of_models(self, stage: Stage, upstream: Sequence[Stage]) -> dict[str, str]:
        """Return the datasets of the models that a stage reads, by path; `explain` and `sweep` read them too."""
        deps = [dep for other in upstream if _kind(other) == "train" for dep in other.deps]
        files = [dep for dep in deps if dep.hash_info and not isinstance(dep, ParamsDependency)]
        inputs = {relpath(dep.fs_path, stage.repo.root_dir): dep.hash_info.value for dep in files}
        here = self._exchange.cached(inputs.values())  # the other files are in git
        return {path: oid for path, oid in inputs.items() if oid in here}

    def run(self, remote_stage: "RemoteStage", display: Display, interrupted: Callable[[], bool]) -> None:
        """Run a stage on a worker unless the remote has its outputs, and fetch them into the cache.

        Args:
            remote_stage: to run.
            display: receives its output.
            interrupted: returns whether the run was interrupted.

        Raises:
            StageCmdFailedError: its command failed.
            LabbookError: no worker could run it, or its outputs did not arrive.
        """
        stage = remote_stage.stage
        remote_stage.entry = None if remote_stage.force else self._exchange.fetch_result(remote_stage.key)
        if remote_stage.entry:
            return
        self._exchange.push_inputs(remote_stage.inputs.values())
        display.begin(stage.addressing)
        status, name = self._run(remote_stage, display, interrupted)
        if status:
            raise StageCmdFailedError(stage.cmd, status)
        remote_stage.entry = self._exchange.fetch_result(remote_stage.key, name)
        if not remote_stage.entry:
            raise LabbookError(
                f"{stage.addressing}: a worker ran it, but {self._exchange.remote.name} lacks its outputs, or has other "
                f"inputs than this clone. Run the stage again; if that fails, run `labbook doctor --remote {self._remote}`."
            )

    def _run(self, remote_stage: "RemoteStage", display: Display, interrupted: Callable[[], bool]) -> tuple[int, str]:
        from labbook.cluster.task import Task  # needs submitit

        stage = remote_stage.stage
        task = Task(
            stage.addressing, remote_stage.key, self._tree, remote_stage.inputs,
            self._remote, self._configuration, self._cluster.folder, remote_stage.cores,
        )  # fmt: skip
        kind = _kind(stage)
        with self._lock:
            self._executors[kind].update_parameters(**_parameters(self._cluster, remote_stage.cores, kind))
            job = self._executors[kind].submit(task)
        display.line(stage.addressing, f"queued as job {job.job_id}")
        try:
            for line in _lines(job, self._cluster.executor, interrupted):
                display.line(stage.addressing, line)
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
                job._results_timeout_s = 1  # instead of 15 s, which submitit waits for a network disk
            status, name = job.result()
        except Exception:  # from submitit or the job; the traceback is in the log
            raise LabbookError(
                f"{stage.addressing}: job {job.job_id} was lost. Its output is in {job.paths.stdout}. "
                "Run the same command again; a training resumes from its checkpoint."
            ) from None
        if status == 0:
            shutil.rmtree(job.paths.folder, ignore_errors=True)
        return status, name


@dataclass
class RemoteStage:
    """A stage that a worker runs."""

    stage: Stage
    cores: int
    key: str  # of the run cache
    inputs: Mapping[str, str]  # hash of each input object, by path
    force: bool
    entry: dict[str, Any] | None = None  # its run-cache entry, which lists its outputs

    def check_out(self) -> None:
        """Check out its outputs. The caller holds DVC's lock on the repository."""
        self.stage.repo.stage_cache._create_stage(self.entry, wdir=self.stage.wdir).checkout()


@contextmanager
def open_workers(cluster: Cluster, repo: Repo) -> Iterator[Workers]:
    """Yield the workers for the stages of a repository.

    Raises:
        LabbookError: the snapshot cannot be made, or the remote or an executor cannot be used.
    """
    if Path.cwd() != Path(repo.root_dir):
        raise LabbookError(f"--cluster: run from the root of the repository, {repo.root_dir}.")
    kinds = {_kind(stage) for stage in repo.index.stages}
    for kind in cluster.stages.keys() - kinds - set(KINDS):
        raise ParamsError(f"stages.{kind}: no stage has this name (the part before @){closest(kind, sorted(kinds))}")
    with snapshot(Path(repo.root_dir), cluster.repository) as tree:
        yield Workers(cluster, repo, tree)


def _executor(cluster: Cluster, kind: str) -> Any:
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "WARNING")  # jobs inherit it
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise LabbookError("submitit: not installed. Run `pip install submitit`.") from error
    logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns at every call if Slurm has no accounting
    try:
        cluster.logs.mkdir(mode=0o700, parents=True, exist_ok=True)  # requests may contain keys of the remote
        executor = submitit.AutoExecutor(cluster.logs / "%j", cluster=cluster.executor)
    except RuntimeError as error:
        raise LabbookError(f"executor: {cluster.executor}: {error} `executor: local` runs workers on this machine.") from error
    except OSError as error:
        raise LabbookError(f"logs: {describe_os_error(error, cluster.logs)}") from error
    try:
        with warnings.catch_warnings(action="error"):  # it only warns about unknown parameters
            executor.update_parameters(**_parameters(cluster, 1, kind))
    except (AssertionError, NameError, TypeError, ValueError, Warning) as error:
        raise ParamsError(f"parameters of {kind}: {str(error).splitlines()[0]}") from error
    return executor


def _parameters(cluster: Cluster, cores: int, kind: str) -> dict[str, Any]:
    """Return the submitit parameters of a job."""
    usual = {"timeout_min": MINUTES, "cpus_per_task": cores, "name": f"labbook-{kind}", "stderr_to_stdout": True}
    return usual | cluster.parameters | cluster.stages[kind]


def _lines(job: Any, executor: str, interrupted: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines that a job prints, until it ends, is lost or is interrupted."""
    begun = ""
    next_check, gone = time.monotonic() + QUEUE_POLL_SECONDS, False
    with ExitStack() as stack:
        log: IO[str] | None = None
        done = False
        while not done and not interrupted():
            done = job.done()
            if time.monotonic() > next_check:
                next_check, missing = time.monotonic() + QUEUE_POLL_SECONDS, not done and executor == "slurm" and _is_gone(job)
                done, gone = done or (gone and missing), missing  # twice in a row, because a shared disk may lag
            if log is None and job.paths.stdout.exists():
                log = stack.enter_context(job.paths.stdout.open(encoding="utf-8", errors="replace"))
            *whole, begun = (begun + (log.read() if log else "")).split("\n")
            yield from whole
            time.sleep(0 if done else POLL_SECONDS)
    if begun:
        yield begun


def _is_gone(job: Any) -> bool:
    """Return whether a job has left Slurm's queue; without accounting, submitit does not notice that a job was lost."""
    listed = subprocess.run(["squeue", "--noheader", "--jobs", job.job_id], capture_output=True, text=True, check=False)
    if listed.returncode:
        return "Invalid job id" in listed.stderr  # otherwise Slurm is temporarily unavailable
    return not listed.stdout.strip()


def _cancel(job: Any) -> None:
    with suppress(Exception):  # it may have ended already
        job.cancel()
    deadline = time.monotonic() + CANCEL_SECONDS
    while time.monotonic() < deadline and not job.done():
        time.sleep(POLL_SECONDS)


def _in_run_cache(stage: Stage) -> bool:
    """Return whether DVC stores the runs of a stage in its run cache."""
    return _can_hash(stage) and all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs)


def _overlap(out: Output, dep: Output) -> bool:
    return Path(out.fs_path).is_relative_to(dep.fs_path) or Path(dep.fs_path).is_relative_to(out.fs_path)


def _read_from(out: Output, dep: Output) -> Output:
    """Return what a stage reads of an output: a single file of a folder, or the whole output."""
    file_of_it = dep.fs_path != out.fs_path and Path(dep.fs_path).is_relative_to(out.fs_path) and not dep.hash_info.isdir
    return dep if file_of_it else out


def _kind(stage: Stage) -> str:
    name: str = stage.addressing
    return name.partition("@")[0]
