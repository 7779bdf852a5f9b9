"""The commands of stages: what they print is handed on, each has GPUs of its own, and they end when the run is interrupted."""

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from dvc.env import DVC_STAGE
from dvc.stage.exceptions import StageCmdFailedError
from dvc.stage.run import _make_cmd

from labbook.repro.show import Show

__all__ = ["Commands"]


class Commands:
    """Those that run now."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self.interrupted = False
        self._processes: set[subprocess.Popen[str]] = set()
        self._gpus = Counter(dict.fromkeys(gpus, 0))  # and how many commands each of them has
        self._choice = threading.Lock()

    def run(
        self, shown: Show, processes: int, executable: str | None, cmd: str, *, env: dict[str, str], **options: Any
    ) -> None:
        """Run a command, which starts so many processes, to its end, in the place of DVC's `_run`.

        Raises:
            StageCmdFailedError: its exit status is not 0.
        """
        with self._gpus_of_its_own(processes) as gpus:
            process = subprocess.Popen(
                _make_cmd(executable, cmd),
                env=env | gpus | {"PYTHONUNBUFFERED": "1"},  # lines when they are said, not when a pipe is full
                stdin=subprocess.DEVNULL,  # a process group of its own may not read from the terminal
                stdout=subprocess.PIPE if shown.captures else None,
                stderr=subprocess.STDOUT if shown.captures else None,
                text=True,
                errors="replace",
                process_group=0,  # so that what a command starts can be ended with it
                **options,
            )
            self._processes.add(process)
            try:
                if self.interrupted:  # while this one was being started
                    _end(process, signal.SIGTERM)
                shown.begin(env[DVC_STAGE])
                listening = threading.Thread(target=_listen, args=(process, env[DVC_STAGE], shown), daemon=True)
                listening.start()
                process.wait()
                listening.join(timeout=1)  # not for ever: what the command left behind may hold the pipe
            finally:
                self._processes.discard(process)
        if process.returncode != 0:
            raise StageCmdFailedError(cmd, process.returncode)

    @contextmanager
    def ended_when_interrupted(self) -> Iterator[None]:
        """End the commands when a person or a scheduler ends us: gently, and at once the second time."""

        def end(*_: Any) -> None:
            number = signal.SIGKILL if self.interrupted else signal.SIGTERM
            self.interrupted = True
            for process in list(self._processes):
                _end(process, number)

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
        usual = {number: signal.signal(number, end) for number in heard}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    @contextmanager
    def _gpus_of_its_own(self, count: int) -> Iterator[dict[str, str]]:
        """Let a command see only so many GPUs, those that have the fewest; nothing to choose without several."""
        if len(self._gpus) < 2:
            yield {}
            return
        with self._choice:
            chosen = sorted(self._gpus, key=self._gpus.__getitem__)[:count]
            self._gpus.update(chosen)
        try:
            yield {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}
        finally:
            with self._choice:
                self._gpus.subtract(chosen)


def _listen(process: "subprocess.Popen[str]", name: str, shown: Show) -> None:
    """Hand on the lines of a command."""
    for line in process.stdout or ():
        shown.line(name, line.rstrip())


def _end(process: "subprocess.Popen[str]", number: int) -> None:
    """End a command and all that it started."""
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)
