"""Run stages side by side: DVC's own work is one thread's at a time, the commands of stages run as many as there are jobs."""

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
from labbook.repro.guard import guarded
from labbook.repro.needs import Needs, read_needs
from labbook.repro.plan import Plan
from labbook.repro.readers import forget_broken_lock
from labbook.repro.show import Show, show
from labbook.training.parallel import AT_ONCE

if TYPE_CHECKING:
    from labbook.cluster.workers import Workers

__all__ = ["AtWork", "SideBySide"]

AtWork = Callable[[Repo], AbstractContextManager["Workers | None"]]

IDLE_SECONDS = 30


class SideBySide:
    """Several stages of one repository at work.

    DVC locks the repository while it looks at files and unlocks it while a stage's command runs. The same holds here: the
    thread whose turn it is holds that lock, and gives its turn away for as long as its command runs.
    """

    def __init__(
        self,
        jobs: int,
        gpus: Sequence[str],
        when_idle: Callable[[], None],
        here: int | None = None,
        at_work: AtWork | None = None,
    ) -> None:
        """Say what there is to work with.

        Args:
            jobs: stages at a time. On this machine a stage counts for as many as it needs cores, or GPUs where there are any.
            gpus: of this machine, which its commands share.
            when_idle: called with the lock held, when no stage has ended for a while.
            here: how many of the jobs run a command on this machine; default: all.
            at_work: gives the workers of a cluster, which run the others.
        """
        self._jobs = jobs
        self._commands = Commands(gpus if jobs > 1 else ())
        self._when_idle = when_idle
        self._here = here or jobs
        self._room = threading.Semaphore(self._here)
        self._door = threading.Lock()
        self._cluster = at_work is not None
        self._has_gpus = bool(gpus)
        self._at_work: AtWork = at_work or (lambda repo: nullcontext())
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
        """Reproduce `steps`, each after what it depends on.

        The caller holds the lock of the repository. Parameters and result are those of DVC's `_reproduce`: the stages that
        ran, in the order of `steps`.

        Raises:
            ReproductionError: stages failed; those that were at work beside them have ended.
            KeyboardInterrupt: a person or a scheduler ended the run; its commands have ended.
        """
        needs = read_needs(steps)
        jobs = {stage: 1 if self._cluster else min(self._count(each), self._jobs) for stage, each in needs.items()}
        shares_cores = not self._has_gpus and not self._cluster
        many = [stage for stage in steps if needs[stage].trainings > 1] if shares_cores else []
        plan = Plan(steps, graph, jobs, many, force=force, force_downstream=force_downstream, on_error=on_error)
        repo = steps[0].repo
        forget_broken_lock(repo.tmp_dir)

        def work(stage: Stage) -> Stage | None:
            with self._turn, repo.lock:
                if self._commands.interrupted:
                    return None
                return repro_fn(stage, upstream=plan.upstream(stage), force=plan.forced[stage], **options)

        def when_idle() -> None:
            with self._turn, repo.lock:
                self._when_idle()

        repo.lock.unlock()
        try:
            with (
                self._commands.ended_when_interrupted(),
                guarded(),
                self._at_work(repo) as workers,
                show(plan, self._jobs, lambda: self._commands.interrupted) as shown,
                self._in_place_of_dvc(plan, needs, shown, workers),
            ):
                self._go_through(plan, work, when_idle, shown)
        finally:
            repo.lock.lock()
        if self._commands.interrupted:
            raise KeyboardInterrupt
        if plan.failed and on_error != "ignore":
            _raise_error(next(iter(plan.failed.values())) if on_error == "fail" else None, *plan.failed)
        return [stage for stage in steps if stage in plan.ran]

    def _go_through(
        self, plan: Plan, work: Callable[[Stage], Stage | None], when_idle: Callable[[], None], shown: Show
    ) -> None:
        """Have threads work until nothing is left that can run."""
        with ThreadPoolExecutor(self._jobs) as threads:
            at_work: dict[Future[Stage | None], Stage] = {}
            while True:
                jobs = 0 if self._commands.interrupted else self._jobs
                at_work.update((threads.submit(work, stage), stage) for stage in plan.take(jobs))
                if not at_work:
                    break
                ended = wait(at_work, timeout=IDLE_SECONDS, return_when=FIRST_COMPLETED).done
                if not ended:
                    when_idle()
                for future in ended:
                    stage = at_work.pop(future)
                    try:
                        ran = future.result() is not None
                    except Exception as error:  # whatever DVC or a stage raises
                        shown.fail(stage.addressing)
                        plan.fail(stage, error)
                    else:
                        plan.done(stage, ran=ran)
                        if ran or not self._commands.interrupted:  # else it was not even looked at
                            shown.end(stage.addressing, ran=ran)

    @contextmanager
    def _in_place_of_dvc(
        self, plan: Plan, needs: Mapping[Stage, Needs], shown: Show, workers: "Workers | None"
    ) -> Iterator[None]:
        """Let DVC call ours for as long as stages run side by side."""
        named = {stage.addressing: stage for stage in needs}

        def run(executable: str | None, cmd: str, *, env: dict[str, str], **options: Any) -> None:
            stage = named[env[DVC_STAGE]]
            env = env | {AT_ONCE: str(max(1, plan.jobs(stage) // needs[stage].cores))}
            self._commands.run(shown, needs[stage].processes, executable, cmd, env=env, **options)

        def without_turn(run_here: Callable[..., None]) -> Callable[..., None]:
            @wraps(run_here)
            def wrapper(stage: Stage, *args: Any, **kwargs: Any) -> None:
                errand = None
                if workers:
                    errand = workers.errand(stage, plan.upstream(stage), needs[stage].cores, force=plan.forced[stage])
                with self._turn_given_away(stage.repo):
                    if workers and errand:
                        workers.run(errand, shown, lambda: self._commands.interrupted)
                    else:
                        with self._room_for(self._count(needs[stage])):
                            run_here(stage, *args, **kwargs)
                if errand:
                    errand.check_out()

            return wrapper

        usual = dvc.stage.run.unlocked_repo, dvc.stage.run._run
        dvc.stage.run.unlocked_repo, dvc.stage.run._run = without_turn, run
        try:
            yield
        finally:
            dvc.stage.run.unlocked_repo, dvc.stage.run._run = usual

    def _count(self, needs: Needs) -> int:
        """Return for how many jobs a stage counts: cores, or GPUs, of which each process has one."""
        return needs.processes if self._has_gpus else needs.cores

    @contextmanager
    def _room_for(self, jobs: int) -> Iterator[None]:
        """Wait until this machine has room for so many jobs, or is free of others."""
        count = min(jobs, self._here)
        with self._door:  # one after the other, or two would hold what both wait for
            for _ in range(count):
                self._room.acquire()
        try:
            yield
        finally:
            self._room.release(count)

    @contextmanager
    def _turn_given_away(self, repo: Repo) -> Iterator[None]:
        """Let others take their turn while a command runs, as DVC's `unlocked_repo` lets other processes."""
        repo.lock.unlock()
        repo._reset()
        self._turn.release()
        try:
            yield
        finally:
            self._turn.acquire()
            repo.lock.lock()
