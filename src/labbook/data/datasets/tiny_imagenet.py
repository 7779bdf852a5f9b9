"""Tiny ImageNet (Stanford CS231n, a subset of Deng et al., "ImageNet", 2009); embedded data: synthetic textured shapes.

The raw file is a zip archive in the published layout. The labels of the published test images are not public, so the
published validation set is our test set, and our validation split is part of the published training set.

The embedded data are 1,000 training and 200 test images of 64×64 pixels. Each of the ten classes is one of five shapes with
one of two textures. The archive has the same layout and a different name.
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

from labbook.data.download import FIX_DAMAGED, FIX_MISSING, RemoteFile, fetch_file, find_in_data_root
from labbook.data.drawing import add_noise, apply_colormap, draw_shape_masks, draw_textures, shift_brightness
from labbook.data.packed import PackedDataset, Split, stratified_split
from labbook.errors import DataError
from labbook.io import read_bytes, write_atomically

__all__ = ["fetch", "prepare"]

FOLDER = "tiny-imagenet-200"
ARCHIVE = RemoteFile(f"{FOLDER}.zip", "90528d7ca1a48142e341f4ef8d21d0de", ".")
MIRRORS = ("http://cs231n.stanford.edu", "https://cs231n.stanford.edu")
WNIDS, WORDS, ANNOTATIONS = "wnids.txt", "words.txt", "val/val_annotations.txt"
SIZE = 64
DECODE_BATCH = 500  # images that one thread decodes at a time
PROGRESS_INTERVAL = 10_000  # images between two lines of progress output
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # of every file in the archive: the earliest one that the zip format can represent

EMBEDDED_ARCHIVE = "drawn.zip"
EMBEDDED_SHAPES = ("disc", "square", "triangle", "cross", "hourglass")
EMBEDDED_TEXTURES = {"plain": "plain", "checked": "checks"}  # name in the class name: key of TEXTURES
BACKGROUND_TEXTURES = ("plain", "gradient", "blotches")
EMBEDDED_CLASSES = tuple((shape, texture) for shape in EMBEDDED_SHAPES for texture in EMBEDDED_TEXTURES)
EMBEDDED_SEED = 0  # not the seed of params.yaml: the images are the same in every run
EMBEDDED_TRAIN_SIZE, EMBEDDED_TEST_SIZE = 1000, 200


def fetch(source: str, folder: Path) -> None:
    """Write the archive into `folder`; if the data root has it only unpacked, verify the files and pack them again.

    Raises:
        DataError: the archive is not available, or the unpacked files are damaged; the message gives the details.
    """
    if source == "embedded":
        write_archive(folder / EMBEDDED_ARCHIVE, _generate_members())
        return
    unpacked = find_in_data_root(FOLDER)
    if unpacked is not None and find_in_data_root(ARCHIVE.name) is None:
        contents = ArchiveContents.from_folder(unpacked)
        contents.read_splits()  # there is no checksum, so decode all images to detect missing or damaged files
        write_archive(folder / ARCHIVE.name, contents.members())
    else:
        fetch_file(ARCHIVE, MIRRORS, folder / ARCHIVE.name)


def prepare(folder: Path, source: str, validation_fraction: float, seed: int) -> PackedDataset:
    """Read the archive into arrays; the same file, fraction and seed give the same arrays.

    Raises:
        DataError: the archive is missing or damaged.
    """
    path = folder / (ARCHIVE.name if source == "official" else EMBEDDED_ARCHIVE)
    if not path.is_file():
        raise DataError(f"{path}: not found. {FIX_MISSING}")
    try:
        with zipfile.ZipFile(path) as archive:
            contents = ArchiveContents.from_archive(path, archive)
            train, test = contents.read_splits()
            classes = contents.class_names()
    # zipfile raises these if the archive is damaged, encrypted or compressed by an unsupported method.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: damaged, not a zip archive of Tiny ImageNet ({error}). {FIX_DAMAGED}") from error
    validation = stratified_split(train.labels, validation_fraction, seed)
    return PackedDataset("tiny_imagenet", source, classes, train, validation, test)


class ArchiveContents:
    """The files of the archive, packed or unpacked; their paths begin with its top folder.

    Attributes:
        paths: paths of the files, sorted.
        read: returns the content of a file.
        prefix: prefix of a path in error messages.
        fix: end of an error message, which says how to fix the problem.
        wnids: the WordNet IDs of the classes, in the order of `wnids.txt`.
        labels: the label of each WordNet ID: its index in `wnids`.
    """

    def __init__(self, paths: Iterable[PurePosixPath], read: Callable[[PurePosixPath], bytes], prefix: str, fix: str) -> None:
        self.paths = sorted(paths)
        self.read = read
        self.prefix = prefix
        self.fix = fix
        for path in self.paths:
            if path.is_absolute() or ".." in path.parts:
                raise self.error(path, "points outside the archive")
        self.wnids = self.read_text(WNIDS).split()
        self.labels = {wnid: label for label, wnid in enumerate(self.wnids)}

    @classmethod
    def from_archive(cls, path: Path, archive: zipfile.ZipFile) -> Self:
        """Return the contents of an open zip archive."""
        names = {PurePosixPath(name): name for name in archive.namelist() if not name.endswith("/")}
        return cls(names, lambda member: archive.read(names[member]), f"{path}: ", FIX_DAMAGED)

    @classmethod
    def from_folder(cls, unpacked: Path) -> Self:
        """Return the contents of an unpacked archive, limited to the files that `prepare` needs."""
        root, fix = unpacked.parent, f"Unpack {ARCHIVE.name} there again, or remove {unpacked} to download it."
        patterns = (WNIDS, WORDS, ANNOTATIONS, "train/*/images/*.JPEG", "val/images/*.JPEG")
        paths = [PurePosixPath(file.relative_to(root)) for pattern in patterns for file in unpacked.glob(pattern)]
        return cls(paths, lambda path: read_bytes(root / path, fix), f"{root}/", fix)

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path below the top folder and the content of each file."""
        for path in self.paths:
            yield str(path.relative_to(FOLDER)), self.read(path)

    def read_splits(self) -> tuple[Split, Split]:
        """Decode the training set and the test set."""
        train, test = self.list_train_images(), self.list_test_images()
        return self.decode_all(train), self.decode_all(test)

    def class_names(self) -> tuple[str, ...]:
        """Return the first name of each class in `words.txt`, or its WordNet ID if it has none.

        If several classes have the same first name, the WordNet ID is appended.
        """
        lines = self.read_text(WORDS).splitlines() if PurePosixPath(FOLDER, WORDS) in self.paths else []
        first_names = {wnid: names.split(",")[0].strip() for wnid, _, names in (line.partition("\t") for line in lines)}
        classes = [first_names.get(wnid) or wnid for wnid in self.wnids]
        counts = Counter(classes)
        return tuple(name if counts[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(classes, self.wnids, strict=True))

    def list_train_images(self) -> list[tuple[PurePosixPath, int]]:
        """List the files `train/<wnid>/images/<name>` with their labels."""
        samples = [
            (path, self.label_of(path.parts[2], path))
            for path in self.paths
            if path.match(f"{FOLDER}/train/*/images/*") and len(path.parts) == 5
        ]
        labels_with_images = {label for _, label in samples}
        for wnid, label in self.labels.items():
            if label not in labels_with_images:
                raise self.error(f"{FOLDER}/train/{wnid}/images", f"has no image, but {WNIDS} lists its class")
        return samples

    def list_test_images(self) -> list[tuple[PurePosixPath, int]]:
        """List the files `val/images/<name>` with their labels in `val_annotations.txt`."""
        rows = [line.split("\t") for line in self.read_text(ANNOTATIONS).splitlines()]
        annotations = {row[0]: row[1] for row in rows if len(row) > 1}  # file name: WordNet ID
        samples = []
        for path in self.paths:
            if path.parent == PurePosixPath(FOLDER, "val/images"):
                if path.name not in annotations:
                    raise self.error(path, f"has no line in {ANNOTATIONS}")
                samples.append((path, self.label_of(annotations.pop(path.name), path)))
        if annotations:
            raise self.error(f"{FOLDER}/val/images/{min(annotations)}", f"is missing, but has a line in {ANNOTATIONS}")
        return samples

    def decode_all(self, samples: Sequence[tuple[PurePosixPath, int]]) -> Split:
        """Decode images into (N, 3, 64, 64) in several threads, because Pillow releases the GIL while it decodes."""
        images = np.empty((len(samples), 3, SIZE, SIZE), dtype=np.uint8)

        def decode_batch(start: int) -> int:
            batch = range(start, min(start + DECODE_BATCH, len(samples)))
            for index in batch:
                images[index] = self.decode(samples[index][0])
            return batch.stop

        with ThreadPoolExecutor() as threads:
            for decoded in threads.map(decode_batch, range(0, len(samples), DECODE_BATCH)):
                if decoded % PROGRESS_INTERVAL == 0:
                    print(f"tiny_imagenet: {decoded:,} of {len(samples):,} images decoded", flush=True)
        return Split(images, np.array([label for _, label in samples], dtype=np.int64))

    def decode(self, path: PurePosixPath) -> NDArray[np.uint8]:
        """Decode one image to (3, 64, 64); a grayscale image gets three equal channels."""
        data = self.read(path)
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PPM")) as image:
                if image.size != (SIZE, SIZE):
                    raise self.error(path, f"has {image.width}×{image.height} pixels, expected {SIZE}×{SIZE}")
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise self.error(path, "cannot be decoded") from error

    def label_of(self, wnid: str, path: PurePosixPath) -> int:
        """Return the label of a class; `path` is the image whose class it is, for the error message."""
        if wnid not in self.labels:
            raise self.error(path, f"has class {wnid!r}, which {WNIDS} does not list")
        return self.labels[wnid]

    def read_text(self, name: str) -> str:
        """Read a UTF-8 text file."""
        path = PurePosixPath(FOLDER, name)
        if path not in self.paths:
            raise self.error(path, "is missing")
        try:
            return self.read(path).decode()
        except UnicodeDecodeError as error:
            raise self.error(path, "is not UTF-8 text") from error

    def error(self, path: PurePosixPath | str, problem: str) -> DataError:
        """Return an error that states the problem with a file or folder and how to fix it."""
        return DataError(f"{self.prefix}{path} {problem}. {self.fix}")


def write_archive(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write an uncompressed archive atomically; the same members give the same bytes.

    Args:
        path: path of the archive.
        members: path below the top folder and content of each file.
    """

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, content in members:
                info = zipfile.ZipInfo(f"{FOLDER}/{name}", TIMESTAMP)
                info.create_system, info.external_attr = 3, 0o644 << 16  # Unix and its file permissions
                archive.writestr(info, content)

    write_atomically(path, write)


def _generate_members() -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file of the embedded archive."""
    wnids = [f"n{label:08}" for label in range(len(EMBEDDED_CLASSES))]
    words = [f"{wnid}\t{texture} {shape}\n" for wnid, (shape, texture) in zip(wnids, EMBEDDED_CLASSES, strict=True)]
    yield WNIDS, "".join(f"{wnid}\n" for wnid in wnids).encode()
    yield WORDS, "".join(words).encode()
    generator = np.random.default_rng(EMBEDDED_SEED)
    for number, (label, image) in enumerate(_generate_images(generator, EMBEDDED_TRAIN_SIZE)):
        yield f"train/{wnids[label]}/images/{wnids[label]}_{number}.ppm", image
    annotations = ""
    for number, (label, image) in enumerate(_generate_images(generator, EMBEDDED_TEST_SIZE)):
        annotations += f"val_{number}.ppm\t{wnids[label]}\t0\t0\t{SIZE - 1}\t{SIZE - 1}\n"
        yield f"val/images/val_{number}.ppm", image
    yield ANNOTATIONS, annotations.encode()


def _generate_images(generator: np.random.Generator, count: int) -> Iterator[tuple[int, bytes]]:
    """Yield labels and images, equally many of each class, as PPM files, whose bytes do not depend on a library version."""
    labels = np.arange(len(EMBEDDED_CLASSES))
    for _ in range(count // len(labels)):
        for label, image in zip(labels, _draw_images(generator, labels), strict=True):
            yield int(label), f"P6 {SIZE} {SIZE} 255\n".encode() + image.transpose(1, 2, 0).tobytes()


def _draw_images(generator: np.random.Generator, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw one image per label, (N, 3, 64, 64). Shape and texture depend on the class; colours and positions do not."""
    count = len(labels)
    shapes, texture_names = zip(*(EMBEDDED_CLASSES[label] for label in labels), strict=True)
    masks = draw_shape_masks(generator, shapes, SIZE, radius_range=(16, 26))
    object_levels = draw_textures(generator, [EMBEDDED_TEXTURES[name] for name in texture_names], SIZE)
    background_textures = [BACKGROUND_TEXTURES[index] for index in generator.integers(len(BACKGROUND_TEXTURES), size=count)]
    background_levels = draw_textures(generator, background_textures, SIZE)

    background_colours = generator.integers(80, 176, (count, 3))
    object_colours = shift_brightness(generator, background_colours, 60, 80)
    backgrounds = apply_colormap(background_levels, background_colours, shift_brightness(generator, background_colours, 0, 40))
    objects = apply_colormap(object_levels, object_colours, shift_brightness(generator, object_colours, 30, 50))
    return add_noise(generator, np.where(masks[:, None], objects, backgrounds), 20)
