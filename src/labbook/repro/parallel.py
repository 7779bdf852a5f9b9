"""Run stages in parallel: DVC's own work is serialised, and the commands of stages run concurrently."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any

import dvc.stage.run
from dvc.env import DVC_STAGE
from dvc.repo import Repo
from dvc.repo.reproduce import _raise_error, _reproduce_stage
from dvc.stage import Stage
from networkx import DiGraph

from labbook.repro.commands import Commands
from labbook.repro.display import Display, open_display
from labbook.repro.guard import guarded
from labbook.repro.needs import Needs, read_needs
from labbook.repro.plan import Plan
from labbook.repro.readers import remove_broken_lock
from labbook.training.parallel import AT_ONCE

if TYPE_CHECKING:
    from labbook.cluster.workers import Workers

__all__ = ["OpenWorkers", "ParallelRepro"]

OpenWorkers = Callable[[Repo], AbstractContextManager["Workers | None"]]

IDLE_SECONDS = 30


class ParallelRepro:
    """Reproduces stages of one repository in parallel.

    DVC locks the repository while it checks files and unlocks it while a stage's command runs. The same holds here: one thread
    at a time holds `_turn` and the lock of the repository, and releases both while its command runs.
    """

    def __init__(
        self,
        jobs: int,
        gpus: Sequence[str],
        on_idle: Callable[[], None],
        here: int | None = None,
        open_workers: OpenWorkers | None = None,
    ) -> None:
        """Set the resources.

        Args:
            jobs: maximum number of parallel jobs. A stage on this machine occupies one per core, or per GPU if there are any.
            gpus: of this machine, which its commands share.
            on_idle: called with the lock held when no stage has ended for a while.
            here: maximum number of jobs whose command runs on this machine; default: all.
            open_workers: yields the workers of a cluster, which run the other jobs.
        """
        self._jobs = jobs
        self._commands = Commands(gpus if jobs > 1 else ())
        self._on_idle = on_idle
        self._here = here or jobs
        self._slots = threading.Semaphore(self._here)
        self._queue = threading.Lock()
        self._cluster = open_workers is not None
        self._has_gpus = bool(gpus)
        self._open_workers: OpenWorkers = open_workers or (lambda repo: nullcontext())
        self._turn = threading.Lock()

    def reproduce(
        self,
        steps: list[Stage],
        graph: DiGraph,
        *,
        force: bool = False,
        force_downstream: bool = False,
        on_error: str = "fail",
        repro_fn: Callable[..., Stage | None] = _reproduce_stage,
        **options: Any,
    ) -> list[Stage]:
        """Reproduce `steps`, each after its dependencies.

        The caller holds the lock of the repository. Parameters and result are those of DVC's `_reproduce`: the stages that
        ran, in the order of `steps`.

        Raises:
            ReproductionError: stages failed; the other running stages have ended.
            KeyboardInterrupt: the run was interrupted; its commands have ended.
        """
        needs = read_needs(steps)
        jobs = {stage: 1 if self._cluster else min(self._count(each), self._jobs) for stage, each in needs.items()}
        shares_cores = not self._has_gpus and not self._cluster
        many = [stage for stage in steps if needs[stage].trainings > 1] if shares_cores else []
        plan = Plan(steps, graph, jobs, many, force=force, force_downstream=force_downstream, on_error=on_error)
        repo = steps[0].repo
        remove_broken_lock(repo.tmp_dir)

        def work(stage: Stage) -> Stage | None:
            with self._turn, repo.lock:
                if self._commands.interrupted:
                    return None
                return repro_fn(stage, upstream=plan.upstream(stage), force=plan.forced[stage], **options)

        def on_idle() -> None:
            with self._turn, repo.lock:
                self._on_idle()

        repo.lock.unlock()
        try:
            with (
                self._commands.ended_when_interrupted(),
                guarded(),
                self._open_workers(repo) as workers,
                open_display(plan, self._jobs, lambda: self._commands.interrupted) as display,
                self._patched_dvc(plan, needs, display, workers),
            ):
                self._run_all(plan, work, on_idle, display)
        finally:
            repo.lock.lock()
        if self._commands.interrupted:
            raise KeyboardInterrupt
        if plan.failed and on_error != "ignore":
            _raise_error(next(iter(plan.failed.values())) if on_error == "fail" else None, *plan.failed)
        return [stage for stage in steps if stage in plan.ran]

    def _run_all(
        self, plan: Plan, work: Callable[[Stage], Stage | None], on_idle: Callable[[], None], display: Display
    ) -> None:
        """Run stages in threads until none is left that can run."""
        with ThreadPoolExecutor(self._jobs) as threads:
            running: dict[Future[Stage | None], Stage] = {}
            while True:
                jobs = 0 if self._commands.interrupted else self._jobs
                running.update((threads.submit(work, stage), stage) for stage in plan.start_ready(jobs))
                if not running:
                    break
                ended = wait(running, timeout=IDLE_SECONDS, return_when=FIRST_COMPLETED).done
                if not ended:
                    on_idle()
                for future in ended:
                    stage = running.pop(future)
                    try:
                        ran = future.result() is not None
                    except Exception as error:  # DVC and stages may raise anything
                        display.fail(stage.addressing)
                        plan.fail(stage, error)
                    else:
                        plan.done(stage, ran=ran)
                        if ran or not self._commands.interrupted:  # otherwise it was not checked
                            display.end(stage.addressing, ran=ran)

    @contextmanager
    def _patched_dvc(
        self, plan: Plan, needs: Mapping[Stage, Needs], display: Display, workers: "Workers | None"
    ) -> Iterator[None]:
        """Replace DVC's functions that run a command while stages run in parallel."""
        by_name = {stage.addressing: stage for stage in needs}

        def run(executable: str | None, cmd: str, *, env: dict[str, str], **options: Any) -> None:
            stage = by_name[env[DVC_STAGE]]
            env = env | {AT_ONCE: str(max(1, plan.jobs(stage) // needs[stage].cores))}
            self._commands.run(display, needs[stage].processes, executable, cmd, env=env, **options)

        def release_turn(run_here: Callable[..., None]) -> Callable[..., None]:
            @wraps(run_here)
            def wrapper(stage: Stage, *args: Any, **kwargs: Any) -> None:
                remote_stage = None
                if workers:
                    remote_stage = workers.prepare(stage, plan.upstream(stage), needs[stage].cores, force=plan.forced[stage])
                with self._released_turn(stage.repo):
                    if workers and remote_stage:
                        workers.run(remote_stage, display, lambda: self._commands.interrupted)
                    else:
                        with self._reserve(self._count(needs[stage])):
                            run_here(stage, *args, **kwargs)
                if remote_stage:
                    remote_stage.check_out()

            return wrapper

        usual = dvc.stage.run.unlocked_repo, dvc.stage.run._run
        dvc.stage.run.unlocked_repo, dvc.stage.run._run = release_turn, run
        try:
            yield
        finally:
            dvc.stage.run.unlocked_repo, dvc.stage.run._run = usual

    def _count(self, needs: Needs) -> int:
        """Return the number of jobs that a stage occupies: its cores, or one GPU per process."""
        return needs.processes if self._has_gpus else needs.cores

    @contextmanager
    def _reserve(self, jobs: int) -> Iterator[None]:
        """Wait until this machine has that many free job slots, and occupy them."""
        count = min(jobs, self._here)
        with self._queue:  # one at a time, to avoid a deadlock of two that wait for each other's slots
            for _ in range(count):
                self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release(count)

    @contextmanager
    def _released_turn(self, repo: Repo) -> Iterator[None]:
        """Release the turn and the lock while a command runs, as DVC's `unlocked_repo` releases the lock."""
        repo.lock.unlock()
        repo._reset()
        self._turn.release()
        try:
            yield
        finally:
            self._turn.acquire()
            repo.lock.lock()
