"""Commands of Python, run in forks of one process that has imported what takes each of them a second or two: DVC and torch."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory

PRELOADED = ["labbook.training.experiment", "torch._dynamo", "labbook.repro.side_by_side", "dvc.cli", "dvc.commands.repro"]
STREAMS = {1: "stdout", 2: "stderr"}


def forks() -> ForkServerContext:
    """Give what starts processes as forks of the one that has imported so much."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Fork:
    """A command at work: `python FILE.py ...`, or `python -m MODULE ...`."""

    def __init__(
        self, target: str, *arguments: str, folder: Path | None = None, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._said = TemporaryDirectory()
        self._process = forks().Process(
            target=_run, args=(target, arguments, folder or Path.cwd(), dict(environment), self._said.name)
        )
        self._process.start()

    def is_at_work(self) -> bool:
        return self._process.is_alive()

    def send_signal(self, number: int) -> None:
        if self._process.pid and self.is_at_work():
            os.kill(self._process.pid, number)

    def end(self, seconds: float = 100) -> subprocess.CompletedProcess[str]:
        """Wait until it has ended, and give how it did and what it printed."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, "it goes on"
        said = {name: (Path(self._said.name) / name).read_text(encoding="utf-8") for name in STREAMS.values()}
        self._said.cleanup()
        return subprocess.CompletedProcess([], self._process.exitcode, **said)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self._process.join()
        self._said.cleanup()


def _run(target: str, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], said: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    for number, name in STREAMS.items():
        os.dup2(os.open(f"{said}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = [target, *arguments]
    if target.endswith(".py"):
        sys.path.insert(0, str(Path(target).resolve().parent))  # as `python FILE.py` does: stages import `_here` from there
        runpy.run_path(target, run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
