import codecs
import contextlib
import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toolbox import as_published, count_different, digest_of, right_by_mean_colour

from labbook.data.datasets import cifar10
from labbook.data.datasets.cifar10 import BATCHES, CLASSES, DRAWN_BATCHES, DRAWN_CLASSES, FOLDER, read_batch, to_batch
from labbook.errors import DataError, DownloadError, LabbookError

MEND = r"Remove it and run `dvc repro`\.$"
PREPARED_SHA256 = "b4e5bf0127e12de8759cb4bd09ee7f1a23fa79d329d49b3102743e3eb1183965"


def draw(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8), np.arange(count) % 10


def python_2_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch in the opcodes of the published ones: byte strings as Python 2 wrote them, and a name of NumPy 1."""

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
    """That of `batches.meta` in the archive."""
    assert cifar10.CLASSES == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip


@given(count=st.integers(1, 20), seed=st.integers(0, 9), writer=st.sampled_from([to_batch, python_2_batch]))
def test_batch_gives_its_images_and_labels(count, seed, writer, tmp_path_factory):
    file = tmp_path_factory.mktemp("batch") / "data_batch_1"
    images, labels = draw(count, seed)
    file.write_bytes(writer(images, labels))
    found = read_batch(file)
    assert (found.images.dtype, found.labels.dtype) == (np.uint8, np.int64)
    assert np.array_equal(found.images, images)
    assert np.array_equal(found.labels, labels)


@given(cut=st.integers(0, 40_000))
def test_truncated_batch_is_refused(cut, tmp_path_factory):
    file = tmp_path_factory.mktemp("batch") / "data_batch_1"
    whole = to_batch(*draw(10))
    file.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(DataError, match=rf"data_batch_1: damaged, .*{MEND}"):
        read_batch(file)


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_altered_byte_never_ends_in_another_error(place, value, tmp_path_factory):
    file = tmp_path_factory.mktemp("batch") / "data_batch_1"
    whole = bytearray(python_2_batch(*draw(2)))
    whole[(place % 400) - 200] = value  # the first and the last 200 bytes; between them lie the pixels
    file.write_bytes(whole)
    with contextlib.suppress(DataError):
        assert read_batch(file).images.shape[1:] == (3, 32, 32)


class Harmful:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("harmful", "asked"),
    [
        (Harmful(os.system, "touch harmed"), "posix.system"),
        (Harmful(eval, "open('harmed', 'w')"), "eval"),
        (Harmful(codecs.decode, b"", "zlib"), "_codecs.decode"),
        (Harmful(codecs.encode, "", "utf-8"), "encoding 'utf-8'"),
        (Harmful(np.dtype, "O"), "type 'O'"),
    ],
)
def test_batch_that_asks_for_more_than_arrays_is_refused(tmp_path, monkeypatch, harmful, asked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": harmful, b"labels": []}, protocol=2))
    with pytest.raises(DataError, match=rf"data_batch_1: damaged, .*{asked}.*{MEND}"):
        read_batch(tmp_path / "data_batch_1")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ([1, 2], "damaged"),
        ({b"labels": [1]}, "damaged"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "damaged"),
        ({b"data": [[0] * 3072], b"labels": [1]}, "damaged"),
        ({b"data": np.zeros((1, 3072)), b"labels": [1]}, "values of type 'f8'"),
        ({b"data": np.zeros((1, 3071), np.uint8), b"labels": [1]}, r"its data are no bytes of shape \(N, 3072\)"),
        ({b"data": np.zeros((1, 3, 32, 32), np.uint8), b"labels": [1]}, r"its data are no bytes of shape \(N, 3072\)"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1, 2]}, r"its labels are not 1 integers in \[0, 9\]"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, r"its labels are not 1 integers in \[0, 9\]"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]}, r"its labels are not 1 integers in \[0, 9\]"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1.0]}, r"its labels are not 1 integers in \[0, 9\]"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10**30]}, r"its labels are not 1 integers in \[0, 9\]"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [[1], [1, 2]]}, "damaged"),
    ],
)
def test_batch_of_another_form_is_refused(tmp_path, batch, reason):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=rf"data_batch_1: .*{reason}.*{MEND}"):
        read_batch(tmp_path / "data_batch_1")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder with the drawn batches."""
    folder = tmp_path_factory.mktemp("drawn")
    cifar10.fetch("embedded", folder)
    return folder


@pytest.fixture(scope="module")
def embedded(drawn):
    return cifar10.prepare(drawn, "embedded", validation_fraction=0.1, seed=0)


def test_drawn_images_have_the_form_of_cifar10(embedded):
    assert (embedded.name, embedded.source, embedded.image_shape) == ("cifar10", "embedded", (3, 32, 32))
    assert embedded.classes == DRAWN_CLASSES
    assert (len(embedded.train), len(embedded.test)) == (2000, 500)
    for split in (embedded.train, embedded.test):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        assert np.array_equal(np.bincount(split.labels), [len(split) // 10] * 10)
    assert np.array_equal(np.bincount(embedded.train.labels[embedded.validation]), [20] * 10)


def test_drawn_images_are_all_different(embedded):
    assert count_different(embedded) == 2500


def test_drawn_images_are_the_same_every_time(drawn, embedded, tmp_path):
    cifar10.fetch("embedded", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(DRAWN_BATCHES)
    for name in DRAWN_BATCHES:
        assert (tmp_path / name).read_bytes() == (drawn / name).read_bytes()
    assert digest_of(embedded) == PREPARED_SHA256


def test_mean_colour_tells_nothing_of_the_class(embedded):
    assert right_by_mean_colour(embedded) < 0.2


def test_seed_moves_the_validation_split_and_nothing_else(drawn, embedded):
    other = cifar10.prepare(drawn, "embedded", validation_fraction=0.1, seed=1)
    assert not np.array_equal(other.validation, embedded.validation)
    assert np.array_equal(other.train.images, embedded.train.images)
    assert np.array_equal(other.test.images, embedded.test.images)


def test_missing_batch_is_named_with_what_fetches_it(tmp_path):
    cifar10.fetch("embedded", tmp_path)
    (tmp_path / "drawn_batch_3").unlink()
    with pytest.raises(DataError, match=r"drawn_batch_3: not found\. Run `dvc repro`, which fetches the data"):
        cifar10.prepare(tmp_path, "embedded", 0.1, 0)


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """Six small batches, whose checksums stand for the published ones."""
    monkeypatch.chdir(tmp_path)
    made = {name: python_2_batch(*draw(20, seed)) for seed, name in enumerate(BATCHES)}
    monkeypatch.setattr(cifar10, "BATCHES", {name: hashlib.md5(batch).hexdigest() for name, batch in made.items()})
    monkeypatch.setattr(cifar10, "MIRRORS", ())
    return made


def to_archive(batches: dict[str, bytes], *more: tarfile.TarInfo, folder: str = FOLDER) -> bytes:
    """An archive in the published layout, then members without content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        about = tarfile.TarInfo(folder)
        about.type = tarfile.DIRTYPE
        archive.addfile(about)
        for name, batch in {"readme.html": b"<html>", **batches}.items():
            about = tarfile.TarInfo(f"{folder}/{name}")
            about.size = len(batch)
            archive.addfile(about, io.BytesIO(batch))
        for member in more:
            archive.addfile(member)
    return packed.getvalue()


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.fixture
def place(root, monkeypatch):
    """Put an archive into the data root, its checksum as the published one."""

    def put(archive: bytes) -> None:
        (root / cifar10.ARCHIVE.name).write_bytes(archive)
        monkeypatch.setattr(cifar10, "ARCHIVE", as_published(cifar10.ARCHIVE, archive))

    return put


def assert_fetched(batches, folder) -> None:
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == batches


def assert_prepared(folder) -> None:
    packed = cifar10.prepare(folder, "official", validation_fraction=0.1, seed=0)
    assert (packed.source, packed.classes, packed.image_shape) == ("official", CLASSES, (3, 32, 32))
    images = np.concatenate([draw(20, seed)[0] for seed in range(5)])
    assert np.array_equal(packed.train.images, images)
    assert np.array_equal(packed.train.labels, np.arange(100) % 10)
    assert np.array_equal(packed.test.images, draw(20, 5)[0])
    assert np.array_equal(np.bincount(packed.train.labels[packed.validation]), [1] * 10)


def test_batches_come_from_the_data_root(batches, root, tmp_path):
    (root / FOLDER).mkdir()
    for name, batch in batches.items():
        (root / FOLDER / name).write_bytes(batch)
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")
    assert_prepared(tmp_path / "raw")


def test_altered_batch_in_the_data_root_is_refused(batches, root, tmp_path):
    (root / FOLDER).mkdir()
    for name, batch in batches.items():
        (root / FOLDER / name).write_bytes(batch[:-1] if name == "test_batch" else batch)
    with pytest.raises(DataError, match=rf"{FOLDER}/test_batch: has md5 .*Replace the file"):
        cifar10.fetch("official", tmp_path / "raw")


def test_batches_come_out_of_an_archive_in_the_data_root(batches, place, tmp_path):
    place(to_archive(batches))
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")
    assert_prepared(tmp_path / "raw")
    assert not list((tmp_path / ".downloads").iterdir())


def test_batch_that_is_not_the_published_one_is_not_prepared_as_official(batches, place, tmp_path):
    """Such as a drawn one that somebody put there, or one with another pixel, which no pickle tells."""
    place(to_archive(batches))
    cifar10.fetch("official", tmp_path / "raw")
    (tmp_path / "raw/data_batch_2").write_bytes(python_2_batch(*draw(20, seed=9)))
    with pytest.raises(
        DataError, match=rf"data_batch_2: has md5 \w+, published is {cifar10.BATCHES['data_batch_2']}: .*{MEND}"
    ):
        cifar10.prepare(tmp_path / "raw", "official", 0.1, 0)


def test_files_of_one_source_are_not_prepared_as_the_other(batches, place, drawn, tmp_path):
    place(to_archive(batches))
    cifar10.fetch("official", tmp_path / "raw")
    with pytest.raises(DataError, match=r"drawn_batch_1: not found\. Run `dvc repro`, which fetches the data"):
        cifar10.prepare(tmp_path / "raw", "embedded", 0.1, 0)
    with pytest.raises(DataError, match=r"data_batch_1: not found\. Run `dvc repro`, which fetches the data"):
        cifar10.prepare(drawn, "official", 0.1, 0)


def test_archive_is_taken_where_the_data_root_lacks_a_batch(batches, place, root, tmp_path):
    (root / FOLDER).mkdir()
    (root / FOLDER / "test_batch").write_bytes(batches["test_batch"])
    place(to_archive(batches))
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")


def test_archive_comes_from_the_first_mirror_that_has_it(batches, serve, tmp_path, monkeypatch):
    archive = to_archive(batches)
    name = cifar10.ARCHIVE.name
    mirrors = serve(name, status=404), serve(name, b"altered"), serve(name, archive)
    monkeypatch.setattr(cifar10, "ARCHIVE", as_published(cifar10.ARCHIVE, archive))
    monkeypatch.setattr(cifar10, "MIRRORS", [mirror.address for mirror in mirrors])
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")
    assert not list((tmp_path / ".downloads").iterdir())


def test_downloaded_archive_is_kept_until_its_batches_are_written(batches, serve, tmp_path, monkeypatch):
    archive = to_archive(batches)
    mirror = serve(cifar10.ARCHIVE.name, archive)
    monkeypatch.setattr(cifar10, "ARCHIVE", as_published(cifar10.ARCHIVE, archive))
    monkeypatch.setattr(cifar10, "MIRRORS", [mirror.address])
    (tmp_path / "raw").write_bytes(b"in the way")
    with pytest.raises(LabbookError):
        cifar10.fetch("official", tmp_path / "raw")
    (tmp_path / "raw").unlink()
    cifar10.fetch("official", tmp_path / "raw")
    assert_fetched(batches, tmp_path / "raw")
    assert mirror.asked == [None]
    assert not list((tmp_path / ".downloads").iterdir())


def test_archive_that_no_mirror_has_is_named(batches, serve, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "MIRRORS", [serve(cifar10.ARCHIVE.name, status=404).address])
    with pytest.raises(DownloadError, match=r"cifar-10-python\.tar\.gz: no mirror gave the file"):
        cifar10.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_archive_with_another_checksum_is_refused(batches, root, tmp_path):
    (root / cifar10.ARCHIVE.name).write_bytes(to_archive(batches))
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: has md5 .*Replace the file"):
        cifar10.fetch("official", tmp_path / "raw")


AGAIN = r"Put a good cifar-10-python\.tar\.gz in its place and run `dvc repro`\.$"


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated_archive_is_refused(batches, place, tmp_path, share):
    archive = to_archive(batches)
    place(archive[: int(share * len(archive))])
    with pytest.raises(DataError, match=rf"root/cifar-10-python\.tar\.gz: damaged, no gzipped tar file .*{AGAIN}"):
        cifar10.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("/etc/data_batch_1"),
        tarfile.TarInfo("../data_batch_1"),
        tarfile.TarInfo(f"{FOLDER}/../../data_batch_1"),
        link(f"{FOLDER}/data_batch_1", tarfile.SYMTYPE, "/etc/passwd"),
        link(f"{FOLDER}/data_batch_1", tarfile.LNKTYPE, "../test_batch"),
    ],
    ids=lambda member: f"{member.name}{member.linkname}",
)
def test_archive_with_a_member_that_leads_out_is_refused(batches, place, tmp_path, member):
    place(to_archive(batches, member))
    with pytest.raises(DataError, match=rf"root/cifar-10-python\.tar\.gz: its member '{member.name}' leads out .*{AGAIN}"):
        cifar10.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_archive_without_a_batch_is_refused(batches, place, tmp_path):
    place(to_archive({name: batch for name, batch in batches.items() if name != "data_batch_4"}))
    with pytest.raises(DataError, match=rf"lacks {FOLDER}/data_batch_4\. {AGAIN}"):
        cifar10.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_archive_with_batches_elsewhere_is_refused(batches, place, tmp_path):
    place(to_archive(batches, folder="other"))
    with pytest.raises(DataError, match=f"lacks {FOLDER}/data_batch_1"):
        cifar10.fetch("official", tmp_path / "raw")


def test_archive_with_an_altered_batch_is_refused(batches, place, tmp_path):
    place(to_archive(batches | {"data_batch_2": b"altered"}))
    with pytest.raises(DataError, match=rf"holds {FOLDER}/data_batch_2 with another md5 than the published .*{AGAIN}"):
        cifar10.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
