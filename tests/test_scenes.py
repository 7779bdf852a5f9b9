"""Scenes for segmentation, which are derived from digits."""

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labbook.data.derived import scenes
from labbook.data.derived.scenes import CLASSES, FIRST_DRAWN, PLOT, SIZE, derive
from labbook.data.packed import PackedDataset, Split, read_packed
from labbook.errors import DataError

PREPARED_SHA256 = "9c56d13400572fe7993583b283791f18532b2a1dfbb99c4d434154074505b81d"


def toy_digits(source: str = "embedded") -> PackedDataset:
    """Bars instead of digits, longer for each class; those of the test set are flat, the others upright.

    The first of each class, of both sets, is white; it is in the validation split. The second is grey.
    """

    def draw(flat: bool) -> Split:
        labels = np.arange(20) % 10
        images = np.zeros((20, 1, 28, 28), np.uint8)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            image[0, 12:16, 4 : 14 + label] = 255 if index < 10 else 200
        return Split(images if flat else images.transpose(0, 1, 3, 2), labels)

    return PackedDataset("mnist", source, tuple("0123456789"), draw(False), np.arange(10), draw(True))


@pytest.fixture
def small(monkeypatch):
    """Few scenes, in batches that they do not fill."""
    monkeypatch.setattr(scenes, "COUNTS", {"embedded": (50, 30), "official": (40, 20)})
    monkeypatch.setattr(scenes, "BATCH", 20)


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


def test_most_of_a_scene_is_background_and_no_object_is_rare(embedded):
    shares = np.bincount(embedded.train.labels.ravel(), minlength=20) / embedded.train.labels.size
    assert 0.6 < shares[0] < 0.85
    assert shares[1:].min() > 0.005


def test_scene_shows_one_to_four_objects(embedded):
    """Some are seen no more, below a later one; and two of a class count once here."""
    shown = [len(np.unique(labels[labels > 0])) for labels in embedded.train.labels]
    counts = np.bincount(shown)
    assert len(counts) == 5
    assert counts[0] == 0
    assert counts[1:].min() > 200


def test_scenes_are_all_different(embedded):
    images = np.concatenate([embedded.train.images, embedded.test.images])
    assert len({image.tobytes() for image in images}) == 1800


def test_scenes_are_the_same_every_time(digits, embedded):
    assert sha256_of(derive(digits, validation_fraction=0.1, seed=0)) == sha256_of(embedded) == PREPARED_SHA256


@pytest.mark.parametrize(("source", "train", "test"), [("embedded", 50, 30), ("official", 40, 20)])
def test_source_of_the_digits_is_that_of_the_scenes(small, source, train, test):
    packed = derive(toy_digits(source), validation_fraction=0.1, seed=0)
    assert (packed.source, len(packed.train), len(packed.test)) == (source, train, test)


def test_official_scenes_are_as_many_as_the_assignment_asks_for():
    assert scenes.COUNTS["official"] == (50_000, 10_000)


def test_training_scenes_show_training_digits_and_test_scenes_test_digits(small):
    packed = derive(toy_digits(), validation_fraction=0.1, seed=0)
    for split, upright in ((packed.train, True), (packed.test, False)):
        is_digit = (split.labels > 0) & (split.labels < FIRST_DRAWN)
        steps = [(np.diff(is_digit, axis=axis)).sum() for axis in (1, 2)]
        assert (steps[0] < steps[1]) == upright


def test_no_digit_of_a_validation_scene_is_in_a_training_scene(small, monkeypatch):
    """Digits are told apart by their grey, which the tint of a scene would hide: they are looked at where they are drawn."""
    drawn = []

    def record(generator, digits, wanted):
        drawn.append({int(image.max()) for image in digits.images})
        return draw_digits(generator, digits, wanted)

    draw_digits = scenes._draw_digits
    monkeypatch.setattr(scenes, "_draw_digits", record)
    packed = derive(toy_digits(), validation_fraction=0.4, seed=0)
    assert packed.validation.tolist() == list(range(30, 50))
    batches, objects = (2, 1, 2), 4  # of the training, validation and test scenes, 20 a batch
    greys = ({200}, {255}, {200, 255})
    assert drawn == [grey for grey, count in zip(greys, batches, strict=True) for _ in range(count * objects)]


def test_validation_scenes_are_no_copies_of_training_scenes(small):
    learnt, held_out = derive(toy_digits(), validation_fraction=0.4, seed=0).held_out()
    assert not {image.tobytes() for image in learnt.images} & {image.tobytes() for image in held_out.images}


def test_seed_moves_everything(small):
    one, two = (derive(toy_digits(), validation_fraction=0.2, seed=seed) for seed in (0, 1))
    for split in ("train", "test"):
        first, second = getattr(one, split), getattr(two, split)
        assert not (first.images == second.images).all(axis=(1, 2, 3)).any()


@given(fraction=st.floats(0.02, 0.9), seed=st.integers(0, 99))
def test_validation_is_that_fraction_of_the_training_scenes(fraction, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "COUNTS", {"embedded": (50, 1)})
        packed = derive(toy_digits(), fraction, seed)
    assert packed.validation.dtype == np.int64
    assert len(packed.validation) == round(50 * fraction)
    assert np.array_equal(packed.validation, np.unique(packed.validation))
    assert packed.validation.min() >= 0
    assert packed.validation.max() < 50


def test_fraction_that_leaves_no_scene_is_refused(small):
    with pytest.raises(DataError, match=r"validation_fraction: 0\.001 selects none of the 50 scenes\. Increase it\.$"):
        derive(toy_digits(), validation_fraction=0.001, seed=0)


def test_scenes_of_another_dataset_are_refused(small):
    with pytest.raises(DataError, match=r"digits of mnist, not of cifar10\. Set derived\.scenes\.made_from to mnist\.$"):
        derive(dataclasses.replace(toy_digits(), name="cifar10"), validation_fraction=0.1, seed=0)


def test_digit_is_drawn_of_the_class_that_its_pixels_get():
    wanted = np.arange(10).repeat(30)
    plots = scenes._draw_digits(np.random.default_rng(0), toy_digits().test, wanted)
    assert plots.shape == (300, PLOT, PLOT)
    # The bars' lengths tell the classes, whatever the size.
    widths = (plots >= scenes.INK).any(axis=1).sum(axis=1).reshape(10, 30).mean(axis=1)
    assert (np.diff(widths) > 0).all()


def test_digit_is_seen_whole_wherever_it_is_placed(digits):
    """As many pixels as in the digit itself, for its size: nothing is cut off but the odd pixel in MNIST's empty border."""
    wanted = np.arange(10).repeat(30)
    plots = scenes._draw_digits(np.random.default_rng(0), digits.test, wanted)
    plain = np.mean(digits.test.images >= scenes.INK) * 23**2  # the mean size
    assert (plots >= scenes.INK).sum(axis=(1, 2)).mean() == pytest.approx(plain, rel=0.1)


def test_plots_lie_near_the_corners_asked_for():
    corners = np.arange(4).repeat(25)
    plots = np.full((100, PLOT, PLOT), 9, np.uint8)
    found = scenes._spread_out(np.random.default_rng(0), plots, corners)
    assert (found.sum(axis=(1, 2)) == plots[0].sum()).all()
    middle = SIZE // 2
    for corner in range(4):
        rows, columns = (slice(middle, None) if far else slice(middle) for far in divmod(corner, 2))
        here = found[corners == corner][:, rows, columns].sum(axis=(1, 2))
        assert (here > plots[0].sum() / 4).all()


def test_colour_is_laid_over_as_much_as_a_pixel_is_covered():
    images = np.full((1, 3, 1, 3), 100, np.uint8)
    cover = np.array([[[0, 51, 255]]], np.uint8)
    found = scenes._covered(images, cover, np.array([[200, 0, 100]]))
    assert found[0, :, 0].tolist() == [[100, 120, 200], [100, 80, 0], [100, 100, 100]]


@pytest.mark.usefixtures("small")
def test_derive_stage_writes_the_scenes_of_the_prepared_digits(prepared, run_stage, digits):
    done = run_stage("derive", "scenes", "--made-from", "mnist", "--validation-fraction", "0.2", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    found = read_packed(prepared / "data/processed/scenes.safetensors")
    assert sha256_of(found) == sha256_of(derive(digits, validation_fraction=0.2, seed=3))
