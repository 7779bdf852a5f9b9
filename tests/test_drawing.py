import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labbook.data.drawing import SHAPES, TEXTURES, lighter_or_darker, noisy, resized, shape_masks, textures, tinted

SIZES = st.integers(8, 40)
SEEDS = st.integers(0, 10**6)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(height=st.integers(1, 40), width=st.integers(1, 40), colours=st.sampled_from([(), (3,)]), level=st.integers(0, 255))
def test_resized_image_has_the_size_asked_for_and_keeps_a_plain_level(height, width, colours, level):
    found = resized(np.full((7, 5, *colours), level, np.uint8), height, width)
    assert found.shape == (height, width, *colours)
    assert found.dtype == np.uint8
    assert (found == level).all()


def test_image_resized_to_its_own_size_stays_as_it_is():
    image = generator().integers(0, 256, (9, 4)).astype(np.uint8)
    assert np.array_equal(resized(image, 9, 4), image)


@given(size=st.integers(16, 48), seed=SEEDS)
def test_shapes_lie_inside_the_image_and_have_the_size_asked_for(size, seed):
    names = list(SHAPES) * 4
    masks = shape_masks(generator(seed), names, size, radii=(4, size // 3))
    assert masks.shape == (len(names), size, size)
    assert masks.dtype == bool
    most = 4 * (size // 3 + 1) ** 2  # the square around the largest circle
    assert (masks.sum(axis=(1, 2)) > 5).all()
    assert (masks.sum(axis=(1, 2)) <= most).all()


def test_each_shape_covers_its_share_of_the_circle():
    """As its inequalities say, up to what a pixel's edge makes of them."""
    share = {
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
    for name, expected in share.items():
        masks = shape_masks(generator(), [name] * 40, 100, radii=(30, 30))
        assert masks.mean(axis=(1, 2)) * 100**2 / 30**2 == pytest.approx(np.full(40, expected), rel=0.06), name


def test_shapes_are_told_apart_at_any_turn():
    """No mask of one shape, centred, comes near a mask of another."""
    size = 41
    masks = {name: shape_masks(generator(), [name] * 60, size, radii=(size // 2, size // 2)) for name in SHAPES}
    for one, first in masks.items():
        for two, second in masks.items():
            if one < two:
                both = (first[:, None] & second).sum(axis=(2, 3))
                either = (first[:, None] | second).sum(axis=(2, 3))
                assert (both / either).max() < 0.9, (one, two)


def test_places_sizes_and_turns_of_a_shape_vary():
    masks = shape_masks(generator(), ["corner"] * 300, 32, radii=(6, 10))
    assert len({mask.tobytes() for mask in masks}) == 300
    rows = masks.any(axis=2).argmax(axis=1)
    columns = masks.any(axis=1).argmax(axis=1)
    assert min(np.ptp(rows), np.ptp(columns)) > 12
    corners = masks.mean(axis=0)
    assert corners[12:20, 12:20].min() > 0.1


@given(size=SIZES, seed=SEEDS)
def test_textures_are_levels_of_bytes(size, seed):
    names = list(TEXTURES) * 4
    levels = textures(generator(seed), names, size)
    assert (levels.shape, levels.dtype) == ((len(names), size, size), np.uint8)


@pytest.mark.parametrize("name", ["stripes", "checks", "dots"])
def test_pattern_is_of_two_levels_in_fair_shares(name):
    levels = textures(generator(), [name] * 200, 60)
    assert set(np.unique(levels)) == {0, 255}
    assert 0.25 < (levels == 255).mean() < 0.75


def test_plain_texture_is_plain_and_a_gradient_goes_from_end_to_end():
    plain, gradient = (textures(generator(), [name] * 50, 32) for name in ("plain", "gradient"))
    assert not plain.any()
    assert (gradient.min(axis=(1, 2)) == 0).all()
    assert (gradient.max(axis=(1, 2)) == 255).all()


def test_blotches_have_no_edges():
    levels = textures(generator(), ["blotches"] * 50, 32).astype(int)
    assert max(abs(np.diff(levels, axis=1)).max(), abs(np.diff(levels, axis=2)).max()) <= 32
    assert levels.std(axis=(1, 2)).min() > 20


@given(seed=SEEDS, least=st.integers(0, 60), more=st.integers(0, 60), names=st.lists(st.sampled_from(list(SHAPES)), max_size=5))
def test_everything_drawn_is_the_same_for_the_same_seed(seed, least, more, names):
    one, two = generator(seed), generator(seed)
    for draw in (
        lambda source: shape_masks(source, names, 20, radii=(3, 8)),
        lambda source: textures(source, list(TEXTURES), 20),
        lambda source: lighter_or_darker(source, np.full((4, 3), 120), least, least + more),
        lambda source: noisy(source, np.full((2, 3, 4, 4), 7, np.uint8), least),
    ):
        assert np.array_equal(draw(one), draw(two))


@given(seed=SEEDS, least=st.integers(0, 60), more=st.integers(0, 60))
def test_other_colour_is_lighter_or_darker_as_asked(seed, least, more):
    colours = generator(seed).integers(120, 136, (50, 3))
    difference = lighter_or_darker(generator(seed), colours, least, least + more) - colours
    assert (abs(difference) >= least).all()
    assert (abs(difference) <= least + more).all()
    assert ((difference >= 0).all(axis=1) | (difference <= 0).all(axis=1)).all()


def test_other_colour_stays_among_the_bytes():
    found = lighter_or_darker(generator(), np.array([[0, 128, 255]] * 50), 100, 200)
    assert (found.min(), found.max()) == (0, 255)


def test_tint_goes_from_the_low_colour_to_the_high_one():
    levels = np.array([[[0, 51, 255]]], np.uint8)
    found = tinted(levels, np.array([[10, 200, 0]]), np.array([[110, 100, 255]]))
    assert (found.shape, found.dtype) == ((1, 3, 1, 3), np.uint8)
    assert found[0, :, 0].tolist() == [[10, 30, 110], [200, 180, 100], [0, 51, 255]]


@given(seed=SEEDS, strength=st.integers(0, 300))
def test_noise_stays_within_its_strength_and_among_the_bytes(seed, strength):
    images = generator(seed).integers(0, 256, (3, 3, 5, 5)).astype(np.uint8)
    found = noisy(generator(seed), images, strength)
    assert found.dtype == np.uint8
    assert (abs(found.astype(int) - images) <= strength).all()
