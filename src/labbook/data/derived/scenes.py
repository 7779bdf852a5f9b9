"""Scenes for segmentation: one to four tinted objects on a textured background, and a class for every pixel.

The objects are drawn shapes and the digits of a prepared MNIST. Each split of the scenes shows the digits of the same split of
MNIST, so no digit appears in two splits.
"""

import numpy as np
from numpy.typing import NDArray

from labbook.data.drawing import TEXTURES, lighter_or_darker, noisy, resized, shape_masks, textures, tinted
from labbook.data.packed import PackedDataset, Split
from labbook.errors import DataError

__all__ = ["CLASSES", "derive"]

DRAWN = ("disc", "ring", "square", "frame", "triangle", "cross", "crescent", "hourglass", "bars")
CLASSES = ("background", *(str(digit) for digit in range(10)), *DRAWN)
FIRST_DRAWN = CLASSES.index("disc")
COUNTS = {"official": (50_000, 10_000), "embedded": (1_500, 300)}  # training and test scenes
SIZE = 32
MOST_OBJECTS = 4
PLOT = 22  # side in pixels of the square that holds one object, near a corner of the scene
DIGIT_SIZES = (20, 26)  # a seventh of it on each side is MNIST's empty border, which may lie outside the square
SHAPE_RADII = (7, 10)
INK = 112  # of 255: pixels at least this bright belong to the object
BATCH = 500  # scenes drawn at once; changing it changes the scenes


def derive(digits: PackedDataset, validation_fraction: float, seed: int) -> PackedDataset:
    """Draw scenes; the same digits, fraction and seed give the same scenes.

    Args:
        digits: the prepared MNIST.
        validation_fraction: fraction of the training scenes, which are the last ones.
        seed: seed of all random numbers.

    Raises:
        DataError: the dataset is not MNIST, or the fraction is so small that the validation split would be empty.
    """
    if digits.name != "mnist":
        raise DataError(f"scenes are made of the digits of mnist, not of {digits.name}. Set derived.scenes.made_from to mnist.")
    train_count, test_count = COUNTS[digits.source]
    validation_count = round(validation_fraction * train_count)
    if not validation_count:
        raise DataError(f"validation_fraction: {validation_fraction} selects none of the {train_count} scenes. Increase it.")
    of_train, of_test, of_validation = (np.random.default_rng([seed, part]) for part in range(3))
    train_digits, validation_digits = digits.held_out()
    train = _draw_split(of_train, train_digits, train_count - validation_count)
    validation = _draw_split(of_validation, validation_digits, validation_count)
    test = _draw_split(of_test, digits.test, test_count)
    return PackedDataset(
        name="scenes",
        source=digits.source,
        classes=CLASSES,
        train=Split(
            np.concatenate([train.images, validation.images]),
            np.concatenate([train.labels, validation.labels]),
        ),
        validation=np.arange(len(train), train_count),
        test=test,
    )


def _draw_split(generator: np.random.Generator, digits: Split, count: int) -> Split:
    images = np.empty((count, 3, SIZE, SIZE), dtype=np.uint8)
    labels = np.empty((count, SIZE, SIZE), dtype=np.uint8)
    for start in range(0, count, BATCH):
        block = slice(start, min(start + BATCH, count))
        images[block], labels[block] = _draw(generator, digits, block.stop - block.start)
    return Split(images, labels)


def _draw(generator: np.random.Generator, digits: Split, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw images (N, 3, 32, 32) and their labels (N, 32, 32); a later object covers an earlier one."""
    kinds = generator.integers(len(TEXTURES), size=count)
    ground = generator.integers(80, 176, (count, 3))
    levels = textures(generator, [list(TEXTURES)[kind] for kind in kinds], SIZE)
    images = tinted(levels, ground, lighter_or_darker(generator, ground, 0, 30))
    labels = np.zeros((count, SIZE, SIZE), dtype=np.uint8)

    objects = generator.integers(1, MOST_OBJECTS + 1, count)
    corners = generator.permuted(np.tile(np.arange(4), (count, 1)), axis=1)
    for number in range(MOST_OBJECTS):
        scenes = np.flatnonzero(objects > number)
        classes = generator.integers(1, len(CLASSES), len(scenes))
        cover = _spread_out(generator, _draw_objects(generator, digits, classes), corners[scenes, number])
        tint = lighter_or_darker(generator, ground[scenes], 45, 120)
        images[scenes] = _covered(images[scenes], cover, tint)
        labels[scenes] = np.where(cover >= INK, classes[:, None, None], labels[scenes])
    return noisy(generator, images, 10), labels


def _draw_objects(generator: np.random.Generator, digits: Split, classes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw one object per class, (N, 22, 22): the coverage of each pixel, in [0, 255]."""
    cover = np.empty((len(classes), PLOT, PLOT), dtype=np.uint8)
    drawn = classes >= FIRST_DRAWN
    names = [CLASSES[label] for label in classes[drawn]]
    cover[drawn] = shape_masks(generator, names, PLOT, SHAPE_RADII) * np.uint8(255)
    cover[~drawn] = _draw_digits(generator, digits, classes[~drawn] - 1)
    return cover


def _draw_digits(generator: np.random.Generator, digits: Split, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw a digit of each wanted class, scaled and at a random position in its square: (N, 22, 22)."""
    by_class = np.argsort(digits.labels, kind="stable")
    counts = np.bincount(digits.labels, minlength=10)
    chosen = by_class[(np.cumsum(counts) - counts)[wanted] + generator.integers(0, counts[wanted])]
    sizes = generator.integers(DIGIT_SIZES[0], DIGIT_SIZES[1] + 1, len(wanted))
    borders = sizes // 7
    tops, lefts = (generator.integers(-borders, PLOT - sizes + borders + 1) for _ in range(2))

    margin = DIGIT_SIZES[1] // 7
    plots = np.zeros((len(wanted), PLOT + 2 * margin, PLOT + 2 * margin), dtype=np.uint8)
    for plot, index, size, top, left in zip(plots, chosen, sizes, tops + margin, lefts + margin, strict=True):
        plot[top : top + size, left : left + size] = resized(digits.images[index, 0], int(size), int(size))
    return plots[:, margin:-margin, margin:-margin]


def _spread_out(generator: np.random.Generator, plots: NDArray[np.uint8], corners: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Paste squares (N, 22, 22) near corners of their scenes, so that objects seldom overlap: (N, 32, 32)."""
    spare = SIZE - PLOT
    far = np.stack([corners // 2, corners % 2])
    tops, lefts = generator.integers(0, spare // 3 + 1, far.shape) + far * (spare - spare // 3)
    scenes = np.zeros((len(plots), SIZE, SIZE), dtype=np.uint8)
    for scene, plot, top, left in zip(scenes, plots, tops, lefts, strict=True):
        scene[top : top + PLOT, left : left + PLOT] = plot
    return scenes


def _covered(images: NDArray[np.uint8], cover: NDArray[np.uint8], tint: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Blend a colour (N, 3) into images (N, 3, H, W), in proportion to the coverage of each pixel (N, H, W)."""
    share = cover[:, None].astype(np.int64)
    return ((images * (255 - share) + tint[:, :, None, None] * share) // 255).astype(np.uint8)
