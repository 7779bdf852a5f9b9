"""Show the progress of a training: a bar on a terminal, otherwise a line every few seconds."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from labbook.training.history import Row

__all__ = ["Show", "ignore", "show_progress"]

SECONDS_BETWEEN_LINES = 5.0

Show = Callable[[int, Row | None], None]  # steps done, and the latest row when there is a new one


def ignore(done: int, row: Row | None) -> None:
    """Show nothing."""


@contextlib.contextmanager
def show_progress(name: str, steps: int) -> Iterator[Show]:
    """Yield the progress callback of a training of `steps` steps."""
    if sys.stderr.isatty():
        with _bar(name, steps) as show:
            yield show
    else:
        yield _lines(name, steps)


@contextlib.contextmanager
def _bar(name: str, steps: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[metrics]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=steps, metrics="")

        def show(done: int, row: Row | None) -> None:
            progress.update(task, completed=done)
            if row:
                progress.update(task, metrics=_metrics(row))

        yield show


def _lines(name: str, steps: int) -> Show:
    printed = time.monotonic()

    def show(done: int, row: Row | None) -> None:
        nonlocal printed
        now = time.monotonic()
        if row and (now - printed > SECONDS_BETWEEN_LINES or done == steps):
            printed = now
            print(f"{name}: step {done} of {steps}, {_metrics(row)}", flush=True)

    return show


def _metrics(row: Row) -> str:
    parts = [f"epoch {row.epoch}", f"train {row.train_accuracy:.4f}"]
    if row.val_accuracy is not None:
        parts.append(f"val {row.val_accuracy:.4f}")
    return ", ".join(parts)
