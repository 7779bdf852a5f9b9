"""Run independent trainings in parallel, each in a separate process.

A small model gains little from a second thread, and its weights depend on the number of threads. Two models on two cores take
as long as one, and no result changes: benchmarks/at_once.py.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from labbook.errors import TrainingError

__all__ = ["AT_ONCE", "run_parallel"]

AT_ONCE = "LABBOOK_AT_ONCE"  # number of trainings that a stage may run in parallel; `labbook repro` sets it
PR_SET_PDEATHSIG = 1  # option of prctl(2): the signal that this process receives when its parent ends

Item = TypeVar("Item")
Result = TypeVar("Result")

_work: Callable[[Any], Any]  # inherited by forked processes, so that no dataset is sent to them


def run_parallel(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return the result of `work` for each item, in the order of the items.

    The environment variable `LABBOOK_AT_ONCE` is the number of processes; without it, and for a single item, this process does
    all the work. Processes are forked, so the caller must not have computed anything with torch before, because torch's threads
    do not survive a fork.

    Raises:
        LabbookError: `work` raised it, a process was killed, or the environment variable is not a positive integer.
    """
    global _work  # noqa: PLW0603 - the only way to pass data to a forked process without a copy
    count = min(len(items), _max_processes())
    if count < 2 or sys.platform != "linux":  # on other systems, libraries are not safe to fork
        return [work(item) for item in items]
    _work = work
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(count, context, _initialize_process) as pool, _killing_processes_on_error():
        futures = [pool.submit(_call, item) for item in items]
        wait(futures, return_when=FIRST_EXCEPTION)
        try:
            for future in futures:
                if future.done():
                    future.result()  # raises the first error before waiting for anything that still runs
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise TrainingError(
                "One of the trainings was killed, perhaps because memory ran out. Run the same command again."
            ) from error


def _max_processes() -> int:
    """Return the number of processes that may run in parallel."""
    value = os.environ.get(AT_ONCE, "1")
    if not value.isdecimal() or not int(value):
        raise TrainingError(f"{AT_ONCE}: invalid value {value!r}. Set it to a number of processes, such as 2, or unset it.")
    return int(value)


def _initialize_process() -> None:
    """Prepare a forked process: end it with its parent, and ignore Ctrl-C, which the parent handles."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _call(item: Any) -> Any:
    return _work(item)


@contextmanager
def _killing_processes_on_error() -> Iterator[None]:
    """Kill the remaining processes when one fails or when this process is interrupted."""
    try:
        yield
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise
