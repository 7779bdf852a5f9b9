"""ProgressCallback the progress of a training: a bar on a terminal, otherwise a line every few seconds."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from labbook.training.history import Row

__all__ = ["ProgressCallback", "no_progress", "show_progress"]

SECONDS_BETWEEN_LINES = 5.0

ProgressCallback = Callable[[int, Row | None], None]  # number of the step, and its row of the history or `None`


def no_progress(step: int, row: Row | None) -> None:
    """ProgressCallback nothing."""


@contextlib.contextmanager
def show_progress(name: str, steps: int) -> Iterator[ProgressCallback]:
    """Yield the progress callback of a training of `steps` steps."""
    if sys.stderr.isatty():
        with _bar(name, steps) as show:
            yield show
    else:
        yield _lines(name, steps)


@contextlib.contextmanager
def _bar(name: str, steps: int) -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[metrics]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=steps, metrics="")

        def show(step: int, row: Row | None) -> None:
            progress.update(task, completed=step)
            if row:
                progress.update(task, metrics=_metrics(row))

        yield show


def _lines(name: str, steps: int) -> ProgressCallback:
    last_printed = time.monotonic()

    def show(step: int, row: Row | None) -> None:
        nonlocal last_printed
        now = time.monotonic()
        if row and (now - last_printed > SECONDS_BETWEEN_LINES or step == steps):
            last_printed = now
            print(f"{name}: step {step} of {steps}, {_metrics(row)}", flush=True)

    return show


def _metrics(row: Row) -> str:
    parts = [f"epoch {row.epoch}", f"train {row.train_accuracy:.4f}"]
    if row.val_accuracy is not None:
        parts.append(f"val {row.val_accuracy:.4f}")
    return ", ".join(parts)
