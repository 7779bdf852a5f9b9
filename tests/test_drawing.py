import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labbook.data.drawing import (
    SHAPES,
    TEXTURES,
    add_noise,
    apply_colormap,
    draw_shape_masks,
    draw_textures,
    resize,
    shift_brightness,
)

SIZES = st.integers(8, 40)
SEEDS = st.integers(0, 10**6)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(height=st.integers(1, 40), width=st.integers(1, 40), colours=st.sampled_from([(), (3,)]), level=st.integers(0, 255))
def test_resized_image_has_the_requested_size_and_keeps_a_constant_level(height, width, colours, level):
    result = resize(np.full((7, 5, *colours), level, np.uint8), height, width)
    assert result.shape == (height, width, *colours)
    assert result.dtype == np.uint8
    assert (result == level).all()


def test_resizing_to_the_same_size_changes_nothing():
    image = generator().integers(0, 256, (9, 4)).astype(np.uint8)
    assert np.array_equal(resize(image, 9, 4), image)


@given(size=st.integers(16, 48), seed=SEEDS)
def test_shape_areas_match_the_requested_radius_range(size, seed):
    names = list(SHAPES) * 4
    masks = draw_shape_masks(generator(seed), names, size, radius_range=(4, size // 3))
    assert masks.shape == (len(names), size, size)
    assert masks.dtype == bool
    max_area = 4 * (size // 3 + 1) ** 2  # the square around the largest circle
    assert (masks.sum(axis=(1, 2)) > 5).all()
    assert (masks.sum(axis=(1, 2)) <= max_area).all()


def test_area_of_each_shape_matches_its_inequalities():
    """Areas are in units of the squared radius; the tolerance is for discretisation."""
    areas = {
        "disc": np.pi,
        "ring": np.pi * (1 - 0.6**2),
        "square": 1.6**2,
        "frame": 1.75**2 - 1,
        "triangle": 1.7**2 / 2,
        "cross": 2 * 2 * 0.6 - 0.6**2,
        "hourglass": 2 * 0.9**2,
        "bars": 1.75**2 - 1.75 * 2 / 3,
        "corner": 1.75**2 - (0.875 + 0.2) ** 2,
    }
    for name, expected in areas.items():
        masks = draw_shape_masks(generator(), [name] * 40, 100, radius_range=(30, 30))
        assert masks.mean(axis=(1, 2)) * 100**2 / 30**2 == pytest.approx(np.full(40, expected), rel=0.06), name


def test_shapes_remain_distinguishable_under_rotation():
    """The intersection over union of two different centred shapes stays below 0.9."""
    size = 41
    masks = {name: draw_shape_masks(generator(), [name] * 60, size, radius_range=(size // 2, size // 2)) for name in SHAPES}
    for one, first in masks.items():
        for two, second in masks.items():
            if one < two:
                intersection = (first[:, None] & second).sum(axis=(2, 3))
                union = (first[:, None] | second).sum(axis=(2, 3))
                assert (intersection / union).max() < 0.9, (one, two)


def test_position_size_and_rotation_of_a_shape_vary():
    masks = draw_shape_masks(generator(), ["corner"] * 300, 32, radius_range=(6, 10))
    assert len({mask.tobytes() for mask in masks}) == 300
    rows = masks.any(axis=2).argmax(axis=1)
    columns = masks.any(axis=1).argmax(axis=1)
    assert min(np.ptp(rows), np.ptp(columns)) > 12
    corners = masks.mean(axis=0)
    assert corners[12:20, 12:20].min() > 0.1


@given(size=SIZES, seed=SEEDS)
def test_textures_are_uint8_grey_levels(size, seed):
    names = list(TEXTURES) * 4
    levels = draw_textures(generator(seed), names, size)
    assert (levels.shape, levels.dtype) == ((len(names), size, size), np.uint8)


@pytest.mark.parametrize("name", ["stripes", "checks", "dots"])
def test_patterns_have_two_levels_in_comparable_proportions(name):
    levels = draw_textures(generator(), [name] * 200, 60)
    assert set(np.unique(levels)) == {0, 255}
    assert 0.25 < (levels == 255).mean() < 0.75


def test_plain_texture_is_constant_and_gradient_spans_the_full_range():
    plain, gradient = (draw_textures(generator(), [name] * 50, 32) for name in ("plain", "gradient"))
    assert not plain.any()
    assert (gradient.min(axis=(1, 2)) == 0).all()
    assert (gradient.max(axis=(1, 2)) == 255).all()


def test_blotches_are_smooth():
    levels = draw_textures(generator(), ["blotches"] * 50, 32).astype(int)
    assert max(abs(np.diff(levels, axis=1)).max(), abs(np.diff(levels, axis=2)).max()) <= 32
    assert levels.std(axis=(1, 2)).min() > 20


@given(seed=SEEDS, low=st.integers(0, 60), extra=st.integers(0, 60), names=st.lists(st.sampled_from(list(SHAPES)), max_size=5))
def test_same_seed_draws_the_same(seed, low, extra, names):
    one, two = generator(seed), generator(seed)
    for draw in (
        lambda random: draw_shape_masks(random, names, 20, radius_range=(3, 8)),
        lambda random: draw_textures(random, list(TEXTURES), 20),
        lambda random: shift_brightness(random, np.full((4, 3), 120), low, low + extra),
        lambda random: add_noise(random, np.full((2, 3, 4, 4), 7, np.uint8), low),
    ):
        assert np.array_equal(draw(one), draw(two))


@given(seed=SEEDS, min_shift=st.integers(0, 60), extra=st.integers(0, 60))
def test_brightness_shift_has_one_sign_and_stays_in_the_requested_range(seed, min_shift, extra):
    colours = generator(seed).integers(120, 136, (50, 3))
    difference = shift_brightness(generator(seed), colours, min_shift, min_shift + extra) - colours
    assert (abs(difference) >= min_shift).all()
    assert (abs(difference) <= min_shift + extra).all()
    assert ((difference >= 0).all(axis=1) | (difference <= 0).all(axis=1)).all()


def test_shifted_colours_are_clipped_to_bytes():
    result = shift_brightness(generator(), np.array([[0, 128, 255]] * 50), 100, 200)
    assert (result.min(), result.max()) == (0, 255)


def test_colormap_interpolates_from_the_low_to_the_high_colour():
    levels = np.array([[[0, 51, 255]]], np.uint8)
    result = apply_colormap(levels, np.array([[10, 200, 0]]), np.array([[110, 100, 255]]))
    assert (result.shape, result.dtype) == ((1, 3, 1, 3), np.uint8)
    assert result[0, :, 0].tolist() == [[10, 30, 110], [200, 180, 100], [0, 51, 255]]


@given(seed=SEEDS, amplitude=st.integers(0, 300))
def test_noise_is_limited_by_its_amplitude(seed, amplitude):
    images = generator(seed).integers(0, 256, (3, 3, 5, 5)).astype(np.uint8)
    result = add_noise(generator(seed), images, amplitude)
    assert result.dtype == np.uint8
    assert (abs(result.astype(int) - images) <= amplitude).all()
