"""Draw synthetic images: shapes, textures, colours and noise.

All arithmetic is on integers drawn from NumPy's PCG64, so the same seed gives the same bytes on every machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SHAPES", "TEXTURES", "add_noise", "apply_colormap", "draw_shape_masks", "draw_textures", "resize", "shift_brightness",
]  # fmt: skip

Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SUBPIXELS = 8  # positions and radii are in eighths of a pixel
# Rotations, exact in integers: Pythagorean triples of cosine, sine and hypotenuse. At most 16°: no square becomes a diamond.
ROTATIONS = np.array([(1, 0, 1), (40, 9, 41), (40, -9, 41), (24, 7, 25), (24, -7, 25)])

# Whether points (x, y) lie inside a shape of radius r around (0, 0); the y axis points down.
SHAPES: dict[str, Callable[[Integers, Integers, Integers], Mask]] = {
    "disc": lambda x, y, r: x**2 + y**2 <= r**2,
    "ring": lambda x, y, r: (x**2 + y**2 <= r**2) & (25 * (x**2 + y**2) > 9 * r**2),
    "square": lambda x, y, r: 5 * _chebyshev(x, y) <= 4 * r,
    "frame": lambda x, y, r: (8 * _chebyshev(x, y) <= 7 * r) & (2 * _chebyshev(x, y) > r),
    "triangle": lambda x, y, r: (10 * y <= 7 * r) & (2 * abs(x) <= y + r),
    "cross": lambda x, y, r: (_chebyshev(x, y) <= r) & (10 * np.minimum(abs(x), abs(y)) <= 3 * r),
    "crescent": lambda x, y, r: (x**2 + y**2 <= r**2) & (25 * ((2 * x - r) ** 2 + 4 * y**2) > 64 * r**2),
    "hourglass": lambda x, y, r: (abs(x) <= abs(y)) & (10 * abs(y) <= 9 * r),
    "bars": lambda x, y, r: (8 * _chebyshev(x, y) <= 7 * r) & (3 * abs(y) > r),
    "corner": lambda x, y, r: (8 * _chebyshev(x, y) <= 7 * r) & ((5 * x < -r) | (5 * y > r)),
}
# Grey levels of a texture, in [0, 255], at every pixel.
TEXTURES: dict[str, Callable[["TextureParameters"], Integers]] = {
    "plain": lambda parameters: np.zeros_like(parameters.x),
    "gradient": lambda parameters: _min_max_scale(parameters.ramp),
    "stripes": lambda parameters: parameters.ramp // parameters.period % 2 * 255,
    "checks": lambda parameters: (parameters.x // parameters.period + parameters.y // parameters.period) % 2 * 255,
    "dots": lambda parameters: _dot_mask(parameters) * 255,
    "blotches": lambda parameters: _interpolate(parameters.lattice, parameters.x.shape[-1]),  # value noise
}
LATTICE_CELLS = 4  # cells of the value noise along each side of the image


@dataclass(frozen=True)
class TextureParameters:
    """The random parameters of the textures of N images.

    Attributes:
        x: (N, H, W), column of each pixel, plus a random offset.
        y: (N, H, W), row of each pixel, plus a random offset.
        ramp: (N, H, W), coordinate of each pixel along a random direction.
        period: (N, 1, 1), size of a stripe, check or dot in pixels.
        lattice: (N, 5, 5), grey levels at the lattice points of the value noise.
    """

    x: Integers
    y: Integers
    ramp: Integers
    period: Integers
    lattice: Integers


def resize(image: Bytes, height: int, width: int) -> Bytes:
    """Resize an image, (H, W) or (H, W, 3), in exact integer arithmetic."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def draw_shape_masks(generator: np.random.Generator, names: Sequence[str], size: int, radius_range: tuple[int, int]) -> Mask:
    """Draw one shape per image, with random position, size and rotation: (N, size, size), true inside the shape.

    Args:
        generator: source of all random numbers.
        names: N keys of `SHAPES`.
        size: height and width of the images, in pixels.
        radius_range: smallest and largest radius, in pixels; a circle of that radius lies inside the image.
    """
    count = len(names)
    radius = generator.integers(SUBPIXELS * radius_range[0], SUBPIXELS * radius_range[1] + 1, count)
    centre_x, centre_y = (generator.integers(radius, SUBPIXELS * size - radius + 1) for _ in range(2))
    cosine, sine, hypotenuse = ROTATIONS[generator.integers(len(ROTATIONS), size=count)].T
    quarter_turns = generator.integers(4, size=count)

    masks = np.empty((count, size, size), dtype=bool)
    pixel_centres = SUBPIXELS * np.arange(size) + SUBPIXELS // 2
    shape_names = np.array(names)
    for name in np.unique(shape_names):
        for turns in range(4):
            selected = np.flatnonzero((shape_names == name) & (quarter_turns == turns))
            x = pixel_centres[None, None, :] - centre_x[selected, None, None]
            y = pixel_centres[None, :, None] - centre_y[selected, None, None]
            for _ in range(turns):
                x, y = y, -x
            cos, sin, scale = (values[selected, None, None] for values in (cosine, sine, hypotenuse))
            rotated_x, rotated_y = (cos * x + sin * y) // scale, (cos * y - sin * x) // scale
            masks[selected] = SHAPES[str(name)](rotated_x, rotated_y, radius[selected, None, None])
    return masks


def draw_textures(generator: np.random.Generator, names: Sequence[str], size: int) -> Bytes:
    """Draw one texture per image, with random offset, scale and direction: (N, size, size), grey levels in [0, 255].

    Args:
        generator: source of all random numbers.
        names: N keys of `TEXTURES`.
        size: height and width of the images, in pixels.
    """
    count = len(names)
    period = generator.integers(2, 6, (count, 1, 1))
    offset = generator.integers(0, size, (2, count, 1, 1))
    direction_x, direction_y = generator.integers(-1, 2, (2, count, 1, 1))
    lattice = generator.integers(0, 256, (count, LATTICE_CELLS + 1, LATTICE_CELLS + 1))

    y, x = np.mgrid[:size, :size][:, None] + offset
    ramp = np.where((direction_x == 0) & (direction_y == 0), x, direction_x * x + direction_y * y)
    levels = np.empty((count, size, size), dtype=np.uint8)
    texture_names = np.array(names)
    for name in np.unique(texture_names):
        selected = np.flatnonzero(texture_names == name)
        parameters = TextureParameters(*(values[selected] for values in (x, y, ramp, period, lattice)))
        levels[selected] = TEXTURES[str(name)](parameters)
    return levels


def shift_brightness(generator: np.random.Generator, colours: Integers, min_shift: int, max_shift: int) -> Integers:
    """Return random variations of `colours`, (N, 3).

    Each is either lighter or darker than the original, in every channel by `min_shift` to `max_shift`, clipped to [0, 255].
    """
    sign = 2 * generator.integers(0, 2, (len(colours), 1)) - 1
    return (colours + sign * generator.integers(min_shift, max_shift + 1, colours.shape)).clip(0, 255)


def apply_colormap(levels: Bytes, low: Integers, high: Integers) -> Bytes:
    """Map grey levels (N, H, W) to colours, from `low` at 0 to `high` at 255, both (N, 3); return images (N, 3, H, W)."""
    start, end = low[:, :, None, None], high[:, :, None, None]
    return (start + (end - start) * levels[:, None].astype(np.int64) // 255).astype(np.uint8)


def add_noise(generator: np.random.Generator, images: Bytes, amplitude: int) -> Bytes:
    """Add an integer drawn from [−amplitude, amplitude] to every value of the images, and clip the sum to [0, 255]."""
    noise = generator.integers(-amplitude, amplitude + 1, images.shape, dtype=np.int16)
    return (images + noise).clip(0, 255).astype(np.uint8)


def _chebyshev(x: Integers, y: Integers) -> Integers:
    """Return the Chebyshev distance of points from (0, 0)."""
    return np.maximum(abs(x), abs(y))


def _min_max_scale(ramp: Integers) -> Integers:
    """Scale each image of (N, H, W) linearly, so that its values range from 0 to 255."""
    shifted = ramp - ramp.min(axis=(1, 2), keepdims=True)
    levels: Integers = shifted * 255 // shifted.max(axis=(1, 2), keepdims=True)
    return levels


def _dot_mask(parameters: "TextureParameters") -> Mask:
    """Return whether pixels lie in a dot; a cell of two by two periods has one dot in its centre."""
    cell = 2 * parameters.period
    x, y = (2 * (values % cell) - cell + 1 for values in (parameters.x, parameters.y))  # from the centre, in half pixels
    return x**2 + y**2 <= 2 * parameters.period**2


def _interpolate(lattice: Integers, size: int) -> Integers:
    """Interpolate (N, K + 1, K + 1) grey levels bilinearly to (N, size, size)."""
    cells = lattice.shape[-1] - 1
    cell, weight = np.divmod(np.arange(size) * cells, size)
    rows: Integers = lattice[:, cell] * (size - weight)[:, None] + lattice[:, cell + 1] * weight[:, None]
    levels: Integers = (rows[:, :, cell] * (size - weight) + rows[:, :, cell + 1] * weight) // size**2
    return levels
