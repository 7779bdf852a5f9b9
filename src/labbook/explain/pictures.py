"""Pictures of filters, activations and attributions.

What is compared lies on one axes and has one colour scale. (An axes for each image would also take most of the stage's time.)
Draw and write within `labbook.figures.style`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from labbook.figures import PAGE

__all__ = ["Panel", "draw_activations", "draw_attributions", "draw_filters"]

Floats = NDArray[np.float32]

# A title; pictures, maps or units by channel; and the numbers of the channels.
Panel = tuple[str, Floats, Sequence[int]]

DIVERGING, RISING = "RdBu_r", "magma"  # of what has two signs, with white for 0; of what has one
EXTREME = 99  # percentile where a colour scale ends: a few pixels would otherwise leave all others pale
ACROSS = 16  # filters in a row
FILLED = 0.94  # of the place that a tile has in its row


def draw_filters(title: str, pictures: Floats) -> Figure:
    """Draw all filters, (N, 1 or 3, h, w), on one scale."""
    across = min(len(pictures), ACROSS)
    down = math.ceil(len(pictures) / across)
    figure = Figure(figsize=(PAGE, 0.4 + 0.4 * down * ACROSS / across))
    axes, bar = figure.subplots(1, 2, width_ratios=(60, 1))
    _show(axes, bar, pictures, across, signed=True)
    figure.suptitle(title, y=1 - 0.08 / figure.get_figheight())
    figure.subplots_adjust(left=0.02, right=0.93, top=1 - 0.3 / figure.get_figheight(), bottom=0.02, wspace=0.02)
    return figure


def draw_activations(caption: str, image: NDArray[np.uint8], panels: Sequence[Panel]) -> Figure:
    """Draw an image, (C, H, W), beside panels: each filter above what it makes of the image, then what the last layer does.

    Args:
        caption: below the image.
        image: bytes.
        panels: pictures (N, 1 or 3, h, w), maps (N, h, w) or units (N,).
    """
    figure = Figure(figsize=(PAGE, 1.2 * len(panels) + 0.3))
    grid = figure.add_gridspec(len(panels), 3, width_ratios=(12, 60, 1), hspace=0.6, wspace=0.14)
    axes = figure.add_subplot(grid[: min(2, len(panels)), 0])
    axes.imshow(_natural(image[None])[0], cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[], xlabel=caption)
    for row, (title, values, channels) in enumerate(panels):
        axes = figure.add_subplot(grid[row, 1])
        axes.set_title(title)
        if values.ndim == 1:
            _bars(axes, values, channels)
        else:
            pictures = values[:, None] if values.ndim == 3 else values
            _show(axes, figure.add_subplot(grid[row, 2]), pictures, len(values), signed=bool(values.min() < 0))
            axes.set_xticks(np.arange(len(values)) + FILLED / 2, [str(channel) for channel in channels])
    figure.subplots_adjust(left=0.02, right=0.93, top=1 - 0.3 / figure.get_figheight(), bottom=0.3 / figure.get_figheight())
    return figure


def draw_attributions(
    pixels: NDArray[np.uint8], captions: Sequence[str], maps: Mapping[str, Floats], signed: frozenset[str]
) -> Figure:
    """Draw a row for each image, (N, C, H, W), and a column for each method's map, (N, H, W).

    Args:
        pixels: bytes.
        captions: one an image.
        maps: relevance by method.
        signed: methods whose relevance has two signs.
    """
    side = min((PAGE - 0.95) / (1 + len(maps)), 1.2)  # inches of an image; few would otherwise be large
    width, height = 0.95 + side * (1 + len(maps)), 0.95 * side * len(pixels) + 0.7
    figure = Figure(figsize=(width, height))
    axes, bars = figure.subplots(2, 1 + len(maps), height_ratios=(height - 0.7, 0.08))
    _tile(axes[0], _natural(pixels), 1, "gray", (0, 255))
    axes[0].set_title("image")
    lines = [caption.replace(" taken", "\ntaken").replace(", ", ",\n") for caption in captions]
    axes[0].set_yticks(np.arange(len(pixels)) + FILLED / 2, lines)
    axes[0].tick_params(length=0)
    bars[0].axis("off")
    for column, (method, relevance) in enumerate(maps.items(), start=1):
        _show(axes[column], bars[column], relevance[:, None], 1, signed=method in signed, orientation="horizontal")
        axes[column].set_title(method.replace("_", "\n"))
    left, top, bottom = 0.9 / width, 1 - 0.4 / height, 0.22 / height
    figure.subplots_adjust(left=left, right=0.99, top=top, bottom=bottom, hspace=0.04, wspace=0.06)
    return figure


def _show(
    axes: Axes,
    bar: Axes,
    pictures: Floats,
    across: int,
    *,
    signed: bool,
    orientation: Literal["vertical", "horizontal"] = "vertical",
) -> None:
    """Tile pictures (N, 1 or 3, h, w) on one scale, which `bar` shows unless they have colours of their own."""
    if pictures.shape[1] == 3:
        largest = float(np.abs(pictures).max()) or 1.0
        _tile(axes, (pictures.transpose(0, 2, 3, 1) / largest + 1) / 2, across, DIVERGING, (0, 1))
        bar.axis("off")
        return
    end = float(np.percentile(np.abs(pictures), EXTREME)) or float(np.abs(pictures).max()) or 1.0
    ticks = [-end, 0.0, end] if signed else [0.0, end]
    shown = _tile(axes, pictures[:, 0], across, DIVERGING if signed else RISING, (ticks[0], end))
    scale = Colorbar(bar, shown, orientation=orientation, extend="both" if signed else "max", ticks=ticks)
    labels = [f"{tick:.2g}" for tick in ticks]
    if orientation == "horizontal" and signed:
        labels[1] = ""  # there is room for both ends alone, and white says 0
    scale.set_ticklabels(labels)
    if orientation == "horizontal":  # neighbours stand close
        scale.ax.get_xticklabels()[0].set_horizontalalignment("left")
        scale.ax.get_xticklabels()[-1].set_horizontalalignment("right")


def _tile(axes: Axes, pictures: NDArray[Any], across: int, colours: str, ends: tuple[float, float]) -> AxesImage:
    """Lay pictures (N, h, w) or (N, h, w, 3) out in rows of so many, one unit apart, whatever their size; give the last one."""
    tall = pictures.shape[1] / pictures.shape[2]
    for index, picture in enumerate(pictures):
        left, top = index % across, index // across * tall
        extent = (left, left + FILLED, top + FILLED * tall, top)
        shown = axes.imshow(picture, cmap=colours, vmin=ends[0], vmax=ends[1], extent=extent)
    axes.set(xticks=[], yticks=[], xlim=(0, across), ylim=(math.ceil(len(pictures) / across) * tall, 0))
    axes.spines[:].set_visible(False)
    return shown


def _natural(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn bytes (N, C, H, W) into (N, H, W) of grey images, (N, H, W, 3) of coloured ones."""
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def _bars(axes: Axes, values: Floats, channels: Sequence[int]) -> None:
    axes.bar(np.arange(len(values)), values)
    axes.axhline(0, color="black", linewidth=0.5)
    if len(values) <= ACROSS:
        axes.set_xticks(np.arange(len(values)), [str(channel) for channel in channels])
