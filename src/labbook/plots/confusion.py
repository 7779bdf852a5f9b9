"""Draw confusion matrices. Draw and write them within `labbook.plots.style`."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["draw_confusion"]

MAX_LABELLED = 20  # maximum number of classes with legible names and counts
DIGITS = 4  # maximum number of digits in a cell; larger counts, such as those of pixels, are shown as percentages
CELL, SIDE, MIN_SIDE = 0.26, 5.2, 1.3  # inches: a cell with a count, the matrix without counts, the smallest matrix
LETTER, MARGIN, BAR = 0.055, 0.3, 0.5  # inches: a letter of a name, the space beside it, the colour bar


def draw_confusion(counts: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Draw a confusion matrix with one row per actual class, shaded by the share of the row.

    Args:
        counts: (classes, classes), one row per actual class.
        classes: names.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    legible = len(classes) <= MAX_LABELLED
    side = max(CELL * len(classes), MIN_SIDE) if legible else SIDE
    label_margin = MARGIN + (LETTER * max(map(len, classes)) if legible else 0)
    width, height = label_margin + side + (0.05 if legible else BAR), label_margin + side + 0.05
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((label_margin / width, label_margin / height, side / width, side / height))
    if legible:
        # Polygons instead of an image: some PDF viewers smooth the pixels of images.
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
        axes.invert_yaxis()
        positions = np.arange(len(classes)) + 0.5
        axes.set_xticks(positions, classes, rotation=90 if label_margin > 2 * MARGIN else 0)
        axes.set_yticks(positions, classes)
        for row, column in zip(*counts.nonzero(), strict=True):
            text = str(counts[row, column]) if counts.max() < 10**DIGITS else f"{shares[row, column]:.0%}"
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column + 0.5, row + 0.5, text, color=colour, size="x-small", ha="center", va="center_baseline")
    else:
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        colour_bar = figure.add_axes(((label_margin + side + 0.1) / width, label_margin / height, 0.1 / width, side / height))
        figure.colorbar(image, colour_bar)
    axes.set(xlabel="predicted", ylabel="actual")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
