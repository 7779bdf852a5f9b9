"""Draw test samples: mistakes of a classifier, segmented scenes, or decision regions of a classifier of 2D points."""

import textwrap
from functools import singledispatch
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from labbook.evaluation import Evaluation
from labbook.evaluation.tasks.classification import MISTAKES
from labbook.evaluation.tasks.segmentation import SegmentationEvaluation
from labbook.evaluation.tasks.toy2d import SIDE as PLANE
from labbook.evaluation.tasks.toy2d import Toy2dEvaluation, boundary

__all__ = ["draw_samples"]

COLUMNS, CELL, SIDE = 5, (216, 244), 192  # grid of mistakes: columns, cell size and largest sample, in pixels of the PNG
COLOURS = ("C0", "C1")  # of the two classes of points
LEVELS = 12  # levels of probability; few, to keep files small
TINT = 0.55  # strength of the most intense colours


@singledispatch
def draw_samples(evaluation: Evaluation, images: NDArray[np.uint8], classes: tuple[str, ...]) -> Figure:
    """Draw the most confident mistakes of a classifier, the first segmented scenes, or the decision regions of points.

    Args:
        evaluation: evaluation of the test set.
        images: test images (N, C, H, W).
        classes: class names.
    """
    # The axes are in units of PNG pixels, so that each pixel of a sample covers a whole number of them.
    mistakes = evaluation.mistakes
    width, height = COLUMNS * CELL[0], MISTAKES // COLUMNS * CELL[1]
    dpi = mpl.rcParams["savefig.dpi"]
    figure = Figure(figsize=(width / dpi, height / dpi))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    if not mistakes:
        axes.text(width / 2, height / 2, "no mistakes", ha="center")
    for position, mistake in enumerate(mistakes):
        centre, bottom = (position % COLUMNS + 0.5) * CELL[0], (position // COLUMNS + 1) * CELL[1] - 8
        image = images[mistake["index"]].transpose(1, 2, 0)
        scale = SIDE // max(image.shape) or SIDE / max(image.shape)
        tall, wide = scale * image.shape[0], scale * image.shape[1]
        extent = (centre - wide / 2, centre + wide / 2, bottom, bottom - tall)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent)
        caption = textwrap.fill(f"{mistake['actual']} taken for {mistake['predicted']}", 24)
        axes.text(centre, bottom - tall - 6, caption, size="small", ha="center", va="bottom")
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


@draw_samples.register
def _draw_scenes(evaluation: SegmentationEvaluation, images: NDArray[np.uint8], classes: tuple[str, ...]) -> Figure:
    count = len(evaluation.truth)
    colours = mpl.colormaps["tab20"].resampled(len(classes))
    figure = Figure(figsize=(7.2, 3.1))
    axes = figure.subplots(3, count, squeeze=False)
    figure.subplots_adjust(left=0.03, right=0.995, top=0.99, bottom=0.16, wspace=0.08, hspace=0.06)
    rows: dict[str, NDArray[Any]] = {
        "image": images[:count].transpose(0, 2, 3, 1),
        "truth": evaluation.truth,
        "prediction": evaluation.predicted,
    }
    for row, (title, pictures) in enumerate(rows.items()):
        for ax, picture in zip(axes[row], pictures, strict=True):
            ax.imshow(picture, cmap=colours, vmin=-0.5, vmax=len(classes) - 0.5)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(True)
        axes[row, 0].set_ylabel(title)
    patches = [Patch(color=colours(index), label=name) for index, name in enumerate(classes)]
    figure.legend(handles=patches, loc="lower center", ncols=10)
    return figure


@draw_samples.register
def _draw_plane(evaluation: Toy2dEvaluation, images: NDArray[np.uint8], classes: tuple[str, ...]) -> Figure:
    figure = Figure(figsize=(3.5, 3.75))
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.9))
    first, second = (TINT * np.array(to_rgb(colour)) + 1 - TINT for colour in COLOURS)
    shades = LinearSegmentedColormap.from_list("classes", [first, np.ones(3), second], LEVELS)
    axes.imshow(evaluation.probability_map, cmap=shades, vmin=0, vmax=1, origin="lower")
    for piece in boundary(evaluation.probability_map - 0.5):
        axes.plot(*piece.T, color="black")
    for index, (name, colour) in enumerate(zip(classes, COLOURS, strict=True)):
        x, y = images[evaluation.labels == index, :, 0, 0].T
        axes.plot(x, y, "o^"[index], color=colour, markersize=2.5, markeredgewidth=0, label=name)
    axes.set(xlim=(0, PLANE - 1), ylim=(0, PLANE - 1), xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    figure.legend(loc="upper center", ncols=2, markerscale=2.5)
    return figure
