import io
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from toolbox import as_published, count_different, digest_of, right_by_mean_colour

from labbook.data.datasets import tiny_imagenet
from labbook.data.datasets.tiny_imagenet import DRAWN_ARCHIVE, DRAWN_CLASSES, FOLDER, write_archive
from labbook.data.download import DATA_ROOT
from labbook.errors import DataError, DownloadError

ARCHIVE = "tiny-imagenet-200.zip"
FIX = r"Remove it and run `dvc repro`\.$"
PREPARED_SHA256 = "616881ad9142da744fedfe0a2506875b88c26abb6b8d710905d73dda4699696e"
WNIDS = ("n2", "n0", "n1")


def encoded(image: np.ndarray, kind: str = "JPEG") -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, kind)
    return data.getvalue()


def published_layout() -> dict[str, bytes]:
    """Three classes out of order, with four training and two validation images each; every sixth image is grey."""
    generator = np.random.default_rng(0)
    files = {"wnids.txt": "".join(f"{wnid}\n" for wnid in WNIDS).encode()}
    files["words.txt"] = b"n0\tgoldfish, Carassius auratus\nn1\tcrane\nn2\tcrane\nn9\tcliff, drop\n"
    annotations = ""
    for number in range(18):
        wnid, colours = WNIDS[number % 3], (3,) if number % 6 else ()
        image = encoded(generator.integers(0, 256, (8, 8, *colours)).astype(np.uint8).repeat(8, 0).repeat(8, 1))
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
    """Write files as the archive in a folder, and prepare it."""

    def run(files: dict[str, bytes], fraction: float = 0.25):
        write_archive(tmp_path / ARCHIVE, files.items())
        return tiny_imagenet.prepare(tmp_path, "official", validation_fraction=fraction, seed=0)

    return run


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def test_archive_gives_its_images_with_their_labels(files, prepare):
    packed = prepare(files)
    assert (packed.name, packed.source, packed.image_shape) == ("tiny_imagenet", "official", (3, 64, 64))
    for split in (packed.train, packed.test):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
    train = sorted(name for name in files if name.startswith("train/"))
    assert np.array_equal(packed.train.images, [decoded(files[name]) for name in train])
    assert packed.train.labels.tolist() == [WNIDS.index(name.split("/")[1]) for name in train]
    test = sorted(name for name in files if name.startswith("val/images/"))
    assert np.array_equal(packed.test.images, [decoded(files[name]) for name in test])
    assert packed.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert np.bincount(packed.train.labels[packed.validation]).tolist() == [1, 1, 1]


def test_grey_image_gets_three_equal_colours(files, prepare):
    packed = prepare(files)
    equal = [(image == image[0]).all() for image in (*packed.train.images, *packed.test.images)]
    assert sum(equal) == 3


def test_class_is_named_by_its_first_word_and_by_its_number_where_that_is_not_unique(files, prepare):
    assert prepare(files).classes == ("crane (n2)", "goldfish", "crane (n1)")


def test_class_without_words_is_named_by_its_number(files, prepare):
    files["words.txt"] = b"n1\tcrane, bird\nn2\t\n"
    assert prepare(files).classes == ("n2", "n0", "crane")
    del files["words.txt"]
    assert prepare(files).classes == WNIDS


def test_folders_and_other_files_in_the_archive_are_passed_over(files, prepare):
    more = {"train/n0/": b"", "train/n0/images/": b"", "train/n0/n0_boxes.txt": b"x", "test/images/test_0.JPEG": b"x"}
    assert np.array_equal(prepare(files | more).train.images, prepare(files).train.images)


def test_threads_give_the_images_in_order(files, prepare, monkeypatch, capsys):
    expected = prepare(files)
    monkeypatch.setattr(tiny_imagenet, "BLOCK", 1)
    monkeypatch.setattr(tiny_imagenet, "IMAGES_BETWEEN_LINES", 5)
    found = prepare(files)
    assert np.array_equal(found.train.images, expected.train.images)
    assert np.array_equal(found.test.images, expected.test.images)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"tiny_imagenet: {done} of {total} images decoded" for done, total in ((5, 12), (10, 12), (5, 6))]


def test_missing_archive_is_named_with_what_fetches_it(tmp_path):
    with pytest.raises(DataError, match=rf"{ARCHIVE}: not found\. Run `dvc repro`, which fetches the data"):
        tiny_imagenet.prepare(tmp_path, "official", 0.1, 0)


@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_archive_is_refused(share, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_archive(folder / ARCHIVE, published_layout().items())
    whole = (folder / ARCHIVE).read_bytes()
    (folder / ARCHIVE).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=rf"{ARCHIVE}: damaged, not a zip archive .*{FIX}"):
        tiny_imagenet.prepare(folder, "official", 0.25, 0)


@given(share=st.floats(0, 1, exclude_max=True))
def test_altered_byte_of_a_member_is_found_or_has_no_effect(share, tmp_path_factory):
    """No effect have the few that stand in the directory at the end too."""
    folder = tmp_path_factory.mktemp("raw")
    write_archive(folder / ARCHIVE, published_layout().items())
    good = tiny_imagenet.prepare(folder, "official", 0.25, 0)
    whole = bytearray((folder / ARCHIVE).read_bytes())
    whole[int(share * whole.index(b"PK\x01\x02"))] ^= 0x15
    (folder / ARCHIVE).write_bytes(whole)
    try:
        found = tiny_imagenet.prepare(folder, "official", 0.25, 0)
    except DataError as error:
        found, message = None, str(error)
    if found is None:
        assert re.search(rf"{ARCHIVE}: .*{FIX}", message)
    else:
        assert np.array_equal(found.train.images, good.train.images)
        assert np.array_equal(found.test.labels, good.test.labels)


JPEG = encoded(np.zeros((64, 64, 3), np.uint8))
# Another content of some files, None for no such file, and what is said of it.
wrong_contents = pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"train/n1/images/n1_2.JPEG": JPEG[:-300]}, "train/n1/images/n1_2.JPEG cannot be decoded"),
        ({"train/n1/images/n1_2.JPEG": b""}, "train/n1/images/n1_2.JPEG cannot be decoded"),
        ({"val/images/val_12.JPEG": b"GIF89a"}, "val/images/val_12.JPEG cannot be decoded"),
        (
            {"val/images/val_12.JPEG": encoded(np.zeros((32, 64, 3), np.uint8))},
            "val/images/val_12.JPEG has 64×32 pixels instead of 64×64",
        ),
        ({"val/images/val_99.JPEG": JPEG}, "val/images/val_99.JPEG has no line in val/val_annotations.txt"),
        ({"val/val_annotations.txt": b""}, "val/images/val_12.JPEG has no line in val/val_annotations.txt"),
        ({"val/val_annotations.txt": None}, "val/val_annotations.txt is missing"),
        ({"val/images/val_14.JPEG": None}, "val/images/val_14.JPEG is missing, but has a line in val/val_annotations.txt"),
        (
            {"train/n7/images/n7_0.JPEG": JPEG},
            "train/n7/images/n7_0.JPEG is of the class 'n7', which wnids.txt does not list",
        ),
        ({"wnids.txt": b"n0\nn1\nn2\nn3\n"}, "train/n3/images has no image, but wnids.txt lists its class"),
        ({"wnids.txt": b"\xff\xfe"}, "wnids.txt is not UTF-8 text"),
        ({"wnids.txt": None}, "wnids.txt is missing"),
    ],
)


def changed(files: dict[str, bytes], change: dict[str, bytes | None]) -> dict[str, bytes]:
    return {name: content for name, content in (files | change).items() if content is not None}


@wrong_contents
def test_archive_of_another_content_is_refused(files, prepare, change, reason):
    with pytest.raises(DataError, match=rf"/{ARCHIVE}: {FOLDER}/{re.escape(reason)}\. {FIX}"):
        prepare(changed(files, change))


@pytest.mark.parametrize("name", ["/etc/passwd", f"{FOLDER}/../val/images/val_99.JPEG"])
def test_archive_with_a_member_that_leads_out_is_refused(files, tmp_path, name):
    write_archive(tmp_path / ARCHIVE, files.items())
    with zipfile.ZipFile(tmp_path / ARCHIVE, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"")
    with pytest.raises(DataError, match=rf"{ARCHIVE}: {re.escape(name)} points outside the archive\. {FIX}"):
        tiny_imagenet.prepare(tmp_path, "official", 0.25, 0)


def test_archive_that_is_encrypted_is_refused(files, tmp_path):
    write_archive(tmp_path / ARCHIVE, files.items())
    whole = bytearray((tmp_path / ARCHIVE).read_bytes())
    directory = whole.index(b"PK\x01\x02")
    whole[directory + 8] |= 1  # the flag of the first member, wnids.txt
    (tmp_path / ARCHIVE).write_bytes(whole)
    with pytest.raises(DataError, match=rf"{ARCHIVE}: damaged, .*encrypted.*{FIX}"):
        tiny_imagenet.prepare(tmp_path, "official", 0.25, 0)


@pytest.fixture
def root(root, tmp_path, monkeypatch):
    """A data root that is empty, and no mirror."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiny_imagenet, "MIRRORS", ())
    return root


def unpack(files: dict[str, bytes], root, order: int = 1) -> None:
    for name, content in list(files.items())[::order]:
        (root / FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (root / FOLDER / name).write_bytes(content)


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Let the checksum of the archive made of some files be the published one; gives the archive."""

    def make(files: dict[str, bytes]) -> bytes:
        write_archive(tmp_path / "published.zip", files.items())
        archive = (tmp_path / "published.zip").read_bytes()
        monkeypatch.setattr(tiny_imagenet, "ARCHIVE", as_published(tiny_imagenet.ARCHIVE, archive))
        return archive

    return make


def test_archive_comes_from_the_data_root(files, root, publish, tmp_path):
    archive = publish(files)
    (root / ARCHIVE).write_bytes(archive)
    unpack(files | {"wnids.txt": b"an older one"}, root)
    tiny_imagenet.fetch("official", tmp_path / "raw")
    assert (tmp_path / "raw" / ARCHIVE).read_bytes() == archive


def test_altered_archive_in_the_data_root_is_refused(files, root, publish, tmp_path):
    (root / ARCHIVE).write_bytes(publish(files)[:-1])
    with pytest.raises(DataError, match=rf"{ARCHIVE}: has md5 .*Replace the file"):
        tiny_imagenet.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_unpacked_archive_in_the_data_root_is_packed_again(files, root, prepare, tmp_path):
    unpack(files | {"train/n0/n0_boxes.txt": b"x", "test/images/test_0.JPEG": b"x", "train/n0/images/.DS_Store": b"x"}, root)
    tiny_imagenet.fetch("official", tmp_path / "raw")
    with zipfile.ZipFile(tmp_path / "raw" / ARCHIVE) as archive:
        assert set(archive.namelist()) == {f"{FOLDER}/{name}" for name in files}
    found = tiny_imagenet.prepare(tmp_path / "raw", "official", 0.25, 0)
    expected = prepare(files)
    assert np.array_equal(found.train.images, expected.train.images)
    assert np.array_equal(found.test.labels, expected.test.labels)
    assert found.classes == expected.classes


def test_same_files_are_packed_to_the_same_bytes(files, root, tmp_path, monkeypatch):
    unpack(files, root)
    tiny_imagenet.fetch("official", tmp_path / "one")
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "other root"))
    unpack(files, tmp_path / "other root", order=-1)
    tiny_imagenet.fetch("official", tmp_path / "two")
    assert (tmp_path / "one" / ARCHIVE).read_bytes() == (tmp_path / "two" / ARCHIVE).read_bytes()


@wrong_contents
def test_unpacked_archive_of_another_content_is_refused(files, root, tmp_path, change, reason):
    unpack(changed(files, change), root)
    fix = rf"Unpack {ARCHIVE} there again, or remove {root / FOLDER} to download it\."
    with pytest.raises(DataError, match=rf"^{root}/{FOLDER}/{re.escape(reason)}\. {fix}$"):
        tiny_imagenet.fetch("official", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_archive_comes_from_the_first_mirror_that_has_it(files, publish, serve, tmp_path, monkeypatch):
    archive = publish(files)
    monkeypatch.chdir(tmp_path)
    gone, good = serve(ARCHIVE, status=404), serve(ARCHIVE, archive)
    monkeypatch.setattr(tiny_imagenet, "MIRRORS", (gone.address, good.address))
    tiny_imagenet.fetch("official", tmp_path / "raw")
    assert (tmp_path / "raw" / ARCHIVE).read_bytes() == archive
    assert (gone.asked, good.asked) == ([None], [None])


def test_archive_that_is_nowhere_is_named(root, tmp_path):
    with pytest.raises(DownloadError, match=rf"{ARCHIVE}: no mirror served the file"):
        tiny_imagenet.fetch("official", tmp_path / "raw")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder with the drawn archive."""
    folder = tmp_path_factory.mktemp("drawn")
    tiny_imagenet.fetch("embedded", folder)
    return folder


@pytest.fixture(scope="module")
def embedded(drawn):
    return tiny_imagenet.prepare(drawn, "embedded", validation_fraction=0.1, seed=0)


def test_drawn_images_have_the_form_of_tiny_imagenet(embedded):
    assert (embedded.name, embedded.source, embedded.image_shape) == ("tiny_imagenet", "embedded", (3, 64, 64))
    assert embedded.classes == tuple(f"{texture} {shape}" for shape, texture in DRAWN_CLASSES)
    assert len(set(embedded.classes)) == 10
    assert np.bincount(embedded.train.labels).tolist() == [100] * 10
    assert np.bincount(embedded.test.labels).tolist() == [20] * 10
    assert np.bincount(embedded.train.labels[embedded.validation]).tolist() == [10] * 10


def test_drawn_images_are_all_different(embedded):
    assert count_different(embedded) == 1200


def test_drawn_images_are_the_same_every_time(drawn, embedded, tmp_path):
    tiny_imagenet.fetch("embedded", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [DRAWN_ARCHIVE]
    assert (tmp_path / DRAWN_ARCHIVE).read_bytes() == (drawn / DRAWN_ARCHIVE).read_bytes()
    assert digest_of(embedded) == PREPARED_SHA256


def test_mean_colour_tells_nothing_of_the_class(embedded):
    assert right_by_mean_colour(embedded) < 0.12


def test_archive_of_one_source_is_not_prepared_as_the_other(files, prepare, drawn, tmp_path):
    prepare(files)
    with pytest.raises(DataError, match=rf"{DRAWN_ARCHIVE}: not found\. Run `dvc repro`, which fetches the data"):
        tiny_imagenet.prepare(tmp_path, "embedded", 0.1, 0)
    with pytest.raises(DataError, match=rf"{ARCHIVE}: not found\. Run `dvc repro`, which fetches the data"):
        tiny_imagenet.prepare(drawn, "official", 0.1, 0)
