"""What the kinds of task share: confusion counts, and the files that each leaves for the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.core.files import replace, write_text

__all__ = ["confusion_counts", "write_confusion", "write_files"]


def confusion_counts(labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int) -> NDArray[np.int64]:
    """Count by actual class (row) and predicted class (column).

    Args:
        labels: actual classes, of any shape.
        predicted: of the same shape.
        classes: how many there are.
    """
    pairs = labels.astype(np.int64).ravel() * classes + predicted.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def write_confusion(path: Path, counts: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """Write the counts as a table with the columns actual, predicted, count."""
    rows = [f"{actual},{predicted},{counts[i, j]}" for i, actual in enumerate(classes) for j, predicted in enumerate(classes)]
    write_text(path, "\n".join(["actual,predicted,count", *rows]) + "\n")


def write_files(
    name: str, counts: NDArray[np.int64], classes: tuple[str, ...], draw: Callable[[Path], object]
) -> dict[str, str]:
    """Write what every task leaves for the report, and say where.

    Args:
        name: of the experiment.
        counts: (classes, classes), a row for each actual class.
        classes: names.
        draw: writes the picture of test samples, a PNG, without name and version of the software: the same bytes always.

    Raises:
        LabbookError: the disk is full or a folder cannot be written.
    """
    confusion, samples = Path(f"plots/confusion/{name}.csv"), Path(f"plots/samples/{name}.png")
    write_confusion(confusion, counts, classes)
    replace(samples, draw)
    return {"confusion": str(confusion), "samples": str(samples)}
