import io
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from toolbox import count_distinct, dataset_sha256, mean_colour_accuracy, with_checksum_of

from labbook.data.datasets import tiny_imagenet
from labbook.data.datasets.tiny_imagenet import EMBEDDED_ARCHIVE, EMBEDDED_CLASSES, FOLDER, write_archive
from labbook.data.download import DATA_ROOT
from labbook.errors import DataError, DownloadError

ARCHIVE = "tiny-imagenet-200.zip"
FIX = r"Remove it and run `dvc repro`\.$"
PREPARED_SHA256 = "616881ad9142da744fedfe0a2506875b88c26abb6b8d710905d73dda4699696e"
WNIDS = ("n2", "n0", "n1")


def encode(image: np.ndarray, file_format: str = "JPEG") -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, file_format)
    return data.getvalue()


def published_layout() -> dict[str, bytes]:
    """Return files with three classes in unsorted order, four training and two validation images each; every sixth is grey."""
    generator = np.random.default_rng(0)
    files = {"wnids.txt": "".join(f"{wnid}\n" for wnid in WNIDS).encode()}
    files["words.txt"] = b"n0\tgoldfish, Carassius auratus\nn1\tcrane\nn2\tcrane\nn9\tcliff, drop\n"
    annotations = ""
    for number in range(18):
        wnid, colours = WNIDS[number % 3], (3,) if number % 6 else ()
        image = encode(generator.integers(0, 256, (8, 8, *colours)).astype(np.uint8).repeat(8, 0).repeat(8, 1))
        if number < 12:
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = image
        else:
            files[f"val/images/val_{number}.JPEG"] = image
            annotations += f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n"
    return files | {"val/val_annotations.txt": annotations.encode()}


@pytest.fixture
def files():
    return published_layout()


@pytest.fixture
def prepare(tmp_path):
    """Return a function that writes an archive of files and prepares it."""

    def run(files: dict[str, bytes], fraction: float = 0.25):
        write_archive(tmp_path / ARCHIVE, files.items())
        return tiny_imagenet.prepare(tmp_path, "official", validation_fraction=fraction, seed=0)

    return run


def decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def test_prepare_returns_images_with_their_labels(files, prepare):
    packed = prepare(files)
    assert (packed.name, packed.source, packed.image_shape) == ("tiny_imagenet", "official", (3, 64, 64))
    for split in (packed.train, packed.test):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
    train = sorted(name for name in files if name.startswith("train/"))
    assert np.array_equal(packed.train.images, [decode(files[name]) for name in train])
    assert packed.train.labels.tolist() == [WNIDS.index(name.split("/")[1]) for name in train]
    test = sorted(name for name in files if name.startswith("val/images/"))
    assert np.array_equal(packed.test.images, [decode(files[name]) for name in test])
    assert packed.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert np.bincount(packed.train.labels[packed.validation]).tolist() == [1, 1, 1]


def test_grey_images_get_three_equal_channels(files, prepare):
    packed = prepare(files)
    is_grey = [(image == image[0]).all() for image in (*packed.train.images, *packed.test.images)]
    assert sum(is_grey) == 3


def test_class_name_is_the_first_name_with_the_wordnet_id_if_ambiguous(files, prepare):
    assert prepare(files).classes == ("crane (n2)", "goldfish", "crane (n1)")


def test_class_without_a_name_is_named_by_its_wordnet_id(files, prepare):
    files["words.txt"] = b"n1\tcrane, bird\nn2\t\n"
    assert prepare(files).classes == ("n2", "n0", "crane")
    del files["words.txt"]
    assert prepare(files).classes == WNIDS


def test_folders_and_other_files_in_the_archive_are_ignored(files, prepare):
    other_files = {"train/n0/": b"", "train/n0/images/": b"", "train/n0/n0_boxes.txt": b"x", "test/images/test_0.JPEG": b"x"}
    assert np.array_equal(prepare(files | other_files).train.images, prepare(files).train.images)


def test_threads_preserve_the_order_of_images(files, prepare, monkeypatch, capsys):
    expected = prepare(files)
    monkeypatch.setattr(tiny_imagenet, "DECODE_BATCH", 1)
    monkeypatch.setattr(tiny_imagenet, "PROGRESS_INTERVAL", 5)
    result = prepare(files)
    assert np.array_equal(result.train.images, expected.train.images)
    assert np.array_equal(result.test.images, expected.test.images)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"tiny_imagenet: {decoded} of {total} images decoded" for decoded, total in ((5, 12), (10, 12), (5, 6))]


def test_error_for_a_missing_archive_says_how_to_fetch_it(tmp_path):
    with pytest.raises(DataError, match=rf"{ARCHIVE}: not found\. Run `dvc repro`, which fetches the data"):
        tiny_imagenet.prepare(tmp_path, "official", 0.1, 0)


@given(fraction=st.floats(0, 1, exclude_max=True))
def test_truncated_archive_raises_data_error(fraction, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_archive(folder / ARCHIVE, published_layout().items())
    archive_bytes = (folder / ARCHIVE).read_bytes()
    (folder / ARCHIVE).write_bytes(archive_bytes[: int(fraction * len(archive_bytes))])
    with pytest.raises(DataError, match=rf"{ARCHIVE}: damaged, not a zip archive .*{FIX}"):
        tiny_imagenet.prepare(folder, "official", 0.25, 0)


@given(fraction=st.floats(0, 1, exclude_max=True))
def test_corrupted_byte_of_a_member_is_detected_or_has_no_effect(fraction, tmp_path_factory):
    """Bytes that are repeated in the central directory have no effect."""
    folder = tmp_path_factory.mktemp("raw")
    write_archive(folder / ARCHIVE, published_layout().items())
    intact = tiny_imagenet.prepare(folder, "official", 0.25, 0)
    archive_bytes = bytearray((folder / ARCHIVE).read_bytes())
    archive_bytes[int(fraction * archive_bytes.index(b"PK\x01\x02"))] ^= 0x15
    (folder / ARCHIVE).write_bytes(archive_bytes)
    try:
        result = tiny_imagenet.prepare(folder, "official", 0.25, 0)
    except DataError as error:
        result, message = None, str(error)
    if result is None:
        assert re.search(rf"{ARCHIVE}: .*{FIX}", message)
    else:
        assert np.array_equal(result.train.images, intact.train.images)
        assert np.array_equal(result.test.labels, intact.test.labels)


JPEG = encode(np.zeros((64, 64, 3), np.uint8))
# Changed content of files, or None for a missing file, and the problem that the error message states.
damaged_contents = pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"train/n1/images/n1_2.JPEG": JPEG[:-300]}, "train/n1/images/n1_2.JPEG cannot be decoded"),
        ({"train/n1/images/n1_2.JPEG": b""}, "train/n1/images/n1_2.JPEG cannot be decoded"),
        ({"val/images/val_12.JPEG": b"GIF89a"}, "val/images/val_12.JPEG cannot be decoded"),
        (
            {"val/images/val_12.JPEG": encode(np.zeros((32, 64, 3), np.uint8))},
            "val/images/val_12.JPEG has 64×32 pixels, expected 64×64",
        ),
        ({"val/images/val_99.JPEG": JPEG}, "val/images/val_99.JPEG has no line in val/val_annotations.txt"),
        ({"val/val_annotations.txt": b""}, "val/images/val_12.JPEG has no line in val/val_annotations.txt"),
        ({"val/val_annotations.txt": None}, "val/val_annotations.txt is missing"),
        ({"val/images/val_14.JPEG": None}, "val/images/val_14.JPEG is missing, but has a line in val/val_annotations.txt"),
        (
            {"train/n7/images/n7_0.JPEG": JPEG},
            "train/n7/images/n7_0.JPEG has class 'n7', which wnids.txt does not list",
        ),
        ({"wnids.txt": b"n0\nn1\nn2\nn3\n"}, "train/n3/images has no image, but wnids.txt lists its class"),
        ({"wnids.txt": b"\xff\xfe"}, "wnids.txt is not UTF-8 text"),
        ({"wnids.txt": None}, "wnids.txt is missing"),
    ],
)


def apply_change(files: dict[str, bytes], change: dict[str, bytes | None]) -> dict[str, bytes]:
    return {name: content for name, content in (files | change).items() if content is not None}


@damaged_contents
def test_archive_with_damaged_content_raises_data_error(files, prepare, change, reason):
    with pytest.raises(DataError, match=rf"/{ARCHIVE}: {FOLDER}/{re.escape(reason)}\. {FIX}"):
        prepare(apply_change(files, change))


@pytest.mark.parametrize("name", ["/etc/passwd", f"{FOLDER}/../val/images/val_99.JPEG"])
def test_member_outside_the_archive_raises_data_error(files, tmp_path, name):
    write_archive(tmp_path / ARCHIVE, files.items())
    with zipfile.ZipFile(tmp_path / ARCHIVE, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"")
    with pytest.raises(DataError, match=rf"{ARCHIVE}: {re.escape(name)} points outside the archive\. {FIX}"):
        tiny_imagenet.prepare(tmp_path, "official", 0.25, 0)


def test_encrypted_archive_raises_data_error(files, tmp_path):
    write_archive(tmp_path / ARCHIVE, files.items())
    archive_bytes = bytearray((tmp_path / ARCHIVE).read_bytes())
    directory = archive_bytes.index(b"PK\x01\x02")
    archive_bytes[directory + 8] |= 1  # encryption flag of the first member, wnids.txt
    (tmp_path / ARCHIVE).write_bytes(archive_bytes)
    with pytest.raises(DataError, match=rf"{ARCHIVE}: damaged, .*encrypted.*{FIX}"):
        tiny_imagenet.prepare(tmp_path, "official", 0.25, 0)


@pytest.fixture
def root(root, tmp_path, monkeypatch):
    """Return an empty data root, without mirrors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiny_imagenet, "MIRRORS", ())
    return root


def unpack(files: dict[str, bytes], root, step: int = 1) -> None:
    for name, content in list(files.items())[::step]:
        (root / FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (root / FOLDER / name).write_bytes(content)


@pytest.fixture
def build_archive(tmp_path, monkeypatch):
    """Return a function that builds an archive of files and replaces the published checksum by its own."""

    def build(files: dict[str, bytes]) -> bytes:
        write_archive(tmp_path / "published.zip", files.items())
        archive = (tmp_path / "published.zip").read_bytes()
        monkeypatch.setattr(tiny_imagenet, "ARCHIVE", with_checksum_of(tiny_imagenet.ARCHIVE, archive))
        return archive

    return build


def test_archive_is_copied_from_the_data_root(files, root, build_archive, tmp_path):
    archive = build_archive(files)
    (root / ARCHIVE).write_bytes(archive)
    unpack(files | {"wnids.txt": b"another version"}, root)
    tiny_imagenet.fetch("official", tmp_path / "raw")
    assert (tmp_path / "raw" / ARCHIVE).read_bytes() == archive


def test_altered_archive_in_the_data_root_raises_data_error(files, root, build_archive, tmp_path):
    (root / ARCHIVE).write_bytes(build_archive(files)[:-1])
    with pytest.raises(DataError, match=rf"{ARCHIVE}: has md5 .*Replace the file"):
        tiny_imagenet.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_unpacked_archive_in_the_data_root_is_packed_again(files, root, prepare, tmp_path):
    unpack(files | {"train/n0/n0_boxes.txt": b"x", "test/images/test_0.JPEG": b"x", "train/n0/images/.DS_Store": b"x"}, root)
    tiny_imagenet.fetch("official", tmp_path / "raw")
    with zipfile.ZipFile(tmp_path / "raw" / ARCHIVE) as archive:
        assert set(archive.namelist()) == {f"{FOLDER}/{name}" for name in files}
    result = tiny_imagenet.prepare(tmp_path / "raw", "official", 0.25, 0)
    expected = prepare(files)
    assert np.array_equal(result.train.images, expected.train.images)
    assert np.array_equal(result.test.labels, expected.test.labels)
    assert result.classes == expected.classes


def test_same_files_are_packed_to_the_same_bytes(files, root, tmp_path, monkeypatch):
    unpack(files, root)
    tiny_imagenet.fetch("official", tmp_path / "one")
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "other root"))
    unpack(files, tmp_path / "other root", step=-1)
    tiny_imagenet.fetch("official", tmp_path / "two")
    assert (tmp_path / "one" / ARCHIVE).read_bytes() == (tmp_path / "two" / ARCHIVE).read_bytes()


@damaged_contents
def test_unpacked_archive_with_damaged_content_raises_data_error(files, root, tmp_path, change, reason):
    unpack(apply_change(files, change), root)
    fix = rf"Unpack {ARCHIVE} there again, or remove {root / FOLDER} to download it\."
    with pytest.raises(DataError, match=rf"^{root}/{FOLDER}/{re.escape(reason)}\. {fix}$"):
        tiny_imagenet.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_archive_is_downloaded_from_the_first_working_mirror(files, build_archive, serve, tmp_path, monkeypatch):
    archive = build_archive(files)
    monkeypatch.chdir(tmp_path)
    failing, working = serve(ARCHIVE, status=404), serve(ARCHIVE, archive)
    monkeypatch.setattr(tiny_imagenet, "MIRRORS", (failing.address, working.address))
    tiny_imagenet.fetch("official", tmp_path / "raw")
    assert (tmp_path / "raw" / ARCHIVE).read_bytes() == archive
    assert (failing.range_headers, working.range_headers) == ([None], [None])


def test_error_names_an_archive_that_is_not_available(root, tmp_path):
    with pytest.raises(DownloadError, match=rf"{ARCHIVE}: no mirror served the file"):
        tiny_imagenet.fetch("official", tmp_path / "raw")


@pytest.fixture(scope="module")
def embedded_folder(tmp_path_factory):
    """Return the folder with the synthetic archive."""
    folder = tmp_path_factory.mktemp("embedded")
    tiny_imagenet.fetch("embedded", folder)
    return folder


@pytest.fixture(scope="module")
def embedded(embedded_folder):
    return tiny_imagenet.prepare(embedded_folder, "embedded", validation_fraction=0.1, seed=0)


def test_embedded_images_have_the_format_of_tiny_imagenet(embedded):
    assert (embedded.name, embedded.source, embedded.image_shape) == ("tiny_imagenet", "embedded", (3, 64, 64))
    assert embedded.classes == tuple(f"{texture} {shape}" for shape, texture in EMBEDDED_CLASSES)
    assert len(set(embedded.classes)) == 10
    assert np.bincount(embedded.train.labels).tolist() == [100] * 10
    assert np.bincount(embedded.test.labels).tolist() == [20] * 10
    assert np.bincount(embedded.train.labels[embedded.validation]).tolist() == [10] * 10


def test_embedded_images_are_distinct(embedded):
    assert count_distinct(embedded) == 1200


def test_embedded_images_are_reproducible(embedded_folder, embedded, tmp_path):
    tiny_imagenet.fetch("embedded", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [EMBEDDED_ARCHIVE]
    assert (tmp_path / EMBEDDED_ARCHIVE).read_bytes() == (embedded_folder / EMBEDDED_ARCHIVE).read_bytes()
    assert dataset_sha256(embedded) == PREPARED_SHA256


def test_mean_colour_does_not_reveal_the_class(embedded):
    assert mean_colour_accuracy(embedded) < 0.12


def test_archive_of_one_source_is_not_prepared_as_the_other_source(files, prepare, embedded_folder, tmp_path):
    prepare(files)
    with pytest.raises(DataError, match=rf"{EMBEDDED_ARCHIVE}: not found\. Run `dvc repro`, which fetches the data"):
        tiny_imagenet.prepare(tmp_path, "embedded", 0.1, 0)
    with pytest.raises(DataError, match=rf"{ARCHIVE}: not found\. Run `dvc repro`, which fetches the data"):
        tiny_imagenet.prepare(embedded_folder, "official", 0.1, 0)
