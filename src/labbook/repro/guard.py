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
def guarded() -> Iterator[dict[str, str]]:
    """Let commands end if we are killed; they are known by the environment variable that is given."""
    mark = {NAME: str(os.getpid())}
    process = subprocess.Popen(
        [sys.executable, "-m", "labbook.repro.guard", *("=".join(item) for item in mark.items())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # whoever ends all of our group does not end it
        env={name: value for name, value in os.environ.items() if name != NAME},  # another run's guard does not end it
    )
    try:
        yield mark
    finally:
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
