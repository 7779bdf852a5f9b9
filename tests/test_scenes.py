"""Scenes for segmentation, derived from MNIST."""

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labbook.data.derived import scenes
from labbook.data.derived.scenes import CLASSES, FIRST_SHAPE, PATCH_SIZE, SIZE, derive
from labbook.data.packed import PackedDataset, Split, read_packed
from labbook.errors import DataError

PREPARED_SHA256 = "9c56d13400572fe7993583b283791f18532b2a1dfbb99c4d434154074505b81d"


def toy_digits(source: str = "embedded") -> PackedDataset:
    """Return a dataset of bars instead of digits, whose length encodes the class.

    Bars are horizontal in the test set and vertical in the training set. In both, the first bar of each class is white and the
    second is grey; the validation split consists of the white ones.
    """

    def draw(horizontal: bool) -> Split:
        labels = np.arange(20) % 10
        images = np.zeros((20, 1, 28, 28), np.uint8)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            image[0, 12:16, 4 : 14 + label] = 255 if index < 10 else 200
        return Split(images if horizontal else images.transpose(0, 1, 3, 2), labels)

    return PackedDataset("mnist", source, tuple("0123456789"), draw(False), np.arange(10), draw(True))


@pytest.fixture
def few_scenes(monkeypatch):
    """Reduce the number of scenes, so that the last batch is incomplete."""
    monkeypatch.setattr(scenes, "SCENE_COUNTS", {"embedded": (50, 30), "official": (40, 20)})
    monkeypatch.setattr(scenes, "BATCH_SIZE", 20)


@pytest.fixture(scope="module")
def digits(mnist_file):
    return read_packed(mnist_file)


@pytest.fixture(scope="module")
def embedded(digits):
    return derive(digits, validation_fraction=0.1, seed=0)


def sha256_of(packed: PackedDataset) -> str:
    sha256 = hashlib.sha256()
    for split in (packed.train, packed.test):
        sha256.update(split.images.tobytes() + split.labels.tobytes())
    sha256.update(packed.validation.astype("<i8").tobytes())
    return sha256.hexdigest()


def test_scenes_have_a_class_for_every_pixel(embedded):
    assert (embedded.name, embedded.source, embedded.image_shape) == ("scenes", "embedded", (3, 32, 32))
    assert embedded.classes == CLASSES
    assert CLASSES == (
        "background", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9",
        "disc", "ring", "square", "frame", "triangle", "cross", "crescent", "hourglass", "bars",
    )  # fmt: skip
    for split, count in ((embedded.train, 1500), (embedded.test, 300)):
        assert (split.images.dtype, split.images.shape) == (np.uint8, (count, 3, 32, 32))
        assert (split.labels.dtype, split.labels.shape) == (np.uint8, (count, 32, 32))
        assert set(np.unique(split.labels)) == set(range(20))


def test_background_dominates_and_no_class_is_rare(embedded):
    fractions = np.bincount(embedded.train.labels.ravel(), minlength=20) / embedded.train.labels.size
    assert 0.6 < fractions[0] < 0.85
    assert fractions[1:].min() > 0.005


def test_scenes_show_one_to_four_objects(embedded):
    """Objects that are fully occluded are not counted, and two of the same class are counted once."""
    visible = [len(np.unique(labels[labels > 0])) for labels in embedded.train.labels]
    counts = np.bincount(visible)
    assert len(counts) == 5
    assert counts[0] == 0
    assert counts[1:].min() > 200


def test_scenes_are_distinct(embedded):
    images = np.concatenate([embedded.train.images, embedded.test.images])
    assert len({image.tobytes() for image in images}) == 1800


def test_scenes_are_reproducible(digits, embedded):
    assert sha256_of(derive(digits, validation_fraction=0.1, seed=0)) == sha256_of(embedded) == PREPARED_SHA256


@pytest.mark.parametrize(("source", "train", "test"), [("embedded", 50, 30), ("official", 40, 20)])
def test_scenes_have_the_source_of_the_digits(few_scenes, source, train, test):
    packed = derive(toy_digits(source), validation_fraction=0.1, seed=0)
    assert (packed.source, len(packed.train), len(packed.test)) == (source, train, test)


def test_number_of_official_scenes_is_that_of_the_assignment():
    assert scenes.SCENE_COUNTS["official"] == (50_000, 10_000)


def test_scenes_show_digits_of_the_same_split(few_scenes):
    packed = derive(toy_digits(), validation_fraction=0.1, seed=0)
    for split, is_vertical in ((packed.train, True), (packed.test, False)):
        is_digit = (split.labels > 0) & (split.labels < FIRST_SHAPE)
        edges = [(np.diff(is_digit, axis=axis)).sum() for axis in (1, 2)]
        assert (edges[0] < edges[1]) == is_vertical


def test_training_and_validation_scenes_share_no_digit(few_scenes, monkeypatch):
    """The grey level identifies the split of a digit. Blending would hide it, so it is recorded before."""
    recorded = []

    def record(generator, digits, labels):
        recorded.append({int(image.max()) for image in digits.images})
        return draw_digits(generator, digits, labels)

    draw_digits = scenes._draw_digits
    monkeypatch.setattr(scenes, "_draw_digits", record)
    packed = derive(toy_digits(), validation_fraction=0.4, seed=0)
    assert packed.validation.tolist() == list(range(30, 50))
    batch_counts, max_objects = (2, 1, 2), 4  # batches of training, validation and test scenes, 20 scenes each
    grey_levels = ({200}, {255}, {200, 255})
    expected = [levels for levels, count in zip(grey_levels, batch_counts, strict=True) for _ in range(count * max_objects)]
    assert recorded == expected


def test_validation_scenes_differ_from_training_scenes(few_scenes):
    train, validation = derive(toy_digits(), validation_fraction=0.4, seed=0).train_val_split()
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in validation.images}


def test_seed_changes_all_scenes(few_scenes):
    one, two = (derive(toy_digits(), validation_fraction=0.2, seed=seed) for seed in (0, 1))
    for split in ("train", "test"):
        first, second = getattr(one, split), getattr(two, split)
        assert not (first.images == second.images).all(axis=(1, 2, 3)).any()


@given(fraction=st.floats(0.02, 0.9), seed=st.integers(0, 99))
def test_validation_split_has_the_requested_fraction(fraction, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SCENE_COUNTS", {"embedded": (50, 1)})
        packed = derive(toy_digits(), fraction, seed)
    assert packed.validation.dtype == np.int64
    assert len(packed.validation) == round(50 * fraction)
    assert np.array_equal(packed.validation, np.unique(packed.validation))
    assert packed.validation.min() >= 0
    assert packed.validation.max() < 50


def test_fraction_that_selects_no_scene_raises_data_error(few_scenes):
    with pytest.raises(DataError, match=r"validation_fraction: 0\.001 selects none of the 50 scenes\. Increase it\.$"):
        derive(toy_digits(), validation_fraction=0.001, seed=0)


def test_another_dataset_than_mnist_raises_data_error(few_scenes):
    with pytest.raises(DataError, match=r"dataset mnist, not cifar10\. Set derived\.scenes\.made_from to mnist\.$"):
        derive(dataclasses.replace(toy_digits(), name="cifar10"), validation_fraction=0.1, seed=0)


def test_drawn_digits_have_the_requested_labels():
    labels = np.arange(10).repeat(30)
    alpha = scenes._draw_digits(np.random.default_rng(0), toy_digits().test, labels)
    assert alpha.shape == (300, PATCH_SIZE, PATCH_SIZE)
    # On average over random sizes, bars are longer for each class.
    widths = (alpha >= scenes.ALPHA_THRESHOLD).any(axis=1).sum(axis=1).reshape(10, 30).mean(axis=1)
    assert (np.diff(widths) > 0).all()


def test_digits_are_not_cropped(digits):
    """The area of a scaled digit is that of the original, scaled: only the empty border is cut off."""
    labels = np.arange(10).repeat(30)
    alpha = scenes._draw_digits(np.random.default_rng(0), digits.test, labels)
    expected = np.mean(digits.test.images >= scenes.ALPHA_THRESHOLD) * 23**2  # 23 is the mean size
    assert (alpha >= scenes.ALPHA_THRESHOLD).sum(axis=(1, 2)).mean() == pytest.approx(expected, rel=0.1)


def test_patches_lie_near_the_requested_corners():
    corners = np.arange(4).repeat(25)
    patches = np.full((100, PATCH_SIZE, PATCH_SIZE), 9, np.uint8)
    images = scenes._paste_near_corners(np.random.default_rng(0), patches, corners)
    assert (images.sum(axis=(1, 2)) == patches[0].sum()).all()
    half = SIZE // 2
    for corner in range(4):
        rows, columns = (slice(half, None) if is_second_half else slice(half) for is_second_half in divmod(corner, 2))
        quadrants = images[corners == corner][:, rows, columns]
        assert (quadrants.sum(axis=(1, 2)) > patches[0].sum() / 4).all()


def test_blend_is_linear_in_alpha():
    images = np.full((1, 3, 1, 3), 100, np.uint8)
    alpha = np.array([[[0, 51, 255]]], np.uint8)
    blended = scenes._blend(images, alpha, np.array([[200, 0, 100]]))
    assert blended[0, :, 0].tolist() == [[100, 120, 200], [100, 80, 0], [100, 100, 100]]


@pytest.mark.usefixtures("few_scenes")
def test_derive_stage_writes_scenes_of_the_prepared_digits(prepared, run_stage, digits):
    process = run_stage("derive", "scenes", "--made-from", "mnist", "--validation-fraction", "0.2", "--seed", "3")
    assert (process.returncode, process.stderr) == (0, "")
    result = read_packed(prepared / "data/processed/scenes.safetensors")
    assert sha256_of(result) == sha256_of(derive(digits, validation_fraction=0.2, seed=3))
