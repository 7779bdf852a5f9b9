"""One file a kind of task: `evaluate` measures predictions on the test set, `write` puts metrics, plot data and pictures."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labbook.confusion import write_confusion
from labbook.files import replace

__all__ = ["write_files"]


def write_files(name: str, counts: NDArray[np.int64], classes: tuple[str, ...], picture: Figure) -> dict[str, str]:
    """Write what every task leaves for the report, and say where.

    Args:
        name: of the experiment.
        counts: (classes, classes), a row for each actual class.
        classes: names.
        picture: of test samples.

    Raises:
        LabbookError: the disk is full or a folder cannot be written.
    """
    confusion, samples = Path(f"plots/confusion/{name}.csv"), Path(f"plots/samples/{name}.png")
    write_confusion(confusion, counts, classes)
    # No name and version of the software in the file: the same pixels give the same bytes.
    replace(samples, lambda part: picture.savefig(part, format="png", dpi=100, metadata={"Software": None}))
    return {"confusion": str(confusion), "samples": str(samples)}
