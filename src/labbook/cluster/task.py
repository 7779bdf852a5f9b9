"""The job that submitit sends to a worker: run one stage."""

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
    """A stage, and everything that a worker needs to run it."""

    stage: str
    key: str  # of the run cache: hash of command, dependencies and settings
    snapshot: Snapshot
    inputs: Mapping[str, str]  # hash of each input object, by path
    remote: str
    configuration: Mapping[str, Any]  # of the remote
    folder: str
    cores: int

    def __call__(self) -> tuple[int, str]:
        """Run the stage in a separate clone, and push its outputs.

        Returns:
            The exit status and the name of the run-cache entry, which is empty after a failure.
        """
        try:
            return self._run()
        except (LabbookError, OSError) as error:  # submitit would print a traceback
            print(f"error: {gethostname()} cannot run {self.stage}: {error}", flush=True)
            return 1, ""

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return the job to requeue; submitit calls this on timeout or preemption."""
        return submitit.helpers.DelayedSubmission(self)

    def _run(self) -> tuple[int, str]:
        place = Path(os.path.expandvars(self.folder)).expanduser()
        here = place / gethostname()
        with _free_clone(here) as (clone, lock):
            shutil.rmtree(clone / ".dvc/tmp", ignore_errors=True)  # locks of a killed process
            self.snapshot.check_out(clone)
            answer = clone / ".dvc/tmp/entry"
            # Checkpoints are stored by key: a requeued training resumes, and other settings never see its checkpoints.
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
    """Yield the first unused clone of this machine, or a new one, and the file descriptor of its lock.

    Child processes inherit the lock, so a clone stays locked while a child of a killed job still runs in it.
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
    """Run a command with the code of the clone; kill it if this process ends first.

    The request goes through standard input, because it may contain secrets and `ps` shows arguments.
    """
    paths = os.pathsep.join(filter(None, (str(clone / "src"), os.environ.get("PYTHONPATH"))))
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # the same `python` as ours
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
                os.killpg(process.pid, SIGKILL)  # the guard of the worker kills the processes that the stage started
                process.wait()
