"""Draw stand-in images: shapes, textures, tints and noise.

All arithmetic is on integers drawn from NumPy's PCG64, so a seed gives the same bytes on every machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHAPES", "TEXTURES", "lighter_or_darker", "noisy", "resized", "shape_masks", "textures", "tinted"]

Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Inside = Callable[[Integers, Integers, Integers], NDArray[np.bool_]]

UNIT = 8  # positions and radii are in eighths of a pixel
# Rotations, exact in integers: Pythagorean triples of cosine, sine and hypotenuse. At most 16°: no square becomes a diamond.
TILTS = np.array([(1, 0, 1), (40, 9, 41), (40, -9, 41), (24, 7, 25), (24, -7, 25)])

# Whether points (x, y) lie inside a shape of radius r around (0, 0); y points down.
SHAPES: dict[str, Inside] = {
    "disc": lambda x, y, r: x**2 + y**2 <= r**2,
    "ring": lambda x, y, r: (x**2 + y**2 <= r**2) & (25 * (x**2 + y**2) > 9 * r**2),
    "square": lambda x, y, r: 5 * _farther(x, y) <= 4 * r,
    "frame": lambda x, y, r: (8 * _farther(x, y) <= 7 * r) & (2 * _farther(x, y) > r),
    "triangle": lambda x, y, r: (10 * y <= 7 * r) & (2 * abs(x) <= y + r),
    "cross": lambda x, y, r: (_farther(x, y) <= r) & (10 * np.minimum(abs(x), abs(y)) <= 3 * r),
    "crescent": lambda x, y, r: (x**2 + y**2 <= r**2) & (25 * ((2 * x - r) ** 2 + 4 * y**2) > 64 * r**2),
    "hourglass": lambda x, y, r: (abs(x) <= abs(y)) & (10 * abs(y) <= 9 * r),
    "bars": lambda x, y, r: (8 * _farther(x, y) <= 7 * r) & (3 * abs(y) > r),
    "corner": lambda x, y, r: (8 * _farther(x, y) <= 7 * r) & ((5 * x < -r) | (5 * y > r)),
}
# Grey levels of a texture, in [0, 255], at each of its points.
TEXTURES: dict[str, Callable[["Weave"], Integers]] = {
    "plain": lambda weave: np.zeros_like(weave.x),
    "gradient": lambda weave: _spread(weave.along),
    "stripes": lambda weave: weave.along // weave.period % 2 * 255,
    "checks": lambda weave: (weave.x // weave.period + weave.y // weave.period) % 2 * 255,
    "dots": lambda weave: _dots(weave) * 255,
    "blotches": lambda weave: _enlarged(weave.coarse, weave.x.shape[-1]),
}
BLOTCHES = 4  # along each side of the image


@dataclass(frozen=True)
class Weave:
    """The random parameters of the textures of N images.

    Attributes:
        x: (N, H, W), columns counted from a random one.
        y: (N, H, W), rows counted from a random one.
        along: (N, H, W), pixels counted in a random direction.
        period: (N, 1, 1), size of a stripe, check or dot in pixels.
        coarse: (N, 5, 5), grey levels at the corners of the blotches.
    """

    x: Integers
    y: Integers
    along: Integers
    period: Integers
    coarse: Integers


def resized(image: Bytes, height: int, width: int) -> Bytes:
    """Resize an image, (H, W) or (H, W, 3), in exact integer arithmetic."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def shape_masks(generator: np.random.Generator, names: Sequence[str], size: int, radii: tuple[int, int]) -> NDArray[np.bool_]:
    """Draw one shape per image, with random position, size and rotation: (N, size, size), true inside the shape.

    Args:
        generator: source of all random numbers.
        names: N keys of `SHAPES`.
        size: height and width of the images, in pixels.
        radii: smallest and largest radius, in pixels; a circle of that radius lies inside the image.
    """
    count = len(names)
    radius = generator.integers(UNIT * radii[0], UNIT * radii[1] + 1, count)
    centre_x, centre_y = (generator.integers(radius, UNIT * size - radius + 1) for _ in range(2))
    cosine, sine, scale = TILTS[generator.integers(len(TILTS), size=count)].T
    quarters = generator.integers(4, size=count)

    masks = np.empty((count, size, size), dtype=bool)
    places = UNIT * np.arange(size) + UNIT // 2
    kinds = np.array(names)
    for name in np.unique(kinds):
        for quarter in range(4):
            chosen = np.flatnonzero((kinds == name) & (quarters == quarter))
            x = places[None, None, :] - centre_x[chosen, None, None]
            y = places[None, :, None] - centre_y[chosen, None, None]
            for _ in range(quarter):
                x, y = y, -x
            cos, sin, whole = (part[chosen, None, None] for part in (cosine, sine, scale))
            turned_x, turned_y = (cos * x + sin * y) // whole, (cos * y - sin * x) // whole
            masks[chosen] = SHAPES[str(name)](turned_x, turned_y, radius[chosen, None, None])
    return masks


def textures(generator: np.random.Generator, names: Sequence[str], size: int) -> Bytes:
    """Draw one texture per image, with random offset, scale and direction: (N, size, size), levels in [0, 255].

    Args:
        generator: source of all random numbers.
        names: N keys of `TEXTURES`.
        size: height and width of the images, in pixels.
    """
    count = len(names)
    period = generator.integers(2, 6, (count, 1, 1))  # size of a stripe, check or dot in pixels
    shift = generator.integers(0, size, (2, count, 1, 1))
    across, down = generator.integers(-1, 2, (2, count, 1, 1))
    coarse = generator.integers(0, 256, (count, BLOTCHES + 1, BLOTCHES + 1))

    y, x = np.mgrid[:size, :size][:, None] + shift
    along = np.where((across == 0) & (down == 0), x, across * x + down * y)
    levels = np.empty((count, size, size), dtype=np.uint8)
    kinds = np.array(names)
    for name in np.unique(kinds):
        chosen = np.flatnonzero(kinds == name)
        weave = Weave(*(part[chosen] for part in (x, y, along, period, coarse)))
        levels[chosen] = TEXTURES[str(name)](weave)
    return levels


def lighter_or_darker(generator: np.random.Generator, colours: Integers, least: int, most: int) -> Integers:
    """Draw another colour for each of `colours`, (N, 3): lighter or darker by `least` to `most` in every channel."""
    sign = 2 * generator.integers(0, 2, (len(colours), 1)) - 1
    return (colours + sign * generator.integers(least, most + 1, colours.shape)).clip(0, 255)


def tinted(levels: Bytes, low: Integers, high: Integers) -> Bytes:
    """Map levels (N, H, W) to colours, from `low` at 0 to `high` at 255, both (N, 3); return images (N, 3, H, W)."""
    start, end = low[:, :, None, None], high[:, :, None, None]
    return (start + (end - start) * levels[:, None].astype(np.int64) // 255).astype(np.uint8)


def noisy(generator: np.random.Generator, images: Bytes, strength: int) -> Bytes:
    """Add an integer drawn from [−strength, strength] to every value of the images, and clip the sum to [0, 255]."""
    noise = generator.integers(-strength, strength + 1, images.shape, dtype=np.int16)
    return (images + noise).clip(0, 255).astype(np.uint8)


def _farther(x: Integers, y: Integers) -> Integers:
    """Return the Chebyshev distance of points from (0, 0)."""
    return np.maximum(abs(x), abs(y))


def _spread(along: Integers) -> Integers:
    """Stretch counts (N, H, W) to [0, 255] in each image."""
    above = along - along.min(axis=(1, 2), keepdims=True)
    levels: Integers = above * 255 // above.max(axis=(1, 2), keepdims=True)
    return levels


def _dots(weave: "Weave") -> NDArray[np.bool_]:
    """Return whether points lie in a dot; a cell of two by two periods has one dot in its centre."""
    cell = 2 * weave.period
    x, y = (2 * (place % cell) - cell + 1 for place in (weave.x, weave.y))  # from the middle, in half pixels
    return x**2 + y**2 <= 2 * weave.period**2


def _enlarged(corners: Integers, size: int) -> Integers:
    """Interpolate (N, K + 1, K + 1) levels linearly to (N, size, size)."""
    cells = corners.shape[-1] - 1
    cell, part = np.divmod(np.arange(size) * cells, size)
    rows: Integers = corners[:, cell] * (size - part)[:, None] + corners[:, cell + 1] * part[:, None]
    levels: Integers = (rows[:, :, cell] * (size - part) + rows[:, :, cell + 1] * part) // size**2
    return levels
