"""Points of two classes in the plane: a disc and the ring around it, the same for both data sources.

A point is an image of one pixel whose two channels are its coordinates, one byte each. The test set is balanced. The training
set has more points of the ring: in a balanced one, the gradient at all-zero weights would be zero in every layer for every
activation function, and even a sigmoid network could not learn.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labbook.data.download import FIX_DAMAGED, FIX_MISSING
from labbook.data.drawing import SHAPES
from labbook.data.packed import PackedDataset, Split, stratified_split
from labbook.errors import DataError
from labbook.io import read_bytes, write_bytes

__all__ = ["CLASSES", "TEST_COUNTS", "TRAIN_COUNTS", "fetch", "prepare"]

CLASSES = ("disc", "ring")
TRAIN_COUNTS = (140, 160)  # points of each class
TEST_COUNTS = (500, 500)
OUTER_RADII = (115, 204)  # in half grid steps; the ring's inner radius is 0.6 of its outer one
SEED = 0  # not the seed of params.yaml: the points are the same in every run
BYTES_PER_POINT = 3  # x, y, label


def fetch(source: str, folder: Path) -> None:
    """Write the points into `folder`, one file per split."""
    generator = np.random.default_rng(SEED)
    by_class = [_draw_points(generator, label) for label in range(len(CLASSES))]
    train = [points[:count] for points, count in zip(by_class, TRAIN_COUNTS, strict=True)]
    test = [points[start : start + count] for points, start, count in zip(by_class, TRAIN_COUNTS, TEST_COUNTS, strict=True)]
    write_bytes(folder / "train.bin", np.concatenate(train).tobytes())
    write_bytes(folder / "test.bin", np.concatenate(test).tobytes())


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the points into arrays; the same files, fraction and seed give the same arrays.

    Raises:
        DataError: a file is missing or damaged.
    """
    train = _read_split(folder / "train.bin", sum(TRAIN_COUNTS))
    test = _read_split(folder / "test.bin", sum(TEST_COUNTS))
    validation = stratified_split(train.labels, validation_fraction, seed)
    return PackedDataset("rings", source, CLASSES, train, validation, test)


def _draw_points(generator: np.random.Generator, label: int) -> NDArray[np.uint8]:
    """Return all points of a class on the 256×256 grid, each once and in random order: x, y and label, (N, 3)."""
    x, y = np.meshgrid(np.arange(256), np.arange(256))
    inside = SHAPES[CLASSES[label]](2 * x - 255, 2 * y - 255, np.array(OUTER_RADII[label]))
    points = np.stack([x[inside], y[inside], np.full(inside.sum(), label)], axis=1)
    return generator.permutation(points).astype(np.uint8)


def _read_split(path: Path, count: int) -> Split:
    """Read `count` points and their labels."""
    data = read_bytes(path, FIX_MISSING)
    points = np.frombuffer(data[: BYTES_PER_POINT * count], np.uint8)
    if len(data) != BYTES_PER_POINT * count or points[2::BYTES_PER_POINT].max() >= len(CLASSES):
        raise DataError(f"{path}: damaged, expected {count} points of {len(CLASSES)} classes. {FIX_DAMAGED}")
    points = points.reshape(count, BYTES_PER_POINT)
    return Split(points[:, :2, None, None].copy(), points[:, 2].astype(np.int64))
