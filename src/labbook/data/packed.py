"""A prepared dataset: one safetensors file with images, labels, the validation split and a checksum of the content."""

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
from labbook.io import write_atomically

__all__ = ["PackedDataset", "Split", "read_packed", "stratified_split", "write_packed"]

ARRAYS = ("train_images", "train_labels", "validation", "test_images", "test_labels")


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W), uint8, and their labels: one per image, (N,), int64, or one per pixel, (N, H, W), uint8."""

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
        classes: class names, in the order of the labels.
        train: the whole training set, including the validation split.
        validation: sorted indices of the validation split in `train`; experiments decide whether to hold it out.
        test: the test set.
        digest: sha256 of the content of the file; empty if the dataset was not read from a file.
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

    def train_val_split(self) -> tuple[Split, Split]:
        """Split the training set into the training split and the validation split."""
        in_train = np.ones(len(self.train), dtype=bool)
        in_train[self.validation] = False
        images, labels = self.train.images, self.train.labels
        return Split(images[in_train], labels[in_train]), Split(images[~in_train], labels[~in_train])


def stratified_split(labels: NDArray[np.integer[Any]], fraction: float, seed: int) -> NDArray[np.int64]:
    """Draw a stratified validation split and return its sorted indices; the same seed gives the same indices.

    Its size is the fraction of all samples, rounded, and distributed over the classes by the largest-remainder method.

    Args:
        labels: (N,), class indices.
        fraction: fraction of the samples.
        seed: seed of NumPy's PCG64.

    Raises:
        DataError: the fraction is so small that a class would have no sample in the validation split.
    """
    generator = np.random.default_rng(seed)
    classes, class_sizes = np.unique(labels, return_counts=True)
    selected = []
    for label, size, count in zip(classes, class_sizes, _apportion(class_sizes, fraction), strict=True):
        if not count:
            raise DataError(
                f"validation_fraction: {fraction} selects none of the {size} samples of class {label}. Increase it."
            )
        selected.append(generator.permutation(np.flatnonzero(labels == label))[:count])
    return np.sort(np.concatenate(selected))


def _apportion(class_sizes: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return the number of samples to draw from each class, by the largest-remainder method."""
    quotas = fraction * class_sizes
    counts: NDArray[np.int64] = np.floor(quotas).astype(np.int64)
    unassigned = round(fraction * int(class_sizes.sum())) - int(counts.sum())
    counts[np.argsort(counts - quotas, kind="stable")[:unassigned]] += 1
    return counts


def write_packed(path: Path, packed: PackedDataset) -> None:
    """Write a dataset atomically; the same content gives the same bytes."""
    train, test = packed.train, packed.test
    values = (train.images, train.labels, packed.validation, test.images, test.labels)
    arrays = {name: np.ascontiguousarray(value) for name, value in zip(ARRAYS, values, strict=True)}
    attributes = {"name": packed.name, "source": packed.source, "classes": packed.classes}
    # A single metadata key, because safetensors writes several in random order.
    metadata = {"labbook": json.dumps(attributes | {"sha256": _digest(attributes, arrays.values())})}
    write_atomically(path, lambda temporary: _save_arrays(temporary, arrays, metadata))


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
            attributes = json.loads(file.metadata()["labbook"])
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
        expected, actual = attributes.pop("sha256"), _digest(attributes, arrays.values())
    except (SafetensorError, OSError, AttributeError, TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: damaged, not a prepared dataset ({error}). {fix}") from error
    if actual != expected:
        raise DataError(f"{path}: damaged, its content has sha256 {actual[:12]}…, expected {expected[:12]}…. {fix}")
    return PackedDataset(
        name=attributes["name"],
        source=attributes["source"],
        classes=tuple(attributes["classes"]),
        train=Split(arrays["train_images"], arrays["train_labels"]),
        validation=arrays["validation"],
        test=Split(arrays["test_images"], arrays["test_labels"]),
        digest=actual,
    )


def _save_arrays(path: Path, arrays: dict[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    path.touch()
    mode = path.stat().st_mode
    try:
        safetensors.numpy.save_file(arrays, path, metadata=metadata)  # writes array by array, without a copy in memory
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
    path.chmod(mode)  # safetensors ignores the umask and makes the file readable only by its owner


def _digest(attributes: dict[str, Any], arrays: Iterable[NDArray[Any]]) -> str:
    sha256 = hashlib.sha256(json.dumps(attributes).encode())
    for array in arrays:
        sha256.update(f"{array.dtype}{array.shape}".encode())
        sha256.update(array.data)
    return sha256.hexdigest()
