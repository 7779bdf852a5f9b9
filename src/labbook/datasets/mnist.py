"""MNIST (LeCun, Cortes and Burges, 1998); without download, the digits that scikit-learn ships stand in for it.

Embedded: the 1,797 digits of the UCI "Optical Recognition of Handwritten Digits" test set, 8×8 pixels of 17 grey
levels, scaled to 20×20 and centred in 28×28 as MNIST's digits are; a fifth of each class is the test set.
"""

import gzip
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labbook.download import Remote, obtain
from labbook.errors import DataError
from labbook.files import read_bytes, replace
from labbook.packed import Packed, Split, carve_validation

__all__ = ["CLASSES", "fetch", "prepare"]

CLASSES = tuple(str(digit) for digit in range(10))
FOLDER = "MNIST/raw"
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "http://yann.lecun.com/exdb/mnist",
)
FILES = {
    "train_images": Remote("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", FOLDER),
    "train_labels": Remote("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", FOLDER),
    "test_images": Remote("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", FOLDER),
    "test_labels": Remote("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", FOLDER),
}
EMBEDDED_FILE = "digits.npz"
EMBEDDED_TEST_FRACTION = 0.2
EMBEDDED_SPLIT_SEED = 0  # apart from params.yaml's seed: the test set stays the same for every run


def fetch(source: str, folder: Path) -> None:
    """Put the raw files into `folder`.

    Raises:
        DataError: they cannot be had; the message says what was tried.
    """
    if source == "official":
        for remote in FILES.values():
            obtain(remote, MIRRORS, folder / remote.name)
        return
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)
    replace(folder / EMBEDDED_FILE, lambda part: _save_npz(part, images, labels))


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> Packed:
    """Turn the raw files into arrays; the same ones for the same files, fraction and seed.

    Raises:
        DataError: a raw file is missing or is not what it should be.
    """
    train, test = _read_official(folder) if source == "official" else _read_embedded(folder)
    validation = carve_validation(train.labels, validation_fraction, seed)
    return Packed("mnist", source, CLASSES, train, validation, test)


def _read_official(folder: Path) -> tuple[Split, Split]:
    arrays = {name: read_idx(folder / remote.name) for name, remote in FILES.items()}
    splits = []
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DataError(f"{folder}: {part} has images {images.shape} and labels {labels.shape}, which do not fit.")
        if labels.size and labels.max() >= len(CLASSES):
            raise DataError(f"{folder}: {part} has the label {labels.max()}, and MNIST's are 0 to {len(CLASSES) - 1}.")
        splits.append(Split(images[:, None], labels.astype(np.int64)))
    return splits[0], splits[1]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes: two zero bytes, the type 8, the rank, each size, the values.

    Raises:
        DataError: the file is missing, truncated or of another format.
    """
    packed = read_bytes(path, "Run `dvc repro fetch@mnist`.")
    try:
        data = gzip.decompress(packed)
        zeros, kind, rank = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{rank}I", data, 4)
        values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * rank)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise DataError(
            f"{path}: damaged, no gzipped IDX file ({error}). Remove it and run `dvc repro fetch@mnist`."
        ) from error
    if (zeros, kind) != (0, 8) or values.size != np.prod(shape):
        raise DataError(f"{path}: holds {values.size} values for the shape {shape}. Remove it and run `dvc repro fetch@mnist`.")
    return values.reshape(shape)


def _read_embedded(folder: Path) -> tuple[Split, Split]:
    path = folder / EMBEDDED_FILE
    try:
        with np.load(path) as file:
            small, labels = file["images"], file["labels"]
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise DataError(f"{path}: missing or damaged ({error}). Run `dvc repro fetch@mnist`.") from error
    if small.ndim != 3 or small.shape[1:] != (8, 8) or labels.shape != small.shape[:1]:
        raise DataError(f"{path}: holds images {small.shape} and labels {labels.shape}. Run `dvc repro fetch@mnist`.")
    images = np.stack([_as_mnist(image) for image in small])[:, None]
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[carve_validation(labels, EMBEDDED_TEST_FRACTION, EMBEDDED_SPLIT_SEED)] = True
    return Split(images[~is_test], labels[~is_test]), Split(images[is_test], labels[is_test])


def _as_mnist(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale 8×8 values in [0, 16] to 20×20 bytes and centre them in 28×28. Pillow resizes bytes in integers: exact."""
    from PIL import Image

    grey = (image.astype(np.uint16) * 255 // 16).astype(np.uint8)
    scaled = np.asarray(Image.fromarray(grey).resize((20, 20), Image.Resampling.BICUBIC))
    return np.pad(scaled, 4)


def _save_npz(part: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    with part.open("wb") as file:  # given a path, NumPy would add .npz to it
        np.savez(file, images=images, labels=labels)
