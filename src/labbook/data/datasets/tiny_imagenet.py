"""Tiny ImageNet (Stanford CS231n, from Deng et al., "ImageNet", 2009); drawn shapes with textures stand in for it.

The raw file is a zip archive in the published layout. The published test images have no public labels, so the published
validation set is our test set, and our validation split is part of the published training set.

Embedded data: 1,000 training and 200 test images of 64×64 pixels, each with one of five shapes in one of two textures: 10
classes. Their archive has the same layout and a different name.
"""

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labbook.data.download import FETCH, FETCH_AGAIN, Remote, in_data_root, obtain
from labbook.data.drawing import lighter_or_darker, noisy, shape_masks, textures, tinted
from labbook.data.packed import PackedDataset, Split, stratified_split
from labbook.errors import DataError
from labbook.io import read_bytes, replace

__all__ = ["fetch", "prepare"]

FOLDER = "tiny-imagenet-200"
ARCHIVE = Remote(f"{FOLDER}.zip", "90528d7ca1a48142e341f4ef8d21d0de", ".")
MIRRORS = ("http://cs231n.stanford.edu", "https://cs231n.stanford.edu")
WNIDS, WORDS, ANNOTATIONS = "wnids.txt", "words.txt", "val/val_annotations.txt"
SIZE = 64
BLOCK = 500  # images that one thread decodes at a time
IMAGES_BETWEEN_LINES = 10_000
NO_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip archive can hold

DRAWN_ARCHIVE = "drawn.zip"
DRAWN_SHAPES = ("disc", "square", "triangle", "cross", "hourglass")
DRAWN_TEXTURES = {"plain": "plain", "checked": "checks"}
DRAWN_CLASSES = tuple((shape, texture) for shape in DRAWN_SHAPES for texture in DRAWN_TEXTURES)
DRAWN_SEED = 0  # not the seed of params.yaml: the images are the same in every run
DRAWN_IN_TRAIN, DRAWN_IN_TEST = 1000, 200


def fetch(source: str, folder: Path) -> None:
    """Fetch the archive into `folder`; an unpacked archive in the data root is checked and packed again.

    Raises:
        DataError: no source has it, or the unpacked one is damaged; the message says what was tried and found.
    """
    if source == "embedded":
        write_archive(folder / DRAWN_ARCHIVE, _drawn_members())
        return
    unpacked = in_data_root(FOLDER)
    if unpacked is not None and in_data_root(ARCHIVE.name) is None:
        contents = Contents.of_folder(unpacked)
        contents.splits()  # without a checksum, only reading all of it shows what is missing or damaged
        write_archive(folder / ARCHIVE.name, contents.members())
    else:
        obtain(ARCHIVE, MIRRORS, folder / ARCHIVE.name)


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the archive into arrays; the same file, fraction and seed give the same arrays.

    Raises:
        DataError: the archive is missing or damaged.
    """
    path = folder / (ARCHIVE.name if source == "official" else DRAWN_ARCHIVE)
    if not path.is_file():
        raise DataError(f"{path}: not found. {FETCH}")
    try:
        with zipfile.ZipFile(path) as archive:
            contents = Contents.of_archive(path, archive)
            train, test = contents.splits()
            classes = contents.class_names()
    # What zipfile raises for an archive that is damaged, encrypted, or compressed by an unknown method.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: damaged, not a zip archive of Tiny ImageNet ({error}). {FETCH_AGAIN}") from error
    validation = stratified_split(train.labels, validation_fraction, seed)
    return PackedDataset("tiny_imagenet", source, classes, train, validation, test)


class Contents:
    """The content of the archive, zipped or unpacked; paths begin with its top folder.

    Attributes:
        places: paths of the files, sorted.
        read: returns the bytes of a file.
        where: prefix of a path in messages.
        fix: how to fix the problem, for messages.
        wnids: the WordNet IDs of the classes, in the order of `wnids.txt`.
        labels: the index of each WordNet ID in that order.
    """

    def __init__(self, places: Iterable[PurePosixPath], read: Callable[[PurePosixPath], bytes], where: str, fix: str) -> None:
        self.places = sorted(places)
        self.read = read
        self.where = where
        self.fix = fix
        for place in self.places:
            if place.is_absolute() or ".." in place.parts:
                raise self.error(place, "points outside the archive")
        self.wnids = self.text(WNIDS).split()
        self.labels = {wnid: label for label, wnid in enumerate(self.wnids)}

    @classmethod
    def of_archive(cls, path: Path, archive: zipfile.ZipFile) -> Self:
        """Return the contents of an open zip archive."""
        names = {PurePosixPath(name): name for name in archive.namelist() if not name.endswith("/")}
        return cls(names, lambda place: archive.read(names[place]), f"{path}: ", FETCH_AGAIN)

    @classmethod
    def of_folder(cls, unpacked: Path) -> Self:
        """Return the contents of an unpacked archive, without the files that `prepare` does not need."""
        above, fix = unpacked.parent, f"Unpack {ARCHIVE.name} there again, or remove {unpacked} to download it."
        patterns = (WNIDS, WORDS, ANNOTATIONS, "train/*/images/*.JPEG", "val/images/*.JPEG")
        places = [PurePosixPath(file.relative_to(above)) for pattern in patterns for file in unpacked.glob(pattern)]
        return cls(places, lambda place: read_bytes(above / place, fix), f"{above}/", fix)

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield each file with its path below the top folder."""
        for place in self.places:
            yield str(place.relative_to(FOLDER)), self.read(place)

    def splits(self) -> tuple[Split, Split]:
        """Decode the training and the test set."""
        train, test = self.train_images(), self.test_images()
        return self.decode_all(train), self.decode_all(test)

    def class_names(self) -> tuple[str, ...]:
        """Return each class's first word in `words.txt`, with its WordNet ID if not unique; only the ID if it is missing."""
        lines = self.text(WORDS).splitlines() if PurePosixPath(FOLDER, WORDS) in self.places else []
        words = {wnid: names.split(",")[0].strip() for wnid, _, names in (line.partition("\t") for line in lines)}
        firsts = [words.get(wnid) or wnid for wnid in self.wnids]
        count = Counter(firsts)
        return tuple(
            first if count[first] == 1 else f"{first} ({wnid})" for first, wnid in zip(firsts, self.wnids, strict=True)
        )

    def train_images(self) -> list[tuple[PurePosixPath, int]]:
        """List the files `train/<wnid>/images/<name>` with their labels."""
        found = [
            (place, self.label(place.parts[2], place))
            for place in self.places
            if place.match(f"{FOLDER}/train/*/images/*") and len(place.parts) == 5
        ]
        full = {label for _, label in found}
        for wnid, label in self.labels.items():
            if label not in full:
                raise self.error(f"{FOLDER}/train/{wnid}/images", f"has no image, but {WNIDS} lists its class")
        return found

    def test_images(self) -> list[tuple[PurePosixPath, int]]:
        """List the files `val/images/<name>` with the labels that `val_annotations.txt` gives them."""
        lines = [line.split("\t") for line in self.text(ANNOTATIONS).splitlines()]
        annotated = {fields[0]: fields[1] for fields in lines if len(fields) > 1}
        found = []
        for place in self.places:
            if place.parent == PurePosixPath(FOLDER, "val/images"):
                if place.name not in annotated:
                    raise self.error(place, f"has no line in {ANNOTATIONS}")
                found.append((place, self.label(annotated.pop(place.name), place)))
        if annotated:
            raise self.error(f"{FOLDER}/val/images/{min(annotated)}", f"is missing, but has a line in {ANNOTATIONS}")
        return found

    def decode_all(self, listed: Sequence[tuple[PurePosixPath, int]]) -> Split:
        """Decode images into (N, 3, 64, 64), in several threads: Pillow releases Python's lock while it decodes."""
        images = np.empty((len(listed), 3, SIZE, SIZE), dtype=np.uint8)

        def read_block(start: int) -> int:
            block = range(start, min(start + BLOCK, len(listed)))
            for index in block:
                images[index] = self.decode(listed[index][0])
            return block.stop

        with ThreadPoolExecutor() as threads:
            for done in threads.map(read_block, range(0, len(listed), BLOCK)):
                if done % IMAGES_BETWEEN_LINES == 0:
                    print(f"tiny_imagenet: {done:,} of {len(listed):,} images decoded", flush=True)
        return Split(images, np.array([label for _, label in listed], dtype=np.int64))

    def decode(self, place: PurePosixPath) -> NDArray[np.uint8]:
        """Decode one image to (3, 64, 64); a grey image gets three equal channels."""
        data = self.read(place)
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PPM")) as image:
                if image.size != (SIZE, SIZE):
                    raise self.error(place, f"has {image.width}×{image.height} pixels instead of {SIZE}×{SIZE}")
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise self.error(place, "cannot be decoded") from error

    def label(self, wnid: str, place: PurePosixPath) -> int:
        """Return the label of a class; `place` is the path of its image, for messages."""
        if wnid not in self.labels:
            raise self.error(place, f"is of the class {wnid!r}, which {WNIDS} does not list")
        return self.labels[wnid]

    def text(self, name: str) -> str:
        """Read a UTF-8 text file."""
        place = PurePosixPath(FOLDER, name)
        if place not in self.places:
            raise self.error(place, "is missing")
        try:
            return self.read(place).decode()
        except UnicodeDecodeError as error:
            raise self.error(place, "is not UTF-8 text") from error

    def error(self, place: PurePosixPath | str, found: str) -> DataError:
        """Return an error that says what is wrong with a file or folder and how to fix it."""
        return DataError(f"{self.where}{place} {found}. {self.fix}")


def write_archive(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write (path below the top folder, content) pairs uncompressed and undated: the same ones give the same bytes."""

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name, content in members:
                about = zipfile.ZipInfo(f"{FOLDER}/{name}", NO_DATE)
                about.create_system, about.external_attr = 3, 0o644 << 16  # Unix, and its permissions
                archive.writestr(about, content)

    replace(path, write)


def _drawn_members() -> Iterator[tuple[str, bytes]]:
    wnids = [f"n{number:08}" for number in range(len(DRAWN_CLASSES))]
    words = [f"{wnid}\t{texture} {shape}\n" for wnid, (shape, texture) in zip(wnids, DRAWN_CLASSES, strict=True)]
    yield WNIDS, "".join(f"{wnid}\n" for wnid in wnids).encode()
    yield WORDS, "".join(words).encode()
    generator = np.random.default_rng(DRAWN_SEED)
    for number, (label, image) in enumerate(_drawn(generator, DRAWN_IN_TRAIN)):
        yield f"train/{wnids[label]}/images/{wnids[label]}_{number}.ppm", image
    annotations = ""
    for number, (label, image) in enumerate(_drawn(generator, DRAWN_IN_TEST)):
        annotations += f"val_{number}.ppm\t{wnids[label]}\t0\t0\t{SIZE - 1}\t{SIZE - 1}\n"
        yield f"val/images/val_{number}.ppm", image
    yield ANNOTATIONS, annotations.encode()


def _drawn(generator: np.random.Generator, count: int) -> Iterator[tuple[int, bytes]]:
    """Draw the same number of images of each class, as PPM files, whose bytes depend on no library."""
    labels = np.arange(len(DRAWN_CLASSES))
    for _ in range(count // len(labels)):
        for label, image in zip(labels, _draw(generator, labels), strict=True):
            yield int(label), f"P6 {SIZE} {SIZE} 255\n".encode() + image.transpose(1, 2, 0).tobytes()


def _draw(generator: np.random.Generator, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw one image per label, (N, 3, 64, 64). Shape and texture depend on the class; colours and positions do not."""
    count = len(labels)
    shapes, kinds = zip(*(DRAWN_CLASSES[label] for label in labels), strict=True)
    inside = shape_masks(generator, shapes, SIZE, radii=(16, 26))
    object_ = textures(generator, [DRAWN_TEXTURES[kind] for kind in kinds], SIZE)
    ground = textures(generator, [("plain", "gradient", "blotches")[kind] for kind in generator.integers(3, size=count)], SIZE)

    ground_colour = generator.integers(80, 176, (count, 3))
    object_colour = lighter_or_darker(generator, ground_colour, 60, 80)
    ground_image = tinted(ground, ground_colour, lighter_or_darker(generator, ground_colour, 0, 40))
    object_image = tinted(object_, object_colour, lighter_or_darker(generator, object_colour, 30, 50))
    return noisy(generator, np.where(inside[:, None], object_image, ground_image), 20)
