"""Run the commands of stages: forward their output, assign GPUs, and stop them when the run is interrupted."""

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

from labbook.repro.display import Display

__all__ = ["Commands"]


class Commands:
    """The commands that are running."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self.interrupted = False
        self._processes: set[subprocess.Popen[str]] = set()
        self._gpus = Counter(dict.fromkeys(gpus, 0))  # number of commands per GPU
        self._choice = threading.Lock()

    def run(
        self, display: Display, processes: int, executable: str | None, cmd: str, *, env: dict[str, str], **options: Any
    ) -> None:
        """Run a command that starts `processes` processes, and wait for it; replaces DVC's `_run`.

        Raises:
            StageCmdFailedError: it failed.
        """
        with self._assign_gpus(processes) as gpus:
            process = subprocess.Popen(
                _make_cmd(executable, cmd),
                env=env | gpus | {"PYTHONUNBUFFERED": "1"},  # forward lines immediately
                stdin=subprocess.DEVNULL,  # a background process group cannot read from the terminal
                stdout=subprocess.PIPE if display.captures else None,
                stderr=subprocess.STDOUT if display.captures else None,
                text=True,
                errors="replace",
                process_group=0,  # so that its child processes can be killed with it
                **options,
            )
            self._processes.add(process)
            try:
                if self.interrupted:  # while the process was starting
                    _end(process, signal.SIGTERM)
                display.begin(env[DVC_STAGE])
                listening = threading.Thread(target=_forward_output, args=(process, env[DVC_STAGE], display), daemon=True)
                listening.start()
                process.wait()
                listening.join(timeout=1)  # a process that the command left behind may keep the pipe open
            finally:
                self._processes.discard(process)
        if process.returncode != 0:
            raise StageCmdFailedError(cmd, process.returncode)

    @contextmanager
    def ended_when_interrupted(self) -> Iterator[None]:
        """Stop the commands on SIGINT, SIGTERM or SIGHUP: with SIGTERM at first, with SIGKILL the second time."""

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
    def _assign_gpus(self, count: int) -> Iterator[dict[str, str]]:
        """Yield the environment that assigns a command the `count` least used GPUs; empty for fewer than two GPUs."""
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


def _forward_output(process: "subprocess.Popen[str]", name: str, display: Display) -> None:
    """Forward the lines that a command prints."""
    for line in process.stdout or ():
        display.line(name, line.rstrip())


def _end(process: "subprocess.Popen[str]", number: int) -> None:
    """Send a signal to a command and its child processes."""
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)
