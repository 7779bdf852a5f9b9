"""Several trainings that need nothing of each other, each in a process of its own where there are cores for it.

A small model gains little from a second thread, and the bytes of its weights depend on how many it has; a second model on the
second core gains all of it and changes nothing: benchmarks/at_once.py.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from labbook.core.errors import TrainingError

__all__ = ["AT_ONCE", "run_at_once"]

AT_ONCE = "LABBOOK_AT_ONCE"  # how many trainings of a stage may run at a time; `labbook repro` sets it

Item = TypeVar("Item")
Result = TypeVar("Result")

_work: Callable[[Any], Any]  # what forked processes inherit: a dataset need not be sent to them


def run_at_once(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Give what `work` makes of each item.

    As many processes work at a time as the environment variable `LABBOOK_AT_ONCE` says, one if it says nothing. The caller
    has computed nothing by torch yet: its threads do not survive a fork.

    Raises:
        LabbookError: that of `work`, or one of the processes was killed.
    """
    global _work  # noqa: PLW0603 - the one way into a forked process that copies nothing
    count = min(len(items), int(os.environ.get(AT_ONCE, "1")))
    if count < 2 or sys.platform != "linux":  # elsewhere libraries do not survive a fork
        return [work(item) for item in items]
    _work = work
    with ProcessPoolExecutor(count, multiprocessing.get_context("fork")) as pool, _ended_with_us():
        try:
            return list(pool.map(_call, items))
        except BrokenProcessPool as error:
            raise TrainingError("One of the trainings was killed, perhaps for want of memory. Run the same again.") from error


def _call(item: Any) -> Any:
    return _work(item)


@contextmanager
def _ended_with_us() -> Iterator[None]:
    """Kill what still works when one has failed, or we are interrupted."""
    try:
        yield
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise
