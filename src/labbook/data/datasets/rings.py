"""Points of two classes in the plane: a disc and the ring around it, the same for both data sources.

A point is an image of one pixel whose two channels are its coordinates, one byte each. The test set has equally many points of
each class. The training set has more points of the ring: with equally many, the gradient at all-zero weights would be zero in
every layer for every activation, and even a sigmoid network could not learn.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labbook.data.download import FETCH, FETCH_AGAIN
from labbook.data.drawing import SHAPES
from labbook.data.packed import PackedDataset, Split, stratified_split
from labbook.errors import DataError
from labbook.io import read_bytes, write_bytes

__all__ = ["CLASSES", "TEST", "TRAIN", "fetch", "prepare"]

CLASSES = ("disc", "ring")
TRAIN = (140, 160)  # points of each class
TEST = (500, 500)
RADII = (115, 204)  # outer radii, where 255 is half the side of the square; the ring's inner radius is 0.6 of its outer one
SEED = 0  # not the seed of params.yaml: the points are the same in every run
POINT = 3  # bytes: x, y, class


def fetch(source: str, folder: Path) -> None:
    """Write the points into `folder`, one file per split."""
    generator = np.random.default_rng(SEED)
    drawn = [_draw(generator, label) for label in range(len(CLASSES))]
    train = [points[:count] for points, count in zip(drawn, TRAIN, strict=True)]
    test = [points[start : start + count] for points, start, count in zip(drawn, TRAIN, TEST, strict=True)]
    write_bytes(folder / "train.bin", np.concatenate(train).tobytes())
    write_bytes(folder / "test.bin", np.concatenate(test).tobytes())


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the points into arrays; the same files, fraction and seed give the same arrays.

    Raises:
        DataError: a file is missing or damaged.
    """
    train, test = _read(folder / "train.bin", sum(TRAIN)), _read(folder / "test.bin", sum(TEST))
    validation = stratified_split(train.labels, validation_fraction, seed)
    return PackedDataset("rings", source, CLASSES, train, validation, test)


def _draw(generator: np.random.Generator, label: int) -> NDArray[np.uint8]:
    """Return all points of a class on the grid of 256×256, each once and in random order: x, y and label, (N, 3)."""
    x, y = np.meshgrid(np.arange(256), np.arange(256))
    inside = SHAPES[CLASSES[label]](2 * x - 255, 2 * y - 255, np.array(RADII[label]))
    points = np.stack([x[inside], y[inside], np.full(inside.sum(), label)], axis=1)
    return generator.permutation(points).astype(np.uint8)


def _read(path: Path, count: int) -> Split:
    """Read `count` points and their labels."""
    data = read_bytes(path, FETCH)
    points = np.frombuffer(data[: POINT * count], np.uint8)
    if len(data) != POINT * count or points[2::POINT].max() >= len(CLASSES):
        raise DataError(f"{path}: damaged, it does not hold {count} points of {len(CLASSES)} classes. {FETCH_AGAIN}")
    points = points.reshape(count, POINT)
    return Split(points[:, :2, None, None].copy(), points[:, 2].astype(np.int64))
