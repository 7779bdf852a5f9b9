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
ABOUT = ("name", "source", "classes")


@st.composite
def packs(draw):
    """Datasets of any size, with one label per image or per pixel."""
    channels, height, width = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    names = draw(st.lists(st.text(max_size=8), min_size=1, max_size=5).map(tuple))
    a_pixel = draw(st.booleans())

    def split(count):
        shape = (count, height, width) if a_pixel else (count,)
        images = draw(arrays.arrays(np.uint8, (count, channels, height, width)))
        return Split(images, draw(arrays.arrays(np.int64, shape, elements=st.integers(0, len(names) - 1))))

    train, test = split(draw(st.integers(1, 6))), split(draw(st.integers(0, 3)))
    validation = np.array(sorted(draw(st.sets(st.integers(0, len(train) - 1)))), dtype=np.int64)
    return PackedDataset(
        draw(st.text(max_size=8)), draw(st.sampled_from(["embedded", "official"])), names, train, validation, test
    )


def toy() -> PackedDataset:
    generator = np.random.default_rng(0)
    train = Split(generator.integers(0, 256, (6, 1, 2, 3)).astype(np.uint8), np.arange(6, dtype=np.int64) % 2)
    test = Split(generator.integers(0, 256, (2, 1, 2, 3)).astype(np.uint8), np.arange(2, dtype=np.int64))
    return PackedDataset("toy", "embedded", ("a", "b"), train, np.array([1, 4], dtype=np.int64), test)


def content(packed: PackedDataset) -> list[tuple[object, ...]]:
    split_arrays = (packed.train.images, packed.train.labels, packed.validation, packed.test.images, packed.test.labels)
    return [(array.dtype, array.shape, array.tobytes()) for array in split_arrays]


@given(packed=packs())
def test_written_dataset_is_read_back(packed, tmp_path_factory):
    file = tmp_path_factory.mktemp("packed") / "toy.safetensors"
    write_packed(file, packed)
    found = read_packed(file)
    assert content(found) == content(packed)
    assert [getattr(found, name) for name in ABOUT] == [getattr(packed, name) for name in ABOUT]
    assert found.image_shape == packed.train.images.shape[1:]


@given(packed=packs())
def test_same_content_gives_the_same_bytes_and_other_content_another_digest(packed, tmp_path_factory):
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


def test_every_flipped_byte_is_found(tmp_path):
    file = tmp_path / "toy.safetensors"
    write_packed(file, toy())
    good = file.read_bytes()
    for place in range(len(good)):
        for flip in (0x01, 0x55, 0x80):
            file.write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
            with pytest.raises(DataError, match=rf"^{re.escape(str(file))}: corrupt, .*{FIX}"):
                read_packed(file)


def test_every_truncation_is_found(tmp_path):
    file = tmp_path / "toy.safetensors"
    write_packed(file, toy())
    good = file.read_bytes()
    for length in range(len(good)):
        file.write_bytes(good[:length])
        with pytest.raises(DataError, match=rf"^{re.escape(str(file))}: corrupt, .*{FIX}"):
            read_packed(file)


def test_array_of_another_shape_or_type_with_the_same_bytes_is_found(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    file = tmp_path / "toy.safetensors"
    write_packed(file, toy())
    with safe_open(file, "numpy") as opened:
        metadata = opened.metadata()
    good = load_file(file)
    for altered in (good["test_images"].reshape(2, 1, 3, 2), good["test_images"].view(np.int8)):
        save_file(good | {"test_images": altered}, file, metadata=metadata)
        with pytest.raises(DataError, match=rf"its content has sha256 .*{FIX}"):
            read_packed(file)


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"PK\x03\x04 another format", b"{}"])
def test_file_of_another_format_is_refused(tmp_path, data):
    file = tmp_path / "toy.safetensors"
    file.write_bytes(data)
    with pytest.raises(DataError, match=rf"not a prepared dataset .*{FIX}"):
        read_packed(file)


def test_safetensors_file_without_our_metadata_is_refused(tmp_path):
    from safetensors.numpy import save_file

    file = tmp_path / "toy.safetensors"
    save_file({"train_images": np.zeros(3)}, file)
    with pytest.raises(DataError, match=rf"not a prepared dataset .*{FIX}"):
        read_packed(file)


def test_missing_file_is_named_with_the_stage_that_creates_it(tmp_path):
    with pytest.raises(DataError, match=rf"toy\.safetensors: not found\. {FIX}"):
        read_packed(tmp_path / "toy.safetensors")


def test_missing_derived_file_is_named_with_the_stage_that_creates_it(tmp_path):
    with pytest.raises(DataError, match=r"scenes\.safetensors: not found\. Run `dvc repro derive@scenes` to create it again"):
        read_packed(tmp_path / "scenes.safetensors")


@st.composite
def label_lists(draw):
    """Labels of up to four classes in any order, with four samples of each or more."""
    members = draw(st.lists(st.integers(4, 30), min_size=1, max_size=4))
    return np.random.default_rng(draw(seeds)).permutation(np.arange(len(members)).repeat(members))


fractions = st.floats(0.25, 0.5)
seeds = st.integers(0, 2**32 - 1)


@given(labels=label_lists(), fraction=fractions, seed=seeds)
def test_validation_takes_the_same_fraction_of_every_class_and_of_all(labels, fraction, seed):
    """Each class has its quota, rounded up or down, and all together have that of the whole set, rounded."""
    quotas = fraction * np.bincount(labels)
    drawn = stratified_split(labels, fraction, seed)
    assert len(drawn) == round(fraction * len(labels))
    assert (abs(np.bincount(labels[drawn], minlength=len(quotas)) - quotas) < 1).all()


def test_validation_of_mnist_has_6000_of_its_60000_images():
    """The number of training images of each digit is published; a tenth of each, rounded, is 5,999."""
    images = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    labels = np.arange(10).repeat(images)
    drawn = labels[stratified_split(labels, 0.1, 0)]
    assert np.bincount(drawn).tolist() == [592, 674, 596, 613, 584, 542, 592, 627, 585, 595]


@pytest.mark.parametrize(
    ("members", "fraction", "expected"),
    [
        ((14, 14, 14), 0.1, [2, 1, 1]),  # 1.4 each, 4.2 in all; the first of equals has one more
        ((13, 16, 18), 0.1, [1, 2, 2]),  # 1.3, 1.6 and 1.8, 4.7 in all
        ((25, 25), 0.1, [3, 2]),  # 2.5 each, 5 in all
        ((16, 16, 16), 0.1, [2, 2, 1]),  # 1.6 each, 4.8 in all, and not 2 each
    ],
)
def test_largest_remainder_has_one_sample_more(members, fraction, expected):
    labels = np.arange(len(members)).repeat(members)
    assert np.bincount(labels[stratified_split(labels, fraction, 7)]).tolist() == expected


@given(labels=label_lists(), fraction=fractions, seed=seeds)
def test_validation_is_sorted_without_duplicates(labels, fraction, seed):
    drawn = stratified_split(labels, fraction, seed)
    assert drawn.dtype == np.int64
    assert (np.diff(drawn) > 0).all()
    assert ((drawn >= 0) & (drawn < len(labels))).all()


@pytest.mark.parametrize(("fraction", "samples"), [(0.1, 4), (0.01, 49), (0.5, 1)])
def test_fraction_that_leaves_a_class_without_validation_is_refused(fraction, samples):
    labels = np.array([0] * 100 + [3] * samples, dtype=np.int64)
    message = f"validation_fraction: {fraction} selects none of the {samples} samples of class 3"
    with pytest.raises(DataError, match=message):
        stratified_split(labels, fraction, 0)


def test_validation_depends_only_on_its_seed():
    labels = np.arange(200, dtype=np.int64) % 10
    again = [stratified_split(labels, 0.2, seed) for seed in (3, 3, 4)]
    assert np.array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2])


@given(packed=packs())
def test_held_out_splits_the_training_set_in_two(packed):
    kept, held = packed.held_out()
    assert np.array_equal(held.images, packed.train.images[packed.validation])
    assert np.array_equal(held.labels, packed.train.labels[packed.validation])
    others = [index for index in range(len(packed.train)) if index not in set(packed.validation.tolist())]
    assert np.array_equal(kept.images, packed.train.images[others])
    assert np.array_equal(kept.labels, packed.train.labels[others])
