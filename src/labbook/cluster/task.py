"""One stage on a worker's machine: what submitit sends there, and calls there."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from signal import SIGKILL
from socket import gethostname
from typing import Any

import submitit

from labbook.cluster.snapshot import Snapshot
from labbook.errors import LabbookError
from labbook.repro.guard import guarded

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """A stage, and all that a machine has to know that runs it."""

    stage: str
    key: str  # of its run, in the run-cache
    snapshot: Snapshot
    inputs: Mapping[str, str]  # by path, the object that is to lie there
    remote: str
    configuration: Mapping[str, Any]  # of the remote
    folder: str
    cores: int

    def __call__(self) -> tuple[int, str]:
        """Run the stage in a clone of its own, and send what it made.

        Returns:
            The exit status, and the name of the entry in the run-cache, empty if it failed.
        """
        try:
            return self._run()
        except (LabbookError, OSError) as error:  # submitit would make a traceback of it
            print(f"error: {gethostname()} cannot run {self.stage}: {error}", flush=True)
            return 1, ""

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Let submitit put this back into the queue, when the time is up or others go first."""
        return submitit.helpers.DelayedSubmission(self)

    def _run(self) -> tuple[int, str]:
        place = Path(os.path.expandvars(self.folder)).expanduser()
        here = place / gethostname()
        with _free_clone(here) as (clone, lock):
            shutil.rmtree(clone / ".dvc/tmp", ignore_errors=True)  # locks of somebody who was killed
            self.snapshot.bring(clone)
            answer = clone / ".dvc/tmp/entry"
            # A training that was moved to another machine goes on there; one with other settings has checkpoints of its own.
            checkpoints = place / "checkpoints" / self.key
            _link(clone / ".checkpoints", checkpoints)
            request: dict[str, Any] = {"stage": self.stage, "inputs": dict(self.inputs), "cache": str(here / "cache")}
            request |= {"remote": self.remote, "configuration": dict(self.configuration), "answer": str(answer)}
            request |= {"cores": self.cores}
            status = _call([sys.executable, "-m", "labbook.cluster.worker"], json.dumps(request), clone, lock)
            if status:
                return status, ""
            shutil.rmtree(checkpoints, ignore_errors=True)
            return status, answer.read_text(encoding="utf-8")


@contextmanager
def _free_clone(here: Path) -> Iterator[tuple[Path, int]]:
    """Give the first clone of this machine with which nobody works, a new one if there is none, and its lock.

    A process that inherits the lock holds it too: who is killed may leave somebody behind that still works there.
    """
    here.mkdir(parents=True, exist_ok=True)
    for number in count():
        with (here / f"{number}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield here / str(number), file.fileno()
            return


def _link(link: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder.resolve())


def _call(command: list[str], request: str, clone: Path, lock: int) -> int:
    """Run with the code of the clone, to the end of it or of us; the request may hold secrets, which `ps` would show."""
    paths = os.pathsep.join(filter(None, (str(clone / "src"), os.environ.get("PYTHONPATH"))))
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # `python` is ours, as for make
    with guarded():
        environment = os.environ | {"PYTHONPATH": paths, "PATH": programs}
        process = subprocess.Popen(
            command, cwd=clone, env=environment, stdin=subprocess.PIPE, text=True, pass_fds=(lock,), process_group=0
        )
        try:
            process.communicate(request)
            return process.returncode
        finally:
            if process.poll() is None:
                os.killpg(process.pid, SIGKILL)  # its own guard ends what the stage started
                process.wait()
