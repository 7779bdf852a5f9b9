"""MNIST (LeCun, Cortes and Burges, 1998); embedded data: the digits included in scikit-learn.

These are the 1,797 images of the UCI "Optical Recognition of Handwritten Digits" test set, 8×8 pixels with 17 grey levels,
scaled to 20×20 and centred in 28×28, as MNIST's digits are. A fifth of each class is the test set.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labbook.data.download import FIX_DAMAGED, FIX_MISSING, RemoteFile, fetch_file
from labbook.data.drawing import resize
from labbook.data.packed import PackedDataset, Split, stratified_split
from labbook.errors import DataError
from labbook.io import read_bytes, write_bytes

__all__ = ["CLASSES", "fetch", "prepare"]

CLASSES = tuple(str(digit) for digit in range(10))
FOLDER = "MNIST/raw"
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "http://yann.lecun.com/exdb/mnist",
)
FILES = {
    "train_images": RemoteFile("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", FOLDER),
    "train_labels": RemoteFile("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", FOLDER),
    "test_images": RemoteFile("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", FOLDER),
    "test_labels": RemoteFile("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", FOLDER),
}
EMBEDDED_FILES = ("digits-images-idx3-ubyte.gz", "digits-labels-idx1-ubyte.gz")
EMBEDDED_TEST_FRACTION = 0.2
EMBEDDED_SPLIT_SEED = 0  # not the seed of params.yaml: the test set is the same in every run


def fetch(source: str, folder: Path) -> None:
    """Write the raw files into `folder`.

    Raises:
        DataError: the published files are not available; the message lists what was tried.
    """
    if source == "official":
        for remote in FILES.values():
            fetch_file(remote, MIRRORS, folder / remote.name)
        return
    from sklearn.datasets import load_digits

    digits = load_digits()
    for name, values in zip(EMBEDDED_FILES, (digits.images, digits.target), strict=True):
        write_bytes(folder / name, to_idx(values.astype(np.uint8)))


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the raw files into arrays; the same files, fraction and seed give the same arrays.

    Raises:
        DataError: a raw file is missing or damaged.
    """
    train, test = _read_official(folder) if source == "official" else _read_embedded(folder)
    validation = stratified_split(train.labels, validation_fraction, seed)
    return PackedDataset("mnist", source, CLASSES, train, validation, test)


def _read_official(folder: Path) -> tuple[Split, Split]:
    train_images, train_labels = _read_pair(folder, FILES["train_images"].name, FILES["train_labels"].name)
    test_images, test_labels = _read_pair(folder, FILES["test_images"].name, FILES["test_labels"].name)
    return Split(train_images[:, None], train_labels), Split(test_images[:, None], test_labels)


def _read_embedded(folder: Path) -> tuple[Split, Split]:
    small_images, labels = _read_pair(folder, *EMBEDDED_FILES)
    images = np.stack([_scale_to_mnist(image) for image in small_images])[:, None]
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[stratified_split(labels, EMBEDDED_TEST_FRACTION, EMBEDDED_SPLIT_SEED)] = True
    return Split(images[~is_test], labels[~is_test]), Split(images[is_test], labels[is_test])


def _read_pair(folder: Path, images_name: str, labels_name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read images (N, H, W) and labels (N,), and check that there is one valid label per image."""
    images, labels = read_idx(folder / images_name), read_idx(folder / labels_name)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{folder / images_name}: images {images.shape} do not match labels {labels.shape}. {FIX_DAMAGED}")
    if labels.size and labels.max() >= len(CLASSES):
        raise DataError(f"{folder / labels_name}: has label {labels.max()}, expected at most {len(CLASSES) - 1}. {FIX_DAMAGED}")
    return images, labels.astype(np.int64)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes: two zero bytes, type code 8, number of axes, size of each axis, values.

    Raises:
        DataError: the file is missing, truncated or in another format.
    """
    compressed = read_bytes(path, FIX_MISSING)
    try:
        data = gzip.decompress(compressed)
        zeros, type_code, ndim = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{ndim}I", data, 4)
        values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * ndim)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise DataError(f"{path}: damaged, not a gzipped IDX file ({error}). {FIX_DAMAGED}") from error
    if (zeros, type_code) != (0, 8) or values.size != np.prod(shape):
        raise DataError(f"{path}: damaged, has {values.size} values, type {type_code} and shape {shape}. {FIX_DAMAGED}")
    return values.reshape(shape)


def to_idx(values: NDArray[np.uint8]) -> bytes:
    """Return the content of a gzipped IDX file; it has no timestamp, so the same values give the same bytes."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes(), mtime=0)


def _scale_to_mnist(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale an 8×8 image with values in [0, 16] to 20×20 and [0, 255], and centre it in 28×28."""
    grey = (image.astype(np.uint16) * 255 // 16).astype(np.uint8)
    return np.pad(resize(grey, 20, 20), 4)
