"""Scenes for segmentation: one to four coloured objects on a textured background, and a class label for every pixel.

The objects are synthetic shapes and the digits of a prepared MNIST. Each split of the scenes shows digits of the same split of
MNIST, so no digit appears in two splits.
"""

import numpy as np
from numpy.typing import NDArray

from labbook.data.drawing import TEXTURES, add_noise, apply_colormap, draw_shape_masks, draw_textures, resize, shift_brightness
from labbook.data.packed import PackedDataset, Split
from labbook.errors import DataError

__all__ = ["CLASSES", "derive"]

SHAPE_CLASSES = ("disc", "ring", "square", "frame", "triangle", "cross", "crescent", "hourglass", "bars")
CLASSES = ("background", *(str(digit) for digit in range(10)), *SHAPE_CLASSES)
FIRST_SHAPE = CLASSES.index("disc")
SCENE_COUNTS = {"official": (50_000, 10_000), "embedded": (1_500, 300)}  # training and test scenes
SIZE = 32
MAX_OBJECTS = 4
PATCH_SIZE = 22  # height and width in pixels of the patch with one object, near a corner of the scene
DIGIT_SIZE_RANGE = (20, 26)  # including MNIST's empty border, a seventh on each side, which may lie outside the patch
SHAPE_RADIUS_RANGE = (7, 10)
ALPHA_THRESHOLD = 112  # pixels with at least this alpha, in [0, 255], belong to the object
BATCH_SIZE = 500  # scenes drawn at once; changing it changes the scenes


def derive(digits: PackedDataset, validation_fraction: float, seed: int) -> PackedDataset:
    """Draw scenes; the same digits, fraction and seed give the same scenes.

    Args:
        digits: the prepared MNIST.
        validation_fraction: fraction of the training scenes; the last ones are the validation split.
        seed: seed of all random numbers.

    Raises:
        DataError: the dataset is not MNIST, or the fraction is so small that the validation split would be empty.
    """
    if digits.name != "mnist":
        raise DataError(f"scenes require the dataset mnist, not {digits.name}. Set derived.scenes.made_from to mnist.")
    train_count, test_count = SCENE_COUNTS[digits.source]
    validation_count = round(validation_fraction * train_count)
    if not validation_count:
        raise DataError(f"validation_fraction: {validation_fraction} selects none of the {train_count} scenes. Increase it.")
    train_generator, test_generator, validation_generator = (np.random.default_rng([seed, index]) for index in range(3))
    train_digits, validation_digits = digits.train_val_split()
    train = _draw_split(train_generator, train_digits, train_count - validation_count)
    validation = _draw_split(validation_generator, validation_digits, validation_count)
    test = _draw_split(test_generator, digits.test, test_count)
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
    for start in range(0, count, BATCH_SIZE):
        batch = slice(start, min(start + BATCH_SIZE, count))
        images[batch], labels[batch] = _draw_scenes(generator, digits, batch.stop - batch.start)
    return Split(images, labels)


def _draw_scenes(generator: np.random.Generator, digits: Split, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw images (N, 3, 32, 32) and their labels (N, 32, 32); later objects occlude earlier ones."""
    texture_indices = generator.integers(len(TEXTURES), size=count)
    background_colours = generator.integers(80, 176, (count, 3))
    levels = draw_textures(generator, [list(TEXTURES)[index] for index in texture_indices], SIZE)
    images = apply_colormap(levels, background_colours, shift_brightness(generator, background_colours, 0, 30))
    labels = np.zeros((count, SIZE, SIZE), dtype=np.uint8)

    object_counts = generator.integers(1, MAX_OBJECTS + 1, count)
    corners = generator.permuted(np.tile(np.arange(4), (count, 1)), axis=1)
    for number in range(MAX_OBJECTS):
        scenes = np.flatnonzero(object_counts > number)
        classes = generator.integers(1, len(CLASSES), len(scenes))
        alpha = _paste_near_corners(generator, _draw_objects(generator, digits, classes), corners[scenes, number])
        colours = shift_brightness(generator, background_colours[scenes], 45, 120)
        images[scenes] = _blend(images[scenes], alpha, colours)
        labels[scenes] = np.where(alpha >= ALPHA_THRESHOLD, classes[:, None, None], labels[scenes])
    return add_noise(generator, images, 10), labels


def _draw_objects(generator: np.random.Generator, digits: Split, classes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw one object per class and return the alpha of its patch, (N, 22, 22), in [0, 255]."""
    alpha = np.empty((len(classes), PATCH_SIZE, PATCH_SIZE), dtype=np.uint8)
    is_shape = classes >= FIRST_SHAPE
    names = [CLASSES[label] for label in classes[is_shape]]
    alpha[is_shape] = draw_shape_masks(generator, names, PATCH_SIZE, SHAPE_RADIUS_RANGE) * np.uint8(255)
    alpha[~is_shape] = _draw_digits(generator, digits, classes[~is_shape] - 1)
    return alpha


def _draw_digits(generator: np.random.Generator, digits: Split, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw one digit per label, with random size and position in its patch: (N, 22, 22)."""
    by_class = np.argsort(digits.labels, kind="stable")
    counts = np.bincount(digits.labels, minlength=10)
    selected = by_class[(np.cumsum(counts) - counts)[labels] + generator.integers(0, counts[labels])]
    sizes = generator.integers(DIGIT_SIZE_RANGE[0], DIGIT_SIZE_RANGE[1] + 1, len(labels))
    borders = sizes // 7
    tops, lefts = (generator.integers(-borders, PATCH_SIZE - sizes + borders + 1) for _ in range(2))

    margin = DIGIT_SIZE_RANGE[1] // 7
    patches = np.zeros((len(labels), PATCH_SIZE + 2 * margin, PATCH_SIZE + 2 * margin), dtype=np.uint8)
    for patch, index, size, top, left in zip(patches, selected, sizes, tops + margin, lefts + margin, strict=True):
        patch[top : top + size, left : left + size] = resize(digits.images[index, 0], int(size), int(size))
    return patches[:, margin:-margin, margin:-margin]


def _paste_near_corners(
    generator: np.random.Generator, patches: NDArray[np.uint8], corners: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Paste patches (N, 22, 22) near corners of empty images (N, 32, 32), so that objects rarely overlap.

    Corners are numbered 0 to 3: top left, top right, bottom left, bottom right.
    """
    max_offset = SIZE - PATCH_SIZE
    max_jitter = max_offset // 3
    is_bottom_or_right = np.stack([corners // 2, corners % 2])
    jitter = generator.integers(0, max_jitter + 1, is_bottom_or_right.shape)
    tops, lefts = jitter + is_bottom_or_right * (max_offset - max_jitter)
    images = np.zeros((len(patches), SIZE, SIZE), dtype=np.uint8)
    for image, patch, top, left in zip(images, patches, tops, lefts, strict=True):
        image[top : top + PATCH_SIZE, left : left + PATCH_SIZE] = patch
    return images


def _blend(images: NDArray[np.uint8], alpha: NDArray[np.uint8], colours: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Blend colours (N, 3) into images (N, 3, H, W) by the alpha of each pixel, (N, H, W), in [0, 255]."""
    weight = alpha[:, None].astype(np.int64)
    return ((images * (255 - weight) + colours[:, :, None, None] * weight) // 255).astype(np.uint8)
