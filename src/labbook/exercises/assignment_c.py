"""Assignment C: the last layer of the wide network for Tiny ImageNet, which is printed with a size that does not fit."""

from collections.abc import Sequence

import numpy as np

from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.layers import Pool, Walked, walk
from labbook.exercises.steps import Chain, Formula, Words, number

__all__ = ["exercises"]


def exercises() -> list[Exercise]:
    """Work the exercise of assignment C."""
    return [_last_layer()]


def _last_layer() -> Exercise:
    pools = {"as printed": (2, 2, 2, 4), "without the last 2×2 pool": (2, 2, 4)}
    ways = {words: walk((256, 64, 64), [Pool(size) for size in sizes]) for words, sizes in pools.items()}
    features = {words: int(np.prod(way[-1].shape)) for words, way in ways.items()}
    return Exercise(
        name="tiny_wide",
        assignment="C",
        question="How many features of a 64×64 image reach the last layer of the wide network, which is printed with 4096?",
        working=(
            Words(
                "Its 3×3 convolutions with padding 1 keep the size; only the pools shrink it. The last map has 256 channels."
            ),
            *(_pooled_down(words, way) for words, way in ways.items()),
            Formula(tuple(f"{words}: {_product(way[-1].shape)} = {number(features[words])}" for words, way in ways.items())),
            Words("As printed, the two do not fit. They do when one 2×2 pool is left out; so tiny_wide is built here."),
        ),
        results=tuple(Result(f"features, {words}", count, 4_096) for words, count in features.items()),
    )


def _pooled_down(words: str, way: Sequence[Walked]) -> Chain:
    links = [(step.layer, f"{step.shape[1]}") for step in way]
    return Chain(f"One side of the image, {words}", (("image", "64"), *links))


def _product(shape: Sequence[int]) -> str:
    return " · ".join(map(str, shape))
