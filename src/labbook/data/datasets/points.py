"""Points of two classes in a plane: a cloud each, overlapping a little. Nothing is published: both sources are these points.

A point is an image of one pixel whose two channels are its place, a byte each. Both clouds lie, by and large, to one side
of the byte that stands for zero, so that a step for one point moves a unit the same way for most of them: so units die.
"""

from pathlib import Path

import numpy as np

from labbook.data.download import FETCH, FETCH_AGAIN
from labbook.data.drawing import noisy
from labbook.data.packed import PackedDataset, Split, stratified_split
from labbook.errors import DataError
from labbook.io import read_bytes, write_bytes

__all__ = ["CLASSES", "fetch", "prepare"]

CLASSES = ("negative", "positive")
EACH = 500  # points of a class in either split
CENTRES = (140, 190)  # of both channels
SPREAD = 25  # the farthest that each of two random moves goes
SEED = 0  # apart from params.yaml's seed: the points are the same for every run


def fetch(source: str, folder: Path) -> None:
    """Write the points into `folder`, one file per split: x and y, a byte each, of all negatives, then of all positives."""
    generator = np.random.default_rng(SEED)
    for split in ("train", "test"):
        places = np.repeat(np.array(CENTRES, np.uint8), EACH)[:, None].repeat(2, axis=1)
        for _ in range(2):
            places = noisy(generator, places, SPREAD)
        write_bytes(folder / f"{split}.bin", places.tobytes())


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the points into arrays; the same files, fraction and seed give the same arrays.

    Raises:
        DataError: a file is missing or is not what it should be.
    """
    train, test = (_read(folder / f"{split}.bin") for split in ("train", "test"))
    validation = stratified_split(train.labels, validation_fraction, seed)
    return PackedDataset("points", source, CLASSES, train, validation, test)


def _read(path: Path) -> Split:
    data = read_bytes(path, FETCH)
    labels = np.arange(len(CLASSES)).repeat(EACH)
    if len(data) != 2 * len(labels):
        raise DataError(f"{path}: damaged, it does not hold {len(labels)} points. {FETCH_AGAIN}")
    return Split(np.frombuffer(data, np.uint8).reshape(-1, 2, 1, 1).copy(), labels)
