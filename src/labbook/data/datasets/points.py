"""Points of two classes in the plane: two slightly overlapping clusters, the same for both data sources.

A point is an image of one pixel whose two channels are its coordinates, one byte each. Preprocessing maps the middle of the
byte range to zero, so most coordinates are positive. A gradient step on one point then shifts a unit's pre-activation in the
same direction for most other points, which is how ReLUs die.
"""

from pathlib import Path

import numpy as np

from labbook.data.download import FIX_DAMAGED, FIX_MISSING
from labbook.data.drawing import add_noise
from labbook.data.packed import PackedDataset, Split, stratified_split
from labbook.errors import DataError
from labbook.io import read_bytes, write_bytes

__all__ = ["CLASSES", "fetch", "prepare"]

CLASSES = ("negative", "positive")
POINTS_PER_CLASS = 500  # in each split
CENTRES = (140, 190)  # of each cluster, in both channels
NOISE_AMPLITUDE = 25  # uniform noise is added twice, so clusters are densest at their centres
SEED = 0  # not the seed of params.yaml: the points are the same in every run


def fetch(source: str, folder: Path) -> None:
    """Write the points into `folder`, one file per split: x and y as one byte each, first all negatives, then all positives."""
    generator = np.random.default_rng(SEED)
    for split in ("train", "test"):
        coordinates = np.repeat(np.array(CENTRES, np.uint8), POINTS_PER_CLASS)[:, None].repeat(2, axis=1)
        for _ in range(2):
            coordinates = add_noise(generator, coordinates, NOISE_AMPLITUDE)
        write_bytes(folder / f"{split}.bin", coordinates.tobytes())


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the points into arrays; the same files, fraction and seed give the same arrays.

    Raises:
        DataError: a file is missing or damaged.
    """
    train, test = (_read_split(folder / f"{split}.bin") for split in ("train", "test"))
    validation = stratified_split(train.labels, validation_fraction, seed)
    return PackedDataset("points", source, CLASSES, train, validation, test)


def _read_split(path: Path) -> Split:
    data = read_bytes(path, FIX_MISSING)
    labels = np.arange(len(CLASSES)).repeat(POINTS_PER_CLASS)
    if len(data) != 2 * len(labels):
        raise DataError(f"{path}: damaged, expected {len(labels)} points in {2 * len(labels)} bytes. {FIX_DAMAGED}")
    return Split(np.frombuffer(data, np.uint8).reshape(-1, 2, 1, 1).copy(), labels)
