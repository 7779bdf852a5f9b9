"""Run stages side by side: DVC's own work is one thread's at a time, the commands of stages run as many as there are jobs."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import dvc.stage.run
from dvc.env import DVC_STAGE
from dvc.repo.reproduce import _raise_error, _reproduce_stage
from dvc.stage import PipelineStage
from dvc.stage.exceptions import StageCmdFailedError
from networkx import DiGraph

from labbook.repro.plan import Plan

__all__ = ["SideBySide"]


class SideBySide:
    """Several stages of one repository at work.

    DVC locks the repository while it looks at files and unlocks it while a stage's command runs. The same holds here: the
    thread whose turn it is holds that lock, and gives its turn away for as long as its command runs.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._turn = threading.Lock()
        self._commands: set[subprocess.Popen[str]] = set()
        self._interrupted = False

    def reproduce(
        self,
        steps: list[PipelineStage],
        graph: DiGraph,
        *,
        force: bool = False,
        force_downstream: bool = False,
        on_error: str = "fail",
        **options: Any,
    ) -> list[PipelineStage]:
        """Reproduce `steps`, each after what it depends on.

        The caller holds the lock of the repository. Parameters and result are those of DVC's `_reproduce`: the stages that
        ran, in the order of `steps`.

        Raises:
            ReproductionError: stages failed; those that were at work beside them have ended.
        """
        plan = Plan(steps, graph, force=force, force_downstream=force_downstream, on_error=on_error)
        repo = steps[0].repo

        def work(stage: PipelineStage) -> PipelineStage | None:
            with self._turn, repo.lock:
                upstream = list(graph.successors(stage))
                ran: PipelineStage | None = _reproduce_stage(stage, upstream=upstream, force=plan.forced[stage], **options)
                return ran

        repo.lock.unlock()
        try:
            with self._in_place_of_dvc(), ThreadPoolExecutor(self._jobs) as threads, self._ended_when_interrupted():
                at_work: dict[Future[PipelineStage | None], PipelineStage] = {}
                while True:
                    at_work.update((threads.submit(work, stage), stage) for stage in plan.take(self._jobs - len(at_work)))
                    if not at_work:
                        break
                    for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                        stage = at_work.pop(future)
                        try:
                            plan.done(stage, ran=future.result() is not None)
                        except Exception as error:  # whatever DVC or a stage raises; told below
                            plan.fail(stage, error)
        finally:
            repo.lock.lock()
        if plan.failed and on_error != "ignore":
            _raise_error(next(iter(plan.failed.values())) if on_error == "fail" else None, *plan.failed)
        return [stage for stage in steps if stage in plan.ran]

    @contextmanager
    def _in_place_of_dvc(self) -> Iterator[None]:
        """Let DVC call ours for as long as stages run side by side."""
        usual = dvc.stage.run.unlocked_repo, dvc.stage.run._run
        dvc.stage.run.unlocked_repo, dvc.stage.run._run = self._without_turn, self._run_command
        try:
            yield
        finally:
            dvc.stage.run.unlocked_repo, dvc.stage.run._run = usual

    def _without_turn(self, run: Callable[..., None]) -> Callable[..., None]:
        """Wrap what runs a stage's command, in the place of DVC's `unlocked_repo`: others take their turn meanwhile."""

        @wraps(run)
        def wrapper(stage: PipelineStage, *args: Any, **kwargs: Any) -> None:
            stage.repo.lock.unlock()
            stage.repo._reset()
            self._turn.release()
            try:
                run(stage, *args, **kwargs)
            finally:
                self._turn.acquire()
                stage.repo.lock.lock()

        return wrapper

    def _run_command(self, executable: str | None, cmd: str, *, env: dict[str, str], **options: Any) -> None:
        """Run a command, in the place of DVC's `_run`, and print its lines, each behind the stage's name.

        Raises:
            StageCmdFailedError: its exit status is not 0.
        """
        with subprocess.Popen(
            dvc.stage.run._make_cmd(executable, cmd),
            env=env | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # so that what a command starts can be ended with it
            **options,
        ) as process:
            self._commands.add(process)
            if self._interrupted:  # while this one was being started
                _end(process)
            assert process.stdout
            for line in process.stdout:
                print(f"[{env[DVC_STAGE]}] {line}", end="", flush=True)
        self._commands.discard(process)
        if process.returncode != 0:
            raise StageCmdFailedError(cmd, process.returncode)

    @contextmanager
    def _ended_when_interrupted(self) -> Iterator[None]:
        """End the commands when a person or a scheduler ends us, rather than leave them behind."""
        usual = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield
        except KeyboardInterrupt:
            self._interrupted = True
            for process in list(self._commands):
                _end(process)
            raise
        finally:
            signal.signal(signal.SIGTERM, usual)


def _end(process: "subprocess.Popen[str]") -> None:
    """End a command and all that it started."""
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, signal.SIGTERM)
