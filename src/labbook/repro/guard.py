"""Kill the commands of a run that was killed itself.

    python -m labbook.repro.guard LABBOOK_RUN=1234    # reads a word if the run ends normally, end of file if it was killed

This is a separate process, because Linux's PR_SET_PDEATHSIG needs code between fork and exec and does not reach grandchildren.
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
    """Kill the processes started in this context if this process is killed; they are found by an environment variable."""
    outer = os.environ.pop(NAME, None)  # do not inherit the guard of an outer run
    process = subprocess.Popen(
        [sys.executable, "-m", "labbook.repro.guard", f"{NAME}={os.getpid()}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # signals to our process group do not reach it
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
    """Kill the processes with this environment variable, including those that they start in the meantime."""
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
