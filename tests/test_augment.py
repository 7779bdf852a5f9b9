"""Preprocessing and augmentation against torchvision's, with the same parameters on the same images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.functional import to_tensor
from torchvision.transforms.v2 import functional as reference

from labbook.config.images import Augment, Preprocess
from labbook.config.reading import validate
from labbook.errors import ParamsError
from labbook.training.augment import Augmentation, RandomParameters, crop, hflip, rotate
from labbook.training.preprocessing import Preprocessing, resize

BLACK = torch.zeros(1, 1, 1, 1)
ALL_OPERATIONS = {"crop_padding": 4, "flip": 0.5, "rotation": 30.0}
SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 12), st.integers(1, 12))


@pytest.fixture(autouse=True)
def _deterministic_algorithms():
    torch.use_deterministic_algorithms(True)


def preprocessing(**keys):
    return Preprocessing(Preprocess(**keys))


def augmentation(mean=0.0, std=1.0, **keys):
    return Augmentation(Augment(**keys), Preprocess(mean=mean, std=std))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_bytes(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def random_images(*shape, seed=0, strided=True):
    images = random_bytes(*shape, seed=seed) / 255
    return images.contiguous(memory_format=torch.channels_last) if strided else images


def apply_to_each(function, images, *parameters):
    """Apply a function of torchvision to each image, with separate parameters."""
    return torch.stack([function(image, *values) for image, *values in zip(images, *parameters, strict=True)])


def scale_as_torchvision(image):
    """Divide by 255, as `ToTensor` does; `ToDtype` multiplies by the inverse, which differs in the last bit."""
    return to_tensor(image.permute(1, 2, 0).numpy())


def crop_as_torchvision(image, offset, padding):
    height, width = image.shape[1:]
    return reference.crop(reference.pad(image, [padding]), int(offset[0]), int(offset[1]), height, width)


def rotate_as_torchvision(image, angle):
    return reference.rotate(image, float(angle), interpolation=v2.InterpolationMode.NEAREST)


def fraction_of_equal_pixels(one, other):
    return (one == other).all(1).double().mean().item()


@given(SHAPES, st.integers(0, 4), st.booleans(), st.data())
def test_crops_match_torchvision(shape, padding, strided, data):
    images = random_images(*shape, strided=strided)
    numbers = st.integers(0, 2 * padding)
    offsets = torch.tensor([data.draw(st.lists(numbers, min_size=shape[0], max_size=shape[0])) for _ in range(2)])
    found = crop(images, offsets, padding, BLACK)
    assert torch.equal(found, apply_to_each(lambda image, at: crop_as_torchvision(image, at, padding), images, offsets.T))


@given(SHAPES, st.booleans(), st.data())
def test_flips_match_torchvision(shape, strided, data):
    images = random_images(*shape, strided=strided)
    flips = torch.tensor(data.draw(st.lists(st.booleans(), min_size=shape[0], max_size=shape[0])))
    expected = apply_to_each(lambda image, flip: reference.horizontal_flip(image) if flip else image, images, flips)
    assert torch.equal(hflip(images, flips), expected)


@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (64, 1, 28, 28), (64, 3, 31, 31), (64, 3, 20, 33)])
def test_rotations_match_torchvision(shape):
    images = random_images(*shape) + 0.5  # so that only pixels from outside the image are black
    angles = torch.empty(shape[0]).uniform_(-180, 180, generator=seeded())
    found, expected = rotate(images, angles, BLACK), apply_to_each(rotate_as_torchvision, images, angles)
    assert fraction_of_equal_pixels(found, expected) >= 0.999
    assert 0.05 < (expected == 0).double().mean() < 0.6


@given(SHAPES, st.sampled_from([-180, -90, 0, 90, 180]))
def test_rotations_by_right_angles_move_whole_pixels(shape, angle):
    count, channels, size, _ = shape
    images = random_images(count, channels, size, size)
    found = rotate(images, torch.full((count,), float(angle)), BLACK)
    assert torch.equal(found, torch.rot90(images, angle // 90, (2, 3)))


@given(SHAPES, st.integers(1, 20), st.booleans())
def test_resize_matches_torchvision(shape, size, strided):
    images = random_images(*shape, strided=strided)
    assert torch.equal(resize(images, size), reference.resize(images, [size, size], antialias=True))


@pytest.mark.parametrize(
    ("mean", "std"), [(0.5, 0.25), ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]), ([0.1, 0.2, 0.3], 2)]
)
@pytest.mark.parametrize("size", [None, 16, 48])
def test_preprocessing_is_bit_identical_to_torchvision(mean, std, size):
    images = random_bytes(6, 3, 32, 32)
    before = images.clone()
    per_channel = [value if isinstance(value, list) else [value] * 3 for value in (mean, std)]
    steps = [v2.Resize((size, size), antialias=True)] if size else []
    compose = v2.Compose([scale_as_torchvision, *steps, v2.Normalize(*per_channel)])
    preprocess = preprocessing(mean=mean, std=std, resize=size)
    assert torch.equal(preprocess(images), apply_to_each(compose, images))
    strided = preprocess(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(strided, preprocess(images))
    assert strided.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(preprocess(images[2:3]), preprocess(images)[2:3])
    assert torch.equal(images, before)


@given(SHAPES, st.booleans())
def test_preprocessing_only_scales_by_default(shape, strided):
    images = random_bytes(*shape)
    if strided:
        images = images.contiguous(memory_format=torch.channels_last)
    found, expected = preprocessing()(images), images.to(torch.float32) / 255
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


def test_without_settings_there_is_no_augmentation():
    assert augmentation(mean=0.5, std=0.5).transform is None


@settings(max_examples=25)
@given(
    SHAPES,
    st.integers(0, 4),
    st.floats(0, 1),
    st.sampled_from([(0, 1), (0.5, 0.25), (0.3, 0.7)]),
    st.integers(0, 99),
)
def test_crop_and_flip_commute_with_normalisation(shape, padding, flip, scale, seed):
    """The padding has exactly the value of a black pixel after normalisation."""
    images, (mean, std) = random_bytes(*shape), scale
    augment = augmentation(mean=mean, std=std, crop_padding=padding, flip=flip)
    draws = augment.draw(len(images), seeded(seed))
    offsets = draws.offsets if draws.offsets is not None else torch.zeros(2, len(images))
    flips = draws.flips if draws.flips is not None else torch.zeros(len(images))

    def compose(image, offset, flip):
        image = crop_as_torchvision(image, offset, padding)
        image = reference.horizontal_flip(image) if flip else image
        return reference.normalize(scale_as_torchvision(image), [mean], [std])

    found = augment.apply(preprocessing(mean=mean, std=std)(images), draws)
    assert torch.equal(found, apply_to_each(compose, images, offsets.T, flips))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3])])
def test_all_operations_match_a_torchvision_compose(mean, std):
    """Crop, flip, rotation and normalisation, with the same parameters for each image."""
    images = random_bytes(64, 3, 32, 32)
    per_channel = [value if isinstance(value, list) else [value] * 3 for value in (mean, std)]
    augment = augmentation(mean=mean, std=std, **ALL_OPERATIONS)
    draws = augment.draw(64, seeded())
    expected = []
    for index, raw in enumerate(images):
        image = crop_as_torchvision(scale_as_torchvision(raw), draws.offsets[:, index], 4)
        image = reference.horizontal_flip(image) if draws.flips[index] else image
        expected.append(reference.normalize(rotate_as_torchvision(image, draws.angles[index]), *per_channel))
    found = augment.apply(preprocessing(mean=mean, std=std)(images), draws)
    assert fraction_of_equal_pixels(found, torch.stack(expected)) >= 0.999


def test_transform_applies_the_drawn_parameters():
    augment = augmentation(mean=0.5, std=0.25, **ALL_OPERATIONS)
    images = preprocessing(mean=0.5, std=0.25)(random_bytes(8, 3, 16, 16))
    expected = augment.apply(images, augment.draw(8, seeded(3)))
    assert torch.equal(augment.transform(images, seeded(3)), expected)


def is_within_error(found, expected, deviation, samples):
    """Return whether a sample mean lies within five standard errors of the expected one."""
    return abs(found - expected) < 5 * deviation / math.sqrt(samples)


@pytest.mark.parametrize("padding", [1, 4])
def test_crop_offsets_are_uniform(padding):
    offsets = augmentation(crop_padding=padding).draw(20_000, seeded()).offsets
    choices = 2 * padding + 1
    for line in offsets:
        counts = torch.bincount(line, minlength=choices)
        assert len(counts) == choices
        share = 1 / choices
        assert all(is_within_error(count / 20_000, share, math.sqrt(share * (1 - share)), 20_000) for count in counts.tolist())
    assert abs(torch.corrcoef(offsets.double())[0, 1]) < 0.04


@pytest.mark.parametrize("probability", [0.1, 0.5, 1])
def test_flip_rate_is_the_probability(probability):
    flips = augmentation(flip=probability).draw(20_000, seeded()).flips
    deviation = math.sqrt(probability * (1 - probability)) + 1e-9
    assert is_within_error(flips.double().mean().item(), probability, deviation, 20_000)


@pytest.mark.parametrize("rotation", [30, 180])
def test_angles_are_uniform(rotation):
    angles = augmentation(rotation=rotation).draw(20_000, seeded()).angles.double()
    assert -rotation - 1e-6 <= angles.min() < -rotation + rotation / 250
    assert rotation - rotation / 250 < angles.max() <= rotation + 1e-6
    assert is_within_error(angles.mean(), 0, 2 * rotation / math.sqrt(12), 20_000)
    quarters = torch.histc(angles / rotation, bins=4, min=-1, max=1) / 20_000
    assert all(is_within_error(share, 0.25, math.sqrt(0.25 * 0.75), 20_000) for share in quarters.tolist())


def test_operations_are_drawn_independently():
    draws = augmentation(**ALL_OPERATIONS).draw(20_000, seeded())
    drawn = torch.stack([*draws.offsets.double(), draws.flips.double(), draws.angles.double()])
    correlations = torch.corrcoef(drawn) - torch.eye(4)
    assert correlations.abs().max() < 0.04


def test_only_parameters_of_enabled_operations_are_drawn():
    assert augmentation().draw(5, seeded()) == RandomParameters(None, None, None)
    draws = augmentation(rotation=10).draw(5, seeded())
    assert (draws.offsets, draws.flips, len(draws.angles)) == (None, None, 5)


@pytest.mark.parametrize("keys", [ALL_OPERATIONS, *({name: value} for name, value in ALL_OPERATIONS.items())])
def test_same_generator_state_gives_the_same_bytes_and_keeps_the_input(keys):
    """The batch is a slice of a larger tensor, as in training."""
    augment = augmentation(mean=0.5, std=0.25, **keys)
    whole = preprocessing(mean=0.5, std=0.25)(random_bytes(24, 3, 12, 12).contiguous(memory_format=torch.channels_last))
    before, images, others = whole.clone(), whole[8:16], torch.get_rng_state()

    def run(seed, batch):
        generator = seeded(seed)
        return augment.transform(batch, generator), generator.get_state()

    (one, state), (two, _), (other, _) = run(1, images), run(1, images), run(2, images)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(run(1, whole[:8])[1], state)
    assert torch.equal(run(1, images.contiguous())[0], one)
    assert one.shape == images.shape
    assert one.dtype == torch.float32
    assert one.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(whole, before)
    one.zero_()
    assert torch.equal(whole, before)
    assert torch.equal(torch.get_rng_state(), others)


def test_grey_images_are_augmented():
    augment = augmentation(mean=0.1, std=0.3, **ALL_OPERATIONS)
    images = preprocessing(mean=0.1, std=0.3)(random_bytes(16, 1, 14, 14))
    assert augment.transform(images, seeded()).shape == images.shape
    assert not torch.equal(augment.transform(images, seeded()), images)


@pytest.mark.parametrize(
    ("keys", "channels", "message"),
    [
        ({"mean": [0.5, 0.5, 0.5]}, 1, r"^preprocess\.mean: 3 numbers for images of 1 channels"),
        ({"std": [0.5]}, 3, r"^preprocess\.std: 1 numbers for images of 3 channels\. Give one number, or one per channel\.$"),
    ],
)
def test_wrong_number_of_channel_values_is_rejected(keys, channels, message):
    with pytest.raises(ParamsError, match=message):
        preprocessing(**keys)(random_bytes(1, channels, 4, 4))


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        (Preprocess, "std", 0),
        (Preprocess, "std", [0.5, -0.1, 0.5]),
        (Preprocess, "std", "wide"),
        (Preprocess, "mean", "grey"),
        (Preprocess, "mean", [0.5, None]),
        (Preprocess, "mean", math.inf),
        (Preprocess, "resize", 0),
        (Preprocess, "resize", 4097),
        (Augment, "flip", 1.01),
        (Augment, "flip", -0.1),
        (Augment, "flip", True),
        (Augment, "crop_padding", -1),
        (Augment, "crop_padding", 1.5),
        (Augment, "rotation", -10),
        (Augment, "rotation", 181),
    ],
)
def test_invalid_settings_are_rejected_by_key(model, key, value):
    with pytest.raises(ParamsError, match=rf"^block\.{key}\b"):
        validate({key: value}, model, "block")


def test_mistyped_setting_is_rejected_with_a_suggestion():
    with pytest.raises(ParamsError, match=r"^augment\.rotate: unknown key; did you mean 'rotation'\?"):
        validate({"rotate": 30}, Augment, "augment")


def test_integers_are_accepted_as_numbers():
    read = validate({"mean": [0, 1, 0], "std": 1}, Preprocess), validate({"rotation": 30, "flip": 1}, Augment)
    assert read == (Preprocess(mean=[0.0, 1.0, 0.0], std=1.0), Augment(rotation=30.0, flip=1.0))
