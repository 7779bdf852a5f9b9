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
from dvc.stage import Stage
from dvc.stage.exceptions import StageCmdFailedError
from networkx import DiGraph

from labbook.repro.plan import Plan
from labbook.repro.readers import forget_empty_lock

__all__ = ["SideBySide"]

IDLE_SECONDS = 30


class SideBySide:
    """Several stages of one repository at work.

    DVC locks the repository while it looks at files and unlocks it while a stage's command runs. The same holds here: the
    thread whose turn it is holds that lock, and gives its turn away for as long as its command runs.
    """

    def __init__(self, jobs: int, when_idle: Callable[[], None]) -> None:
        self._jobs = jobs
        self._when_idle = when_idle  # called with the lock held, when no stage has ended for a while
        self._turn = threading.Lock()
        self._commands: set[subprocess.Popen[str]] = set()
        self._interrupted = False

    def reproduce(
        self,
        steps: list[Stage],
        graph: DiGraph,
        *,
        force: bool = False,
        force_downstream: bool = False,
        on_error: str = "fail",
        **options: Any,
    ) -> list[Stage]:
        """Reproduce `steps`, each after what it depends on.

        The caller holds the lock of the repository. Parameters and result are those of DVC's `_reproduce`: the stages that
        ran, in the order of `steps`.

        Raises:
            ReproductionError: stages failed; those that were at work beside them have ended.
            KeyboardInterrupt: a person or a scheduler ended the run; its commands have ended.
        """
        plan = Plan(steps, graph, force=force, force_downstream=force_downstream, on_error=on_error)
        repo = steps[0].repo
        forget_empty_lock(repo.tmp_dir)

        def work(stage: Stage) -> Stage | None:
            with self._turn, repo.lock:
                if self._interrupted:
                    return None
                upstream = list(graph.successors(stage))
                ran: Stage | None = _reproduce_stage(stage, upstream=upstream, force=plan.forced[stage], **options)
                return ran

        repo.lock.unlock()
        try:
            with self._in_place_of_dvc(), self._ended_when_interrupted(), ThreadPoolExecutor(self._jobs) as threads:
                at_work: dict[Future[Stage | None], Stage] = {}
                while True:
                    free = 0 if self._interrupted else self._jobs - len(at_work)
                    at_work.update((threads.submit(work, stage), stage) for stage in plan.take(free))
                    if not at_work:
                        break
                    ended = wait(at_work, timeout=IDLE_SECONDS, return_when=FIRST_COMPLETED).done
                    if not ended:
                        with self._turn, repo.lock:
                            self._when_idle()
                    for future in ended:
                        stage = at_work.pop(future)
                        try:
                            plan.done(stage, ran=future.result() is not None)
                        except Exception as error:  # whatever DVC or a stage raises
                            plan.fail(stage, error)
        finally:
            repo.lock.lock()
        if self._interrupted:
            raise KeyboardInterrupt
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
        def wrapper(stage: Stage, *args: Any, **kwargs: Any) -> None:
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
        """Run a command, in the place of DVC's `_run`; where others run beside it, its lines stand behind the stage's name.

        Raises:
            StageCmdFailedError: its exit status is not 0.
        """
        alone = self._jobs == 1  # then it may draw a progress bar
        process = subprocess.Popen(
            dvc.stage.run._make_cmd(executable, cmd),
            env=env | {"PYTHONUNBUFFERED": "1"},  # lines when they are said, not when a pipe is full
            stdin=subprocess.DEVNULL,  # a process group of its own may not read from the terminal
            stdout=None if alone else subprocess.PIPE,
            stderr=None if alone else subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # so that what a command starts can be ended with it
            **options,
        )
        self._commands.add(process)
        try:
            if self._interrupted:  # while this one was being started
                _end(process, signal.SIGTERM)
            shown = threading.Thread(target=_show, args=(process, env[DVC_STAGE]), daemon=True)
            shown.start()
            process.wait()
            shown.join(timeout=1)  # not for ever: what the command left behind may hold the pipe
        finally:
            self._commands.discard(process)
        if process.returncode != 0:
            raise StageCmdFailedError(cmd, process.returncode)

    @contextmanager
    def _ended_when_interrupted(self) -> Iterator[None]:
        """End the commands when a person or a scheduler ends us: gently, and at once the second time."""

        def end(*_: Any) -> None:
            number = signal.SIGKILL if self._interrupted else signal.SIGTERM
            self._interrupted = True
            for process in list(self._commands):
                _end(process, number)

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
        usual = {number: signal.signal(number, end) for number in heard}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)


def _show(process: "subprocess.Popen[str]", name: str) -> None:
    """Print the lines of a command, each behind the name of its stage."""
    for line in process.stdout or ():
        print(f"[{name}] {line.rstrip()}", flush=True)


def _end(process: "subprocess.Popen[str]", number: int) -> None:
    """End a command and all that it started."""
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)
