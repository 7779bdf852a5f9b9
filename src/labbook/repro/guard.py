"""Ends the commands of a run that was killed, as a process that is killed can no longer do that itself.

    python -m labbook.repro.guard LABBOOK_RUN=1234    # reads a word when the run ends, nothing when it was killed

A process of its own, as Linux's PR_SET_PDEATHSIG needs code between fork and exec and ends no grandchildren.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

__all__ = ["guarded"]

NAME = "LABBOOK_RUN"


@contextmanager
def guarded() -> Iterator[None]:
    """Let what is started meanwhile end if we are killed; it is known by a variable of its environment."""
    outer = os.environ.pop(NAME, None)  # another run's guard does not end ours
    process = subprocess.Popen(
        [sys.executable, "-m", "labbook.repro.guard", f"{NAME}={os.getpid()}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # whoever ends all of our group does not end it
    )
    os.environ[NAME] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[NAME]
        if outer is not None:
            os.environ[NAME] = outer
        process.communicate(b"ended")


def _end_all(name: str, value: str) -> None:
    """Kill the processes that have this in their environment, and what they start meanwhile."""
    for _ in range(100):
        found = False
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(name) == value:
                    process.kill()
                    found = True
        if not found:
            return
        time.sleep(0.02)


if __name__ == "__main__" and not sys.stdin.read():
    _end_all(*sys.argv[1].split("="))
