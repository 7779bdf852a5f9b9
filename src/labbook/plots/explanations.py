"""Draw filters, activations and attributions. Draw and write them within `labbook.plots.style`.

Images that are compared share a colour scale. A figure has a single axes, in inches, and adjacent images are merged into one,
because separate axes and colour bars would take much of the explain stage's running time.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labbook.plots import PAGE

__all__ = ["Panel", "draw_activations", "draw_attributions", "draw_filters"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

DIVERGING, SEQUENTIAL = "RdBu_r", "magma"  # colour maps for signed values (white is 0) and for values ≥ 0
PERCENTILE = 99  # of absolute values, at the end of a colour scale; outliers would make all other values pale
ACROSS = 16  # filters per row
FILLED = 0.94  # fraction of a tile's width that its picture fills; the rest is the gap to the next tile
MIN_PIXELS = 15  # per side; smaller pictures are enlarged, so that gaps are at least one pixel wide
WRAP = 22  # characters per line of a caption

# Inches.
MARGIN = 0.1
LETTER = 0.058  # width of a letter of small text
LINE = 0.16  # height of a line of small text
HEAD = 0.3  # height of a title with a colour scale beside it
SCALE, STRIP = 1.2, 0.07  # width and height of the coloured strip of a scale
TILE = 1.0  # largest width of a tile, and height of a bar chart
IMAGE = 1.2  # width of the explained image


@dataclass(frozen=True)
class Panel:
    """A row of the figure of activations.

    Attributes:
        title: above the row.
        values: images (N, 1 or 3, h, w), maps (N, h, w) or units (N,).
        channels: N numbers, used as labels.
    """

    title: str
    values: Floats
    channels: Sequence[int]


@dataclass(frozen=True)
class _Scale:
    """A colour scale for values from `low` to `high`."""

    colours: str
    low: float
    high: float

    def paint(self, values: Floats) -> Bytes:
        """Convert maps (N, h, w) to pictures (N, h, w, 3)."""
        painted: Bytes = mpl.colormaps[self.colours]((values - self.low) / (self.high - self.low), bytes=True)
        return painted[..., :3]

    @property
    def labels(self) -> tuple[str, str]:
        """The labels of both ends; values beyond an end have its colour."""
        return f"≤ −{_format_number(self.high)}" if self.low else "0", f"≥ {_format_number(self.high)}"


def draw_filters(title: str, weights: Floats) -> Figure:
    """Draw filters (N, 1 or 3, h, w) with a common colour scale."""
    columns = min(len(weights), ACROSS)
    side = min((PAGE - 2 * MARGIN) / columns, TILE)
    top = MARGIN + HEAD
    height = top + math.ceil(len(weights) / columns) * side * _aspect(weights) + MARGIN
    figure, axes = _new_figure(PAGE, height)
    pictures, scale = _paint(weights)
    _draw_title(axes, MARGIN, MARGIN, title, scale)
    _draw_tiles(axes, (MARGIN, top), side, pictures, columns=columns)
    return figure


def draw_activations(caption: str, image: Bytes, panels: Sequence[Panel]) -> Figure:
    """Draw an image (C, H, W) and, beside it, a column of panels.

    Args:
        caption: below the image.
        image: uint8.
        panels: of weights and activations.
    """
    left = MARGIN + IMAGE + 3 * MARGIN
    sides = [min((PAGE - left - MARGIN) / len(panel.values), TILE) for panel in panels]
    heights = [
        HEAD + LINE + MARGIN + (TILE if panel.values.ndim == 1 else side * _aspect(panel.values))
        for panel, side in zip(panels, sides, strict=True)
    ]
    picture = _to_picture(image[None])
    below = MARGIN + HEAD + IMAGE * picture.shape[1] / picture.shape[2]
    figure, axes = _new_figure(PAGE, MARGIN + max(sum(heights), below + LINE))
    _draw_tiles(axes, (MARGIN, MARGIN + HEAD), IMAGE / FILLED, picture)
    axes.text(MARGIN + IMAGE / 2, below + 0.04, textwrap.fill(caption, WRAP), size="small", ha="center", va="top")
    top = MARGIN
    for panel, side, height in zip(panels, sides, heights, strict=True):
        if panel.values.ndim == 1:
            _draw_title(axes, left, top, panel.title, None)
            _draw_bars(figure, left + HEAD, top + HEAD, panel)
        else:
            pictures, scale = _paint(panel.values)
            _draw_title(axes, left, top, panel.title, scale)
            _draw_tiles(axes, (left, top + HEAD), side, pictures, columns=len(pictures))
            for index, channel in enumerate(panel.channels):
                below = top + HEAD + side * _aspect(panel.values)
                axes.text(left + (index + FILLED / 2) * side, below, str(channel), size="small", ha="center", va="top")
        top += height
    return figure


def draw_attributions(images: Bytes, captions: Sequence[str], maps: Mapping[str, Floats], signed: frozenset[str]) -> Figure:
    """Draw one row per image (N, C, H, W) and one column per method, with maps (N, H, W).

    Args:
        images: uint8.
        captions: one per image.
        maps: relevance, by method.
        signed: methods whose relevance has both signs.
    """
    lines = [caption.replace(" taken for ", "\ntaken for ").splitlines() for caption in captions]
    wrapped = ["\n".join(textwrap.fill(line, WRAP) for line in each) for each in lines]
    left = 2 * MARGIN + LETTER * max(len(line) for text in wrapped for line in text.splitlines())
    side = min((PAGE - left - MARGIN) / (1 + len(maps)), IMAGE)
    pictures = _to_picture(images)
    row, top = side * pictures.shape[1] / pictures.shape[2], MARGIN + 2 * LINE
    bottom = top + len(images) * row
    figure, axes = _new_figure(left + side * (1 + len(maps)), bottom + HEAD)
    for index, text in enumerate(wrapped):
        axes.text(left - MARGIN, top + (index + FILLED / 2) * row, text, size="small", ha="right", va="center")
    for column, title in enumerate(["image", *map(_format_method, maps)]):
        axes.text(left + (column + FILLED / 2) * side, top - 0.04, title, ha="center", va="bottom")
    _draw_tiles(axes, (left, top), side, pictures)
    for column, (name, values) in enumerate(maps.items(), start=1):
        scale = _find_scale(values, signed=name in signed)
        _draw_tiles(axes, (left + column * side, top), side, scale.paint(values))
        _draw_scale(axes, left + column * side, bottom, FILLED * side, scale)
    return figure


def _new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size and axes that fill it, with x to the right and y down, in inches."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure, axes


def _draw_title(axes: Axes, left: float, top: float, title: str, scale: _Scale | None) -> None:
    axes.text(left, top + HEAD - 0.06, title, va="bottom")
    if scale:
        _draw_scale(axes, PAGE - MARGIN - SCALE, top, SCALE, scale)


def _draw_scale(axes: Axes, left: float, top: float, width: float, scale: _Scale) -> None:
    """Draw a strip of all colours, and below it the values at both ends."""
    ramp, bottom = np.linspace(0, 1, 256)[None], top + STRIP
    axes.imshow(ramp, cmap=scale.colours, aspect="auto", extent=(left, left + width, bottom, top))
    low, high = scale.labels
    axes.text(left + width, bottom + 0.02, high, size="small", ha="right", va="top")
    if LETTER * len(low + high) < width:  # otherwise the scale is symmetric, and one label suffices
        axes.text(left, bottom + 0.02, low, size="small", ha="left", va="top")


def _draw_tiles(axes: Axes, corner: tuple[float, float], side: float, pictures: Bytes, *, columns: int = 1) -> None:
    """Draw pictures (N, h, w) or (N, h, w, 3) in a grid; `side` is the width of a picture and the gap to the next."""
    scale_factor = max(1, round(MIN_PIXELS / pictures.shape[2]))
    pictures = pictures.repeat(scale_factor, axis=1).repeat(scale_factor, axis=2)
    count, height, width, *colours = pictures.shape
    gap = round(width / FILLED - width) or 1
    rows = math.ceil(count / columns)
    mosaic = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *colours), 255, np.uint8)
    for index, picture in enumerate(pictures):
        y, x = index // columns * (height + gap), index % columns * (width + gap)
        mosaic[y : y + height, x : x + width] = picture
    (left, top), inches = corner, side / (width + gap)
    extent = (left, left + inches * mosaic.shape[1], top + inches * mosaic.shape[0], top)
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255, aspect="auto", extent=extent)


def _draw_bars(figure: Figure, left: float, top: float, panel: Panel) -> None:
    """Draw one bar per unit in separate axes; a single polygon contains all bars."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, 1 - (top + TILE) / height, (PAGE - left - MARGIN) / width, TILE / height))
    positions = np.arange(len(panel.values))
    axes.fill((positions[:, None] + [-0.4, -0.4, 0.4, 0.4]).ravel(), (panel.values[:, None] * [0, 1, 1, 0]).ravel())
    axes.axhline(0, color="black", linewidth=0.5)
    if len(positions) <= ACROSS:
        axes.set_xticks(positions, [str(channel) for channel in panel.channels])


def _paint(values: Floats) -> tuple[Bytes, _Scale | None]:
    """Convert maps (N, h, w) or images (N, 1 or 3, h, w) to pictures and their scale; three channels are RGB."""
    if values.ndim == 4 and values.shape[1] == 3:
        largest = float(np.abs(values).max()) or 1.0
        return np.round((values.transpose(0, 2, 3, 1) / largest + 1) * 127.5).astype(np.uint8), None
    maps = values[:, 0] if values.ndim == 4 else values
    scale = _find_scale(maps, signed=bool(maps.min() < 0))
    return scale.paint(maps), scale


def _find_scale(values: Floats, *, signed: bool) -> _Scale:
    end = float(np.percentile(np.abs(values), PERCENTILE)) or float(np.abs(values).max()) or 1.0
    return _Scale(DIVERGING, -end, end) if signed else _Scale(SEQUENTIAL, 0.0, end)


def _to_picture(pixels: Bytes) -> Bytes:
    """Convert bytes (N, C, H, W) to greyscale (N, H, W) or colour pictures (N, H, W, 3)."""
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def _aspect(values: NDArray[Any]) -> float:
    """Return height over width of images (N, C, h, w) or maps (N, h, w)."""
    return float(values.shape[-2] / values.shape[-1])


def _format_number(value: float) -> str:
    """Format a number with two digits and no leading zeros in the exponent: 0.0017, 180, 1.9e−7."""
    digits, _, exponent = f"{float(f'{value:.2g}'):g}".partition("e")
    return f"{digits}e{int(exponent)}".replace("-", "−") if exponent else digits


def _format_method(method: str) -> str:
    return method.replace("layer_gradcam", "Grad-CAM").replace("gradcam", "Grad-CAM").replace("_", "\n")
