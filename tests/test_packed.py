import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from labbook.data.packed import PackedDataset, Split, read_packed, stratified_split, write_packed
from labbook.errors import DataError

FIX = r"Run `dvc repro prepare@toy` to create it again\.$"
ATTRIBUTES = ("name", "source", "classes")


@st.composite
def packed_datasets(draw):
    """Generate datasets of any size, with one label per image or per pixel."""
    channels, height, width = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    names = draw(st.lists(st.text(max_size=8), min_size=1, max_size=5).map(tuple))
    per_pixel = draw(st.booleans())

    def split(count):
        shape = (count, height, width) if per_pixel else (count,)
        images = draw(arrays.arrays(np.uint8, (count, channels, height, width)))
        return Split(images, draw(arrays.arrays(np.int64, shape, elements=st.integers(0, len(names) - 1))))

    train, test = split(draw(st.integers(1, 6))), split(draw(st.integers(0, 3)))
    validation = np.array(sorted(draw(st.sets(st.integers(0, len(train) - 1)))), dtype=np.int64)
    return PackedDataset(
        draw(st.text(max_size=8)), draw(st.sampled_from(["embedded", "official"])), names, train, validation, test
    )


def toy_dataset() -> PackedDataset:
    generator = np.random.default_rng(0)
    train = Split(generator.integers(0, 256, (6, 1, 2, 3)).astype(np.uint8), np.arange(6, dtype=np.int64) % 2)
    test = Split(generator.integers(0, 256, (2, 1, 2, 3)).astype(np.uint8), np.arange(2, dtype=np.int64))
    return PackedDataset("toy", "embedded", ("a", "b"), train, np.array([1, 4], dtype=np.int64), test)


def array_contents(packed: PackedDataset) -> list[tuple[object, ...]]:
    """Return the dtype, shape and bytes of each array."""
    split_arrays = (packed.train.images, packed.train.labels, packed.validation, packed.test.images, packed.test.labels)
    return [(array.dtype, array.shape, array.tobytes()) for array in split_arrays]


@given(packed=packed_datasets())
def test_reading_a_written_dataset_returns_equal_arrays_and_attributes(packed, tmp_path_factory):
    file = tmp_path_factory.mktemp("packed") / "toy.safetensors"
    write_packed(file, packed)
    result = read_packed(file)
    assert array_contents(result) == array_contents(packed)
    assert [getattr(result, name) for name in ATTRIBUTES] == [getattr(packed, name) for name in ATTRIBUTES]
    assert result.image_shape == packed.train.images.shape[1:]


@given(packed=packed_datasets())
def test_equal_content_gives_equal_bytes_and_different_content_a_different_digest(packed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    strided = Split(np.asfortranarray(packed.train.images), packed.train.labels.copy())
    write_packed(folder / "one", packed)
    write_packed(folder / "two", dataclasses.replace(packed, train=strided))
    assert (folder / "one").read_bytes() == (folder / "two").read_bytes()

    changed = packed.train.images.copy()
    changed.flat[0] ^= 1
    write_packed(folder / "three", dataclasses.replace(packed, train=Split(changed, packed.train.labels)))
    digests = [read_packed(folder / name).digest for name in ("one", "two", "three")]
    assert digests[0] == digests[1] != digests[2]


def test_every_corrupted_byte_is_detected(tmp_path):
    file = tmp_path / "toy.safetensors"
    write_packed(file, toy_dataset())
    intact = file.read_bytes()
    for position in range(len(intact)):
        for flip in (0x01, 0x55, 0x80):
            file.write_bytes(intact[:position] + bytes([intact[position] ^ flip]) + intact[position + 1 :])
            with pytest.raises(DataError, match=rf"^{re.escape(str(file))}: damaged, .*{FIX}"):
                read_packed(file)


def test_every_truncation_is_detected(tmp_path):
    file = tmp_path / "toy.safetensors"
    write_packed(file, toy_dataset())
    intact = file.read_bytes()
    for length in range(len(intact)):
        file.write_bytes(intact[:length])
        with pytest.raises(DataError, match=rf"^{re.escape(str(file))}: damaged, .*{FIX}"):
            read_packed(file)


def test_changed_shape_or_dtype_with_the_same_bytes_is_detected(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    file = tmp_path / "toy.safetensors"
    write_packed(file, toy_dataset())
    with safe_open(file, "numpy") as stored:
        metadata = stored.metadata()
    intact = load_file(file)
    for altered in (intact["test_images"].reshape(2, 1, 3, 2), intact["test_images"].view(np.int8)):
        save_file(intact | {"test_images": altered}, file, metadata=metadata)
        with pytest.raises(DataError, match=rf"its content has sha256 .*{FIX}"):
            read_packed(file)


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"PK\x03\x04 another format", b"{}"])
def test_file_in_another_format_raises_data_error(tmp_path, data):
    file = tmp_path / "toy.safetensors"
    file.write_bytes(data)
    with pytest.raises(DataError, match=rf"not a prepared dataset .*{FIX}"):
        read_packed(file)


def test_safetensors_file_without_dataset_metadata_raises_data_error(tmp_path):
    from safetensors.numpy import save_file

    file = tmp_path / "toy.safetensors"
    save_file({"train_images": np.zeros(3)}, file)
    with pytest.raises(DataError, match=rf"not a prepared dataset .*{FIX}"):
        read_packed(file)


def test_error_for_a_missing_dataset_names_the_prepare_stage(tmp_path):
    with pytest.raises(DataError, match=rf"toy\.safetensors: not found\. {FIX}"):
        read_packed(tmp_path / "toy.safetensors")


def test_error_for_a_missing_derived_dataset_names_the_derive_stage(tmp_path):
    with pytest.raises(DataError, match=r"scenes\.safetensors: not found\. Run `dvc repro derive@scenes` to create it again"):
        read_packed(tmp_path / "scenes.safetensors")


@st.composite
def label_arrays(draw):
    """Generate labels of one to four classes in random order, with at least four samples per class."""
    class_sizes = draw(st.lists(st.integers(4, 30), min_size=1, max_size=4))
    return np.random.default_rng(draw(seeds)).permutation(np.arange(len(class_sizes)).repeat(class_sizes))


fractions = st.floats(0.25, 0.5)
seeds = st.integers(0, 2**32 - 1)


@given(labels=label_arrays(), fraction=fractions, seed=seeds)
def test_validation_split_has_the_requested_fraction_of_each_class_and_in_total(labels, fraction, seed):
    """The count of each class is its quota, rounded up or down; the total is the fraction of all samples, rounded."""
    quotas = fraction * np.bincount(labels)
    selected = stratified_split(labels, fraction, seed)
    assert len(selected) == round(fraction * len(labels))
    assert (abs(np.bincount(labels[selected], minlength=len(quotas)) - quotas) < 1).all()


def test_validation_split_of_mnist_has_6000_images():
    """The class sizes are the published ones; a tenth of each, rounded separately, would be 5,999 images in total."""
    images = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    labels = np.arange(10).repeat(images)
    selected = labels[stratified_split(labels, 0.1, 0)]
    assert np.bincount(selected).tolist() == [592, 674, 596, 613, 584, 542, 592, 627, 585, 595]


@pytest.mark.parametrize(
    ("class_sizes", "fraction", "expected"),
    [
        ((14, 14, 14), 0.1, [2, 1, 1]),  # quotas of 1.4, total 4.2; the first of several equal remainders wins
        ((13, 16, 18), 0.1, [1, 2, 2]),  # quotas of 1.3, 1.6 and 1.8, total 4.7
        ((25, 25), 0.1, [3, 2]),  # quotas of 2.5, total 5
        ((16, 16, 16), 0.1, [2, 2, 1]),  # quotas of 1.6, total 4.8, so not 2 each
    ],
)
def test_classes_with_the_largest_remainders_get_one_more_sample(class_sizes, fraction, expected):
    labels = np.arange(len(class_sizes)).repeat(class_sizes)
    assert np.bincount(labels[stratified_split(labels, fraction, 7)]).tolist() == expected


@given(labels=label_arrays(), fraction=fractions, seed=seeds)
def test_validation_indices_are_sorted_and_unique(labels, fraction, seed):
    selected = stratified_split(labels, fraction, seed)
    assert selected.dtype == np.int64
    assert (np.diff(selected) > 0).all()
    assert ((selected >= 0) & (selected < len(labels))).all()


@pytest.mark.parametrize(("fraction", "samples"), [(0.1, 4), (0.01, 49), (0.5, 1)])
def test_fraction_that_selects_no_sample_of_a_class_raises_data_error(fraction, samples):
    labels = np.array([0] * 100 + [3] * samples, dtype=np.int64)
    message = f"validation_fraction: {fraction} selects none of the {samples} samples of class 3"
    with pytest.raises(DataError, match=message):
        stratified_split(labels, fraction, 0)


def test_validation_split_depends_on_the_seed():
    labels = np.arange(200, dtype=np.int64) % 10
    splits = [stratified_split(labels, 0.2, seed) for seed in (3, 3, 4)]
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


@given(packed=packed_datasets())
def test_train_val_split_separates_the_validation_samples(packed):
    train, validation = packed.train_val_split()
    assert np.array_equal(validation.images, packed.train.images[packed.validation])
    assert np.array_equal(validation.labels, packed.train.labels[packed.validation])
    train_indices = [index for index in range(len(packed.train)) if index not in set(packed.validation.tolist())]
    assert np.array_equal(train.images, packed.train.images[train_indices])
    assert np.array_equal(train.labels, packed.train.labels[train_indices])
