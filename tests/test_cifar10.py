import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toolbox import count_distinct, dataset_sha256, mean_colour_accuracy, with_checksum_of

from labbook.data.datasets import cifar10
from labbook.data.datasets.cifar10 import BATCHES, CLASSES, EMBEDDED_BATCHES, EMBEDDED_CLASSES, FOLDER, read_batch
from labbook.errors import DataError, DownloadError, LabbookError

FIX = r"Remove it and run `dvc repro`\.$"
PREPARED_SHA256 = "b4e5bf0127e12de8759cb4bd09ee7f1a23fa79d329d49b3102743e3eb1183965"


def random_batch(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8), np.arange(count) % 10


def python_2_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Return a batch pickled like the published ones: with byte strings of Python 2 and a module name of NumPy 1."""

    def text(value: bytes) -> bytes:
        return pickle.BINSTRING + len(value).to_bytes(4, "little") + value

    data = images.reshape(len(images), -1)
    shape = b"".join(pickle.BININT + size.to_bytes(4, "little") for size in data.shape)
    byte_type = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array = empty + b"(K\x01" + shape + b"\x86" + byte_type + b"\x89" + text(data.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + text(b"batch_label") + text(b"one") + b"u."


def test_classes_are_in_the_order_of_the_published_labels():
    """The order is that of `batches.meta` in the archive."""
    assert cifar10.CLASSES == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip


@given(count=st.integers(1, 20), seed=st.integers(0, 9))
def test_read_batch_returns_images_and_labels(count, seed, tmp_path_factory):
    file = tmp_path_factory.mktemp("batch") / "data_batch_1"
    images, labels = random_batch(count, seed)
    batch = python_2_batch(images, labels)
    file.write_bytes(batch)
    split = read_batch(file, hashlib.md5(batch).hexdigest())
    assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
    assert np.array_equal(split.images, images)
    assert np.array_equal(split.labels, labels)


class Harmful:
    def __reduce__(self):
        return eval, ("open('harmed', 'w')",)


def test_pickle_with_another_checksum_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    harmful = pickle.dumps(Harmful())
    (tmp_path / "data_batch_1").write_bytes(harmful)
    with pytest.raises(DataError, match=rf"data_batch_1: has md5 \w+, expected {BATCHES['data_batch_1']}: .*{FIX}"):
        cifar10.prepare(tmp_path, "official", 0.1, 0)
    assert not (tmp_path / "harmed").exists()
    pickle.loads(harmful).close()
    assert (tmp_path / "harmed").exists()


@pytest.mark.parametrize("length", [0, 7, 100, 10_000])
def test_truncated_embedded_batch_raises_data_error(embedded_folder, tmp_path, length):
    for file in embedded_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damaged = tmp_path / "drawn_batch_3.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:length])
    with pytest.raises(DataError, match=rf"drawn_batch_3\.safetensors: damaged, .*{FIX}"):
        cifar10.prepare(tmp_path, "embedded", 0.1, 0)


@pytest.fixture(scope="module")
def embedded_folder(tmp_path_factory):
    """Return the folder with the synthetic batches."""
    folder = tmp_path_factory.mktemp("embedded")
    cifar10.fetch("embedded", folder)
    return folder


@pytest.fixture(scope="module")
def embedded(embedded_folder):
    return cifar10.prepare(embedded_folder, "embedded", validation_fraction=0.1, seed=0)


def test_embedded_images_have_the_format_of_cifar10(embedded):
    assert (embedded.name, embedded.source, embedded.image_shape) == ("cifar10", "embedded", (3, 32, 32))
    assert embedded.classes == EMBEDDED_CLASSES
    assert (len(embedded.train), len(embedded.test)) == (2000, 500)
    for split in (embedded.train, embedded.test):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        assert np.array_equal(np.bincount(split.labels), [len(split) // 10] * 10)
    assert np.array_equal(np.bincount(embedded.train.labels[embedded.validation]), [20] * 10)


def test_embedded_images_are_distinct(embedded):
    assert count_distinct(embedded) == 2500


def test_embedded_images_are_reproducible(embedded_folder, embedded, tmp_path):
    cifar10.fetch("embedded", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(EMBEDDED_BATCHES)
    for name in EMBEDDED_BATCHES:
        assert (tmp_path / name).read_bytes() == (embedded_folder / name).read_bytes()
    assert dataset_sha256(embedded) == PREPARED_SHA256


def test_mean_colour_does_not_reveal_the_class(embedded):
    assert mean_colour_accuracy(embedded) < 0.2


def test_seed_changes_only_the_validation_split(embedded_folder, embedded):
    other = cifar10.prepare(embedded_folder, "embedded", validation_fraction=0.1, seed=1)
    assert not np.array_equal(other.validation, embedded.validation)
    assert np.array_equal(other.train.images, embedded.train.images)
    assert np.array_equal(other.test.images, embedded.test.images)


def test_error_for_a_missing_batch_says_how_to_fetch_it(tmp_path):
    cifar10.fetch("embedded", tmp_path)
    (tmp_path / "drawn_batch_3.safetensors").unlink()
    with pytest.raises(DataError, match=r"drawn_batch_3\.safetensors: not found\. Run `dvc repro`, which fetches the data"):
        cifar10.prepare(tmp_path, "embedded", 0.1, 0)


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """Return six small batches and replace the published checksums by theirs."""
    monkeypatch.chdir(tmp_path)
    contents = {name: python_2_batch(*random_batch(20, seed)) for seed, name in enumerate(BATCHES)}
    monkeypatch.setattr(cifar10, "BATCHES", {name: hashlib.md5(batch).hexdigest() for name, batch in contents.items()})
    monkeypatch.setattr(cifar10, "MIRRORS", ())
    return contents


def build_archive(batches: dict[str, bytes], *extra_members: tarfile.TarInfo, folder: str = FOLDER) -> bytes:
    """Return an archive in the published layout, followed by members without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        info = tarfile.TarInfo(folder)
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
        for name, batch in {"readme.html": b"<html>", **batches}.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(batch)
            archive.addfile(info, io.BytesIO(batch))
        for member in extra_members:
            archive.addfile(member)
    return stream.getvalue()


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.fixture
def install_archive(root, monkeypatch):
    """Return a function that writes an archive to the data root and replaces the published checksum by its own."""

    def write(archive: bytes) -> None:
        (root / cifar10.ARCHIVE.name).write_bytes(archive)
        monkeypatch.setattr(cifar10, "ARCHIVE", with_checksum_of(cifar10.ARCHIVE, archive))

    return write


def assert_fetched(batches, folder) -> None:
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == batches


def assert_prepared(folder) -> None:
    packed = cifar10.prepare(folder, "official", validation_fraction=0.1, seed=0)
    assert (packed.source, packed.classes, packed.image_shape) == ("official", CLASSES, (3, 32, 32))
    images = np.concatenate([random_batch(20, seed)[0] for seed in range(5)])
    assert np.array_equal(packed.train.images, images)
    assert np.array_equal(packed.train.labels, np.arange(100) % 10)
    assert np.array_equal(packed.test.images, random_batch(20, 5)[0])
    assert np.array_equal(np.bincount(packed.train.labels[packed.validation]), [1] * 10)


def test_batches_are_copied_from_the_data_root(batches, root, tmp_path):
    (root / FOLDER).mkdir()
    for name, batch in batches.items():
        (root / FOLDER / name).write_bytes(batch)
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")
    assert_prepared(tmp_path / "raw")


def test_altered_batch_in_the_data_root_raises_data_error(batches, root, tmp_path):
    (root / FOLDER).mkdir()
    for name, batch in batches.items():
        (root / FOLDER / name).write_bytes(batch[:-1] if name == "test_batch" else batch)
    with pytest.raises(DataError, match=rf"{FOLDER}/test_batch: has md5 .*Replace the file"):
        cifar10.fetch("official", tmp_path / "raw")


def test_batches_are_extracted_from_an_archive_in_the_data_root(batches, install_archive, tmp_path):
    install_archive(build_archive(batches))
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")
    assert_prepared(tmp_path / "raw")
    assert not list((tmp_path / ".downloads").iterdir())


def test_altered_batch_is_not_prepared_as_official(batches, install_archive, tmp_path):
    """A batch with other pixels is a valid pickle, so only the checksum differs."""
    install_archive(build_archive(batches))
    cifar10.fetch("official", tmp_path / "raw")
    (tmp_path / "raw/data_batch_2").write_bytes(python_2_batch(*random_batch(20, seed=9)))
    with pytest.raises(DataError, match=rf"data_batch_2: has md5 \w+, expected {cifar10.BATCHES['data_batch_2']}: .*{FIX}"):
        cifar10.prepare(tmp_path / "raw", "official", 0.1, 0)


def test_files_of_one_source_are_not_prepared_as_the_other_source(batches, install_archive, embedded_folder, tmp_path):
    install_archive(build_archive(batches))
    cifar10.fetch("official", tmp_path / "raw")
    with pytest.raises(DataError, match=r"drawn_batch_1\.safetensors: not found\. Run `dvc repro`, which fetches the data"):
        cifar10.prepare(tmp_path / "raw", "embedded", 0.1, 0)
    with pytest.raises(DataError, match=r"data_batch_1: not found\. Run `dvc repro`, which fetches the data"):
        cifar10.prepare(embedded_folder, "official", 0.1, 0)


def test_archive_is_used_if_the_data_root_lacks_a_batch(batches, install_archive, root, tmp_path):
    (root / FOLDER).mkdir()
    (root / FOLDER / "test_batch").write_bytes(batches["test_batch"])
    install_archive(build_archive(batches))
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")


def test_archive_is_downloaded_from_the_first_working_mirror(batches, serve, tmp_path, monkeypatch):
    archive = build_archive(batches)
    name = cifar10.ARCHIVE.name
    mirrors = serve(name, status=404), serve(name, b"altered"), serve(name, archive)
    monkeypatch.setattr(cifar10, "ARCHIVE", with_checksum_of(cifar10.ARCHIVE, archive))
    monkeypatch.setattr(cifar10, "MIRRORS", [mirror.address for mirror in mirrors])
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")
    assert not list((tmp_path / ".downloads").iterdir())


def test_downloaded_archive_is_kept_until_the_batches_are_written(batches, serve, tmp_path, monkeypatch):
    archive = build_archive(batches)
    mirror = serve(cifar10.ARCHIVE.name, archive)
    monkeypatch.setattr(cifar10, "ARCHIVE", with_checksum_of(cifar10.ARCHIVE, archive))
    monkeypatch.setattr(cifar10, "MIRRORS", [mirror.address])
    (tmp_path / "raw").write_bytes(b"a file instead of a folder")
    with pytest.raises(LabbookError):
        cifar10.fetch("official", tmp_path / "raw")
    (tmp_path / "raw").unlink()
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")
    assert mirror.range_headers == [None]
    assert not list((tmp_path / ".downloads").iterdir())


def test_error_names_an_archive_that_no_mirror_serves(batches, serve, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "MIRRORS", [serve(cifar10.ARCHIVE.name, status=404).address])
    with pytest.raises(DownloadError, match=r"cifar-10-python\.tar\.gz: no mirror served the file"):
        cifar10.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_archive_with_another_checksum_raises_data_error(batches, root, tmp_path):
    (root / cifar10.ARCHIVE.name).write_bytes(build_archive(batches))
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: has md5 .*Replace the file"):
        cifar10.fetch("official", tmp_path / "raw")


def test_truncated_archive_raises_data_error(batches, install_archive, root, tmp_path):
    install_archive(build_archive(batches))
    archive = root / cifar10.ARCHIVE.name
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: has md5 .*Replace the file"):
        cifar10.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("/etc/data_batch_1"),
        tarfile.TarInfo("../data_batch_1"),
        tarfile.TarInfo(f"{FOLDER}/../../data_batch_1"),
        link(f"{FOLDER}/more", tarfile.SYMTYPE, "data_batch_1"),
    ],
    ids=lambda member: f"{member.name}{member.linkname}",
)
def test_only_the_batches_are_extracted_from_an_archive(batches, install_archive, tmp_path, member):
    install_archive(build_archive(batches, member))
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")
    assert not (tmp_path / "data_batch_1").exists()
