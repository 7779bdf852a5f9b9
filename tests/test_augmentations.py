"""Every transform against torchvision's, with the same parameters on the same images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toolbox import CPU, bits, toy_model, toy_plan
from torchvision.transforms import v2
from torchvision.transforms.functional import to_tensor
from torchvision.transforms.v2 import functional as reference

from labbook.augmentations import none
from labbook.augmentations.transforms import (
    JITTERS,
    Draws,
    Settings,
    build,
    cropped,
    flipped,
    jittered,
    resized,
    rotated,
)
from labbook.core.errors import ParamsError
from labbook.core.inference import place
from labbook.core.parts import Part, load
from labbook.training.engine import fit

BLACK = torch.zeros(1, 1, 1, 1)
EVERYTHING = {"crop_padding": 4, "flip": 0.5, "rotation": 30, "brightness": 0.4, "contrast": 0.3, "saturation": 0.5, "hue": 0.2}
ADJUST = {name: getattr(reference, f"adjust_{name}") for name in JITTERS}
SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 12), st.integers(1, 12))


@pytest.fixture(autouse=True)
def _as_in_training():
    torch.use_deterministic_algorithms(True)


def transforms(**keys):
    return build(Settings(name="transforms", **keys))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_bytes(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def random_images(*shape, seed=0, strided=True):
    images = random_bytes(*shape, seed=seed) / 255
    return images.contiguous(memory_format=torch.channels_last) if strided else images


def one_by_one(function, images, *parameters):
    """Apply a function of torchvision to each image with parameters of its own."""
    return torch.stack([function(image, *given) for image, *given in zip(images, *parameters, strict=True)])


def scale_as_torchvision(image):
    """Divide by 255, as `ToTensor` does; `ToDtype` multiplies by the inverse, which differs in the last bit."""
    return to_tensor(image.permute(1, 2, 0).numpy())


def crop_as_torchvision(image, offset, padding):
    height, width = image.shape[1:]
    return reference.crop(reference.pad(image, [padding]), int(offset[0]), int(offset[1]), height, width)


def rotate_as_torchvision(image, angle):
    return reference.rotate(image, float(angle), interpolation=v2.InterpolationMode.NEAREST)


def share_of_equal_pixels(one, other):
    return (one == other).all(1).double().mean().item()


@given(SHAPES, st.integers(0, 4), st.booleans(), st.data())
def test_crops_are_those_of_torchvision(shape, padding, strided, data):
    images = random_images(*shape, strided=strided)
    numbers = st.integers(0, 2 * padding)
    offsets = torch.tensor([data.draw(st.lists(numbers, min_size=shape[0], max_size=shape[0])) for _ in range(2)])
    found = cropped(images, offsets, padding, BLACK)
    assert torch.equal(found, one_by_one(lambda image, at: crop_as_torchvision(image, at, padding), images, offsets.T))


@given(SHAPES, st.booleans(), st.data())
def test_flips_are_those_of_torchvision(shape, strided, data):
    images = random_images(*shape, strided=strided)
    flips = torch.tensor(data.draw(st.lists(st.booleans(), min_size=shape[0], max_size=shape[0])))
    expected = one_by_one(lambda image, flip: reference.horizontal_flip(image) if flip else image, images, flips)
    assert torch.equal(flipped(images, flips), expected)


@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (64, 1, 28, 28), (64, 3, 31, 31), (64, 3, 20, 33)])
def test_rotations_are_those_of_torchvision(shape):
    images = random_images(*shape) + 0.5  # no pixel is as black as what comes in from outside
    angles = torch.empty(shape[0]).uniform_(-180, 180, generator=seeded())
    found, expected = rotated(images, angles, BLACK), one_by_one(rotate_as_torchvision, images, angles)
    assert share_of_equal_pixels(found, expected) >= 0.999
    assert 0.05 < (expected == 0).double().mean() < 0.6


@given(SHAPES, st.sampled_from([-180, -90, 0, 90, 180]))
def test_rotations_by_right_angles_move_whole_pixels(shape, angle):
    count, channels, size, _ = shape
    images = random_images(count, channels, size, size)
    found = rotated(images, torch.full((count,), float(angle)), BLACK)
    assert torch.equal(found, torch.rot90(images, angle // 90, (2, 3)))


@pytest.mark.parametrize(("name", "channels"), [*((name, 3) for name in JITTERS), ("brightness", 1), ("contrast", 1)])
def test_jitter_is_that_of_torchvision(name, channels):
    images = random_images(32, channels, 9, 7)
    images[0], images[1], images[2] = 0, 1, 0.25
    factors = torch.empty(32).uniform_(*((-0.5, 0.5) if name == "hue" else (0, 2)), generator=seeded())
    factors[-3:] = torch.tensor([-0.5, 0, 0.5] if name == "hue" else [0, 1, 2])
    found = jittered(images, **{name: factors})
    torch.testing.assert_close(found, one_by_one(ADJUST[name], images, factors.tolist()), rtol=0, atol=2e-6)
    nothing = torch.zeros(32) if name == "hue" else torch.ones(32)
    torch.testing.assert_close(jittered(images, **{name: nothing}), images, rtol=0, atol=1e-6)


def test_hue_of_every_sector_and_of_ties_is_that_of_torchvision():
    levels = torch.tensor([0, 0.25, 0.5, 1])
    images = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 8, 8)
    turns = torch.linspace(-0.5, 0.5, 41)
    found = jittered(images.expand(41, 3, 8, 8), hue=turns)
    torch.testing.assert_close(found, one_by_one(ADJUST["hue"], images.expand(41, 3, 8, 8), turns.tolist()), rtol=0, atol=2e-6)


@given(SHAPES, st.integers(1, 20), st.booleans())
def test_resize_is_that_of_torchvision(shape, size, strided):
    images = random_images(*shape, strided=strided)
    assert torch.equal(resized(images, size), reference.resize(images, [size, size], antialias=True))


@pytest.mark.parametrize(
    ("mean", "std"), [(0.5, 0.25), ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]), ([0.1, 0.2, 0.3], 2)]
)
@pytest.mark.parametrize("resize", [None, 16, 48])
def test_fixed_part_is_that_of_torchvision_to_the_bit(mean, std, resize):
    images = random_bytes(6, 3, 32, 32)
    before = images.clone()
    three = [value if isinstance(value, list) else [value] * 3 for value in (mean, std)]
    steps = [v2.Resize((resize, resize), antialias=True)] if resize else []
    compose = v2.Compose([scale_as_torchvision, *steps, v2.Normalize(*three)])
    fixed = transforms(mean=mean, std=std, resize=resize).fixed
    assert torch.equal(fixed(images), one_by_one(compose, images))
    strided = fixed(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(strided, fixed(images))
    assert strided.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(fixed(images[2:3]), fixed(images)[2:3])
    assert torch.equal(images, before)


@given(SHAPES)
def test_defaults_only_scale(shape):
    images = random_bytes(*shape)
    assert torch.equal(transforms().fixed(images), none.Scaled().fixed(images))
    assert transforms(mean=0.5, std=0.5, resize=32).random is None


@settings(max_examples=25)
@given(
    SHAPES,
    st.integers(0, 4),
    st.floats(0, 1),
    st.sampled_from([(0, 1), (0.5, 0.25), (0.3, 0.7)]),
    st.integers(0, 99),
)
def test_crop_and_flip_of_normalised_images_are_those_of_raw_ones_normalised(shape, padding, flip, scale, seed):
    """What comes in at the border is black, to the bit."""
    images, (mean, std) = random_bytes(*shape), scale
    augmentation = transforms(mean=mean, std=std, crop_padding=padding, flip=flip)
    draws = augmentation.draw(len(images), seeded(seed))
    offsets = draws.offsets if draws.offsets is not None else torch.zeros(2, len(images))
    flips = draws.flips if draws.flips is not None else torch.zeros(len(images))

    def compose(image, offset, flip):
        image = crop_as_torchvision(image, offset, padding)
        image = reference.horizontal_flip(image) if flip else image
        return reference.normalize(scale_as_torchvision(image), [mean], [std])

    assert torch.equal(augmentation.apply(augmentation.fixed(images), draws), one_by_one(compose, images, offsets.T, flips))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3])])
def test_all_together_are_the_compose_of_torchvision(mean, std):
    """Crop, flip, jitter, rotation, normalisation: with every draw of each image."""
    images = random_bytes(64, 3, 32, 32)
    three = [value if isinstance(value, list) else [value] * 3 for value in (mean, std)]
    augmentation = transforms(mean=mean, std=std, **EVERYTHING)
    draws = augmentation.draw(64, seeded())
    expected = []
    for index, raw in enumerate(images):
        image = crop_as_torchvision(scale_as_torchvision(raw), draws.offsets[:, index], 4)
        image = reference.horizontal_flip(image) if draws.flips[index] else image
        for name in JITTERS:
            image = ADJUST[name](image, float(draws.jitter[name][index]))
        expected.append(reference.normalize(rotate_as_torchvision(image, draws.angles[index]), *three))
    found = augmentation.apply(augmentation.fixed(images), draws)
    assert torch.isclose(found, torch.stack(expected), rtol=0, atol=3e-5).all(1).double().mean() >= 0.999


def test_random_part_applies_what_it_draws():
    augmentation = transforms(mean=0.5, std=0.25, **EVERYTHING)
    images = augmentation.fixed(random_bytes(8, 3, 16, 16))
    expected = augmentation.apply(images, augmentation.draw(8, seeded(3)))
    assert torch.equal(augmentation.random(images, seeded(3)), expected)


def within(found, expected, deviation, samples):
    """Tell whether the mean of so many draws is as near as five standard errors."""
    return abs(found - expected) < 5 * deviation / math.sqrt(samples)


@pytest.mark.parametrize("padding", [1, 4])
def test_crop_offsets_are_uniform(padding):
    offsets = transforms(crop_padding=padding).draw(20_000, seeded()).offsets
    choices = 2 * padding + 1
    for line in offsets:
        counts = torch.bincount(line, minlength=choices)
        assert len(counts) == choices
        share = 1 / choices
        assert all(within(count / 20_000, share, math.sqrt(share * (1 - share)), 20_000) for count in counts.tolist())
    assert abs(torch.corrcoef(offsets.double())[0, 1]) < 0.04


@pytest.mark.parametrize("probability", [0.1, 0.5, 1])
def test_flip_rate_is_the_probability(probability):
    flips = transforms(flip=probability).draw(20_000, seeded()).flips
    deviation = math.sqrt(probability * (1 - probability)) + 1e-9
    assert within(flips.double().mean().item(), probability, deviation, 20_000)


@pytest.mark.parametrize(
    ("keys", "low", "high"),
    [
        ({"rotation": 30}, -30, 30),
        ({"hue": 0.25}, -0.25, 0.25),
        ({"brightness": 0.4}, 0.6, 1.4),
        ({"contrast": 1}, 0, 2),
        ({"saturation": 1.5}, 0, 2.5),
    ],
)
def test_angles_and_factors_are_uniform(keys, low, high):
    draws = transforms(**keys).draw(20_000, seeded())
    drawn = (draws.angles if draws.angles is not None else draws.jitter[next(iter(keys))]).double()
    assert low - 1e-6 <= drawn.min() < low + (high - low) / 500
    assert high - (high - low) / 500 < drawn.max() <= high + 1e-6
    width = high - low
    assert within(drawn.mean(), (low + high) / 2, width / math.sqrt(12), 20_000)
    quarters = torch.histc((drawn - low) / width, bins=4, min=0, max=1) / 20_000
    assert all(within(share, 0.25, math.sqrt(0.25 * 0.75), 20_000) for share in quarters.tolist())


def test_transforms_are_drawn_independently():
    draws = transforms(**EVERYTHING).draw(20_000, seeded())
    drawn = [*draws.offsets, draws.flips, *draws.jitter.values(), draws.angles]
    assert len(drawn) == 8
    correlations = torch.corrcoef(torch.stack([one.double() for one in drawn])) - torch.eye(8)
    assert correlations.abs().max() < 0.04


def test_only_what_is_asked_for_is_drawn():
    assert transforms().draw(5, seeded()) == Draws(None, None, {}, None)
    draws = transforms(hue=0.1).draw(5, seeded())
    assert (draws.offsets, draws.flips, list(draws.jitter), draws.angles) == (None, None, ["hue"], None)


@pytest.mark.parametrize("keys", [EVERYTHING, *({name: value} for name, value in EVERYTHING.items())])
def test_same_generator_state_gives_the_same_bytes_and_the_input_stays(keys):
    """The batch is a slice of a larger one, as the engine's are."""
    augmentation = transforms(mean=0.5, std=0.25, **keys)
    whole = augmentation.fixed(random_bytes(24, 3, 12, 12).contiguous(memory_format=torch.channels_last))
    before, images, others = whole.clone(), whole[8:16], torch.get_rng_state()

    def run(seed, given):
        generator = seeded(seed)
        return augmentation.random(given, generator), generator.get_state()

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


def test_training_with_transforms_gives_the_same_bytes_and_leaves_the_dataset(tiny_packed):
    augmentation = transforms(mean=0.3, std=0.2, crop_padding=1, flip=0.5, rotation=10, contrast=0.2)
    train = place(tiny_packed.train, augmentation.fixed, CPU)
    before = train.pixels.clone()

    def run(**changes):
        plan = toy_plan(augmentation=augmentation, **changes)
        return bits(fit(toy_model(tiny_packed, "cnn"), train, None, None, plan).weights)

    weights = run()
    assert run() == weights
    assert run(seed=1) != weights
    assert torch.equal(train.pixels, before)


@pytest.mark.parametrize(
    ("keys", "channels", "message"),
    [
        ({"hue": 0.1}, 1, r"augmentation\.hue: it is for images of 3 channels, and these have 1\. Leave it out\."),
        ({"saturation": 0.1}, 1, r"augmentation\.saturation: it is for images of 3 channels"),
        ({"contrast": 0.1}, 2, r"augmentation\.contrast: it is for images of 1 or 3 channels, and these have 2"),
        ({"mean": [0.5, 0.5, 0.5]}, 1, r"augmentation\.mean: 3 numbers, and the images have 1 channels"),
        (
            {"std": [0.5]},
            3,
            r"augmentation\.std: 1 numbers, and the images have 3 channels\. Give one number, or one a channel\.",
        ),
    ],
)
def test_settings_that_do_not_go_with_the_channels_are_refused_at_the_first_images(keys, channels, message):
    with pytest.raises(ParamsError, match=message):
        transforms(**keys).fixed(random_bytes(1, channels, 4, 4))


@pytest.mark.parametrize("keys", [{"brightness": 0.4, "contrast": 0.4}, {"crop_padding": 2, "flip": 0.5, "rotation": 20}])
def test_grey_images_are_augmented(keys):
    augmentation = transforms(mean=0.1, std=0.3, **keys)
    images = augmentation.fixed(random_bytes(16, 1, 14, 14))
    assert augmentation.random(images, seeded()).shape == images.shape
    assert not torch.equal(augmentation.random(images, seeded()), images)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("std", 0),
        ("std", [0.5, -0.1, 0.5]),
        ("std", "wide"),
        ("mean", "grey"),
        ("mean", [0.5, None]),
        ("mean", math.inf),
        ("flip", 1.01),
        ("flip", -0.1),
        ("flip", True),
        ("crop_padding", -1),
        ("crop_padding", 1.5),
        ("resize", 0),
        ("hue", 0.51),
        ("hue", -0.1),
        ("brightness", -0.1),
        ("contrast", -1),
        ("saturation", "0.5"),
        ("rotation", -10),
        ("rotation", 181),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_their_key(key, value):
    with pytest.raises(ParamsError, match=rf"^augmentation\.{key}"):
        load("augmentation", Part(name="transforms", **{key: value}), "augmentation")


def test_mistyped_setting_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ParamsError, match=r"augmentation\.rotate: unknown key; did you mean 'rotation'\?"):
        load("augmentation", Part(name="transforms", rotate=30), "augmentation")


def test_integers_will_do_where_numbers_are_asked_for():
    module, read = load("augmentation", Part(name="transforms", mean=[0, 1, 0], std=1, rotation=30, flip=1), "augmentation")
    assert module.build(read).random is not None
