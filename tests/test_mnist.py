import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.datasets import load_digits
from toolbox import with_checksum_of

from labbook.data.datasets import mnist
from labbook.data.datasets.mnist import read_idx
from labbook.data.packed import read_packed
from labbook.errors import DataError, DownloadError

IMAGES, LABELS = mnist.EMBEDDED_FILES
FIX = r"Remove it and run `dvc repro`\.$"
FIX_MISSING = r"Run `dvc repro`, which fetches the data that `data\.source` in params\.yaml names\.$"


def idx(values: np.ndarray, type_code: int = 8, shape: tuple[int, ...] | None = None) -> bytes:
    sizes = values.shape if shape is None else shape
    return struct.pack(f">HBB{len(sizes)}I", 0, type_code, len(sizes), *sizes) + values.tobytes()


@given(values=arrays.arrays(np.uint8, arrays.array_shapes(max_dims=3, min_side=0, max_side=6)))
def test_read_idx_returns_the_values(values, tmp_path_factory):
    file = tmp_path_factory.mktemp("idx") / "values.gz"
    file.write_bytes(gzip.compress(idx(values)))
    result = read_idx(file)
    assert result.dtype == np.uint8
    assert np.array_equal(result, values)


@given(length=st.integers(0, 200))
def test_truncated_idx_file_raises_data_error(length, tmp_path_factory):
    file = tmp_path_factory.mktemp("idx") / "values.gz"
    content = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (20, 10)).astype(np.uint8)))
    file.write_bytes(content[: min(length, len(content) - 1)])
    with pytest.raises(DataError, match=FIX):
        read_idx(file)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (idx(np.zeros((2, 3), np.uint8), type_code=9), "has 6 values, type [89] and shape"),
        (b"\x01" + idx(np.zeros((2, 3), np.uint8))[1:], "has 6 values, type [89] and shape"),
        (idx(np.zeros((2, 3), np.uint8), shape=(2, 4)), r"has 6 values, type 8 and shape \(2, 4\)"),
        (idx(np.zeros((2, 3), np.uint8), shape=(2, 2)), r"has 6 values, type 8 and shape \(2, 2\)"),
        (idx(np.zeros(5, np.uint8), shape=(4294967295, 4294967295)), "has 5 values, type 8 and shape"),
        (b"", "not a gzipped IDX file"),
        (b"\x00\x00", "not a gzipped IDX file"),
        (b"\x00\x00\x08\x03\x00\x00\x00\x01", "not a gzipped IDX file"),
    ],
)
def test_idx_file_with_a_wrong_header_raises_data_error(tmp_path, data, reason):
    file = tmp_path / "values.gz"
    file.write_bytes(gzip.compress(data))
    with pytest.raises(DataError, match=rf"values\.gz: .*{reason}.*{FIX}"):
        read_idx(file)


def test_idx_file_without_gzip_raises_data_error(tmp_path):
    file = tmp_path / "values.gz"
    file.write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(DataError, match=f"not a gzipped IDX file .*{FIX}"):
        read_idx(file)


def test_error_for_a_missing_idx_file_says_how_to_fetch_it(tmp_path):
    with pytest.raises(DataError, match=rf"values\.gz: not found\. {FIX_MISSING}"):
        read_idx(tmp_path / "values.gz")


@pytest.fixture(scope="module")
def embedded(mnist_file):
    return read_packed(mnist_file)


def test_embedded_digits_have_the_format_of_mnist(embedded):
    assert (embedded.name, embedded.source, embedded.image_shape) == ("mnist", "embedded", (1, 28, 28))
    assert embedded.classes == tuple("0123456789")
    for split in (embedded.train, embedded.test):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        assert split.images.shape == (len(split), 1, 28, 28)
        assert set(split.labels) == set(range(10))
        assert (split.images.min(), split.images.max()) == (0, 255)
        border = split.images.copy()
        border[:, :, 4:-4, 4:-4] = 0
        assert not border.any()


def test_embedded_test_set_is_stratified(embedded):
    counts = np.bincount(load_digits().target)
    test_counts = np.bincount(embedded.test.labels)
    assert np.array_equal(np.bincount(embedded.train.labels) + test_counts, counts)
    assert np.array_equal(test_counts, np.round(0.2 * counts))


def test_embedded_data_contain_each_digit_of_scikit_learn_once_with_its_label(embedded):
    """The nearest neighbours of the images among the originals, scaled without smoothing, are a permutation."""
    digits = load_digits()
    originals = np.kron(digits.images / 16 * 255, np.ones((5, 5))).reshape(-1, 20, 2, 20, 2).mean(axis=(2, 4)).reshape(-1, 400)
    images = np.concatenate([embedded.train.images, embedded.test.images])[:, 0, 4:-4, 4:-4].reshape(-1, 400).astype(float)
    assert images.mean() == pytest.approx(originals.mean(), rel=0.02)
    distances = (originals**2).sum(axis=1) - 2 * images @ originals.T  # up to a term that does not depend on the original
    nearest = distances.argmin(axis=1)
    assert sorted(nearest) == list(range(1797))
    assert np.array_equal(digits.target[nearest], np.concatenate([embedded.train.labels, embedded.test.labels]))


def test_embedded_training_and_test_sets_are_disjoint(embedded):
    train, test = ({image.tobytes() for image in split.images} for split in (embedded.train, embedded.test))
    assert not train & test
    assert len(train) + len(test) == 1797


def test_embedded_files_are_reproducible(tmp_path, mnist_file, prepared, start_stage):
    """The stages fetch and prepare them in separate processes."""
    (prepared / "data/processed/mnist.safetensors").unlink()
    for stage, *arguments in (("fetch",), ("prepare", "--validation-fraction", "0.1", "--seed", "0")):
        process = start_stage(stage, "mnist", "--source", "embedded", *arguments)
        assert (process.returncode, process.stderr) == (0, "")
    assert (prepared / "data/processed/mnist.safetensors").read_bytes() == mnist_file.read_bytes()
    raw = prepared / "data/raw/mnist"
    assert sorted(file.name for file in raw.iterdir()) == [IMAGES, LABELS]
    mnist.fetch("embedded", tmp_path / "again")
    for name in (IMAGES, LABELS):
        assert (tmp_path / "again" / name).read_bytes() == (raw / name).read_bytes()


def test_seed_changes_the_validation_split_but_not_the_test_set(tmp_path):
    mnist.fetch("embedded", tmp_path)
    one, two = (mnist.prepare(tmp_path, "embedded", 0.1, seed) for seed in (0, 1))
    assert not np.array_equal(one.validation, two.validation)
    assert np.array_equal(one.test.images, two.test.images)
    assert np.array_equal(one.train.images, two.train.images)


def test_corrupted_byte_of_an_idx_file_is_detected_or_has_no_effect(tmp_path):
    """Fewer than ten bytes of the gzip header, such as the timestamp, have no effect."""
    values = np.random.default_rng(0).integers(0, 9, 300).astype(np.uint8)
    intact = gzip.compress(idx(values), mtime=0)
    file = tmp_path / "values.gz"
    detected = 0
    for position in range(len(intact)):
        file.write_bytes(intact[:position] + bytes([intact[position] ^ 0x55]) + intact[position + 1 :])
        try:
            assert np.array_equal(read_idx(file), values)
        except DataError:
            detected += 1
    assert detected > len(intact) - 10


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_truncated_embedded_file_raises_data_error(tmp_path, name):
    mnist.fetch("embedded", tmp_path)
    intact = (tmp_path / name).read_bytes()
    for length in (0, 1, 3, 4, 10, 30, len(intact) // 2, len(intact) - 22, len(intact) - 1):
        (tmp_path / name).write_bytes(intact[:length])
        with pytest.raises(DataError, match=rf"{name}: damaged, .*{FIX}"):
            mnist.prepare(tmp_path, "embedded", 0.1, 0)


@pytest.mark.parametrize(("images", "labels"), [((5, 64), (5,)), ((5, 8, 8), (4,)), ((5, 8, 8), (5, 1))])
def test_mismatched_embedded_images_and_labels_raise_data_error(tmp_path, images, labels):
    (tmp_path / IMAGES).write_bytes(mnist.to_idx(np.zeros(images, np.uint8)))
    (tmp_path / LABELS).write_bytes(mnist.to_idx(np.zeros(labels, np.uint8)))
    with pytest.raises(DataError, match=rf"{IMAGES}: images \(5, .* do not match labels .*{FIX}"):
        mnist.prepare(tmp_path, "embedded", 0.1, 0)


def test_error_for_a_missing_embedded_file_says_how_to_fetch_it(tmp_path):
    with pytest.raises(DataError, match=rf"{IMAGES}: not found\. {FIX_MISSING}"):
        mnist.prepare(tmp_path, "embedded", 0.1, 0)


def test_prepare_stage_without_raw_files_prints_one_error(workdir, run_stage):
    arguments = ("mnist", "--source", "official", "--validation-fraction", "0.1", "--seed", "0")
    process = run_stage("prepare", *arguments)
    assert process.returncode == 1
    assert process.stderr.startswith("error: ")
    assert "not found. Run `dvc repro`" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (workdir / "data/processed").exists()


@pytest.fixture
def published(root, monkeypatch):
    """Create a data root with a small dataset, replace the published checksums by its own, and return the arrays."""
    generator = np.random.default_rng(0)
    values = {
        "train_images": generator.integers(0, 256, (40, 28, 28)).astype(np.uint8),
        "train_labels": (np.arange(40) % 10).astype(np.uint8),
        "test_images": generator.integers(0, 256, (10, 28, 28)).astype(np.uint8),
        "test_labels": np.arange(10, dtype=np.uint8),
    }
    (root / mnist.FOLDER).mkdir(parents=True)
    files = {}
    for name, remote in mnist.FILES.items():
        data = gzip.compress(idx(values[name]))
        (root / mnist.FOLDER / remote.name).write_bytes(data)
        files[name] = with_checksum_of(remote, data)
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    return values


def test_official_files_are_copied_from_the_data_root(published, tmp_path):
    mnist.fetch("official", tmp_path / "raw")
    packed = mnist.prepare(tmp_path / "raw", "official", validation_fraction=0.25, seed=0)
    assert (packed.source, packed.image_shape, packed.classes) == ("official", (1, 28, 28), tuple("0123456789"))
    for split, name in ((packed.train, "train"), (packed.test, "test")):
        assert np.array_equal(split.images[:, 0], published[f"{name}_images"])
        assert np.array_equal(split.labels, published[f"{name}_labels"])
        assert split.labels.dtype == np.int64
    assert np.array_equal(np.bincount(packed.train.labels[packed.validation]), [1] * 10)


def test_error_names_an_official_file_that_is_not_available(published, tmp_path):
    (tmp_path / "root/MNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DownloadError, match=r"t10k-labels-idx1-ubyte\.gz"):
        mnist.fetch("official", tmp_path / "raw")


def test_mismatched_images_and_labels_raise_data_error(published, tmp_path):
    mnist.fetch("official", tmp_path / "raw")
    (tmp_path / "raw/train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(39, np.uint8))))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: images \(40, 28, 28\) do not match labels \(39,\)"):
        mnist.prepare(tmp_path / "raw", "official", 0.25, 0)


def test_label_above_nine_raises_data_error(published, tmp_path):
    mnist.fetch("official", tmp_path / "raw")
    labels = np.full(10, 10, np.uint8)
    (tmp_path / "raw/t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: has label 10, expected at most 9"):
        mnist.prepare(tmp_path / "raw", "official", 0.25, 0)
