"""Assignment C: the last layer of the wide network for Tiny ImageNet, whose reported size contradicts the pooling layers."""

from collections.abc import Sequence

import numpy as np

from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.layers import LayerSummary, Pool, summarize
from labbook.exercises.steps import Chain, Formula, Text, format_number

__all__ = ["exercises"]


def exercises() -> list[Exercise]:
    """Solve the exercise of assignment C."""
    return [_last_layer()]


def _last_layer() -> Exercise:
    pools = {"as printed": (2, 2, 2, 4), "without the last 2×2 pool": (2, 2, 4)}
    summaries = {variant: summarize((256, 64, 64), [Pool(size) for size in sizes]) for variant, sizes in pools.items()}
    features = {variant: int(np.prod(summary[-1].shape)) for variant, summary in summaries.items()}
    return Exercise(
        name="tiny_wide",
        assignment="C",
        question="How many features reach the last layer of the wide network for 64×64 images? The report prints 4096.",
        steps=(
            Text("The 3×3 convolutions with padding 1 keep the size; only the pools reduce it. The last map has 256 channels."),
            *(_chain(variant, summary) for variant, summary in summaries.items()),
            Formula(
                tuple(
                    f"{variant}: {_product(summary[-1].shape)} = {format_number(features[variant])}"
                    for variant, summary in summaries.items()
                )
            ),
            Text("The printed pools do not yield the printed size; without the last 2×2 pool, as in tiny_wide, they do."),
        ),
        results=tuple(Result(f"features, {variant}", count, 4_096) for variant, count in features.items()),
    )


def _chain(variant: str, summary: Sequence[LayerSummary]) -> Chain:
    links = [(layer.name, f"{layer.shape[1]}") for layer in summary]
    return Chain(f"One side of the image, {variant}", (("image", "64"), *links))


def _product(shape: Sequence[int]) -> str:
    return " · ".join(map(str, shape))
