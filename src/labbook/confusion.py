"""Confusion counts: how often each actual class was predicted as each class."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.files import write_text

__all__ = ["confusion_counts", "write_confusion"]


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
