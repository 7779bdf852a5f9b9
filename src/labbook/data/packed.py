"""A prepared dataset: one safetensors file with images, labels and validation split, and a checksum of its content."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from labbook.config.components import names
from labbook.errors import DataError
from labbook.io import replace

__all__ = ["PackedDataset", "Split", "read_packed", "stratified_split", "write_packed"]

ARRAYS = ("train_images", "train_labels", "validation", "test_images", "test_labels")


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W), uint8, and their labels: (N,), int64, or one per pixel (N, H, W), uint8."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PackedDataset:
    """A dataset ready for training.

    Attributes:
        name: its name in `params.yaml`.
        source: `official` or `embedded`.
        classes: their names.
        train: the whole training set, the validation split included.
        validation: sorted indices into `train` that an experiment may hold out.
        test: the test set.
        digest: sha256 of the file's content; empty before it is written.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    train: Split
    validation: NDArray[np.int64]
    test: Split
    digest: str = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of one image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def held_out(self) -> tuple[Split, Split]:
        """Split the training set into the training split and the validation split."""
        kept = np.ones(len(self.train), dtype=bool)
        kept[self.validation] = False
        images, labels = self.train.images, self.train.labels
        return Split(images[kept], labels[kept]), Split(images[~kept], labels[~kept])


def stratified_split(labels: NDArray[np.integer[Any]], fraction: float, seed: int) -> NDArray[np.int64]:
    """Draw a validation split with the same fraction of every class, and return its sorted indices.

    Its size is the fraction of all samples, rounded, and distributed over the classes by the largest-remainder method. The same
    seed gives the same indices.

    Args:
        labels: (N,) class numbers.
        fraction: fraction of the samples.
        seed: seed of NumPy's PCG64.

    Raises:
        DataError: the fraction is so small that a class would have no sample in the validation split.
    """
    generator = np.random.default_rng(seed)
    classes, members = np.unique(labels, return_counts=True)
    drawn = []
    for label, size, count in zip(classes, members, _quotas(members, fraction), strict=True):
        if not count:
            raise DataError(
                f"validation_fraction: {fraction} selects none of the {size} samples of class {label}. Increase it."
            )
        drawn.append(generator.permutation(np.flatnonzero(labels == label))[:count])
    return np.sort(np.concatenate(drawn))


def _quotas(members: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return how many samples of each class to draw, given how many each class has."""
    quotas = fraction * members
    counts: NDArray[np.int64] = np.floor(quotas).astype(np.int64)
    missing = round(fraction * int(members.sum())) - int(counts.sum())
    counts[np.argsort(counts - quotas, kind="stable")[:missing]] += 1
    return counts


def write_packed(path: Path, packed: PackedDataset) -> None:
    """Write the file atomically; the same content gives the same bytes."""
    train, test = packed.train, packed.test
    values = (train.images, train.labels, packed.validation, test.images, test.labels)
    arrays = {name: np.ascontiguousarray(value) for name, value in zip(ARRAYS, values, strict=True)}
    about = {"name": packed.name, "source": packed.source, "classes": packed.classes}
    # One metadata key: safetensors writes several in random order.
    metadata = {"labbook": json.dumps(about | {"sha256": _digest(about, arrays.values())})}
    replace(path, lambda part: _save(part, arrays, metadata))


def read_packed(path: Path) -> PackedDataset:
    """Read a prepared dataset and verify its checksum.

    Raises:
        DataError: the file is missing, truncated or altered.
    """
    stage = "derive" if path.stem in names("derived") else "prepare"
    fix = f"Run `dvc repro {stage}@{path.stem}` to create it again."
    if not path.is_file():
        raise DataError(f"{path}: not found. {fix}")
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["labbook"])
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
        published, found = about.pop("sha256"), _digest(about, arrays.values())
    except (SafetensorError, OSError, AttributeError, TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: corrupt, not a prepared dataset ({error}). {fix}") from error
    if found != published:
        raise DataError(f"{path}: corrupt, its content has sha256 {found[:12]}…, expected {published[:12]}…. {fix}")
    return PackedDataset(
        name=about["name"],
        source=about["source"],
        classes=tuple(about["classes"]),
        train=Split(arrays["train_images"], arrays["train_labels"]),
        validation=arrays["validation"],
        test=Split(arrays["test_images"], arrays["test_labels"]),
        digest=found,
    )


def _save(part: Path, arrays: dict[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    part.touch()
    mode = part.stat().st_mode
    try:
        safetensors.numpy.save_file(arrays, part, metadata=metadata)  # array by array: no second copy in memory
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
    part.chmod(mode)  # safetensors ignores the umask and makes the file readable only for its owner


def _digest(about: dict[str, Any], arrays: Iterable[NDArray[Any]]) -> str:
    sha256 = hashlib.sha256(json.dumps(about).encode())
    for array in arrays:
        sha256.update(f"{array.dtype}{array.shape}".encode())
        sha256.update(array.data)
    return sha256.hexdigest()
