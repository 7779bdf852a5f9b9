"""Assignment C: the last layer of the wide network for Tiny ImageNet, whose printed size contradicts its pooling layers."""

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
    summaries = {words: summarize((256, 64, 64), [Pool(size) for size in sizes]) for words, sizes in pools.items()}
    features = {words: int(np.prod(summary[-1].shape)) for words, summary in summaries.items()}
    return Exercise(
        name="tiny_wide",
        assignment="C",
        question="How many features reach the last layer of the wide network for 64×64 images? The report prints 4096.",
        steps=(
            Text("The 3×3 convolutions with padding 1 keep the size; only the pools reduce it. The last map has 256 channels."),
            *(_pooled_down(words, summary) for words, summary in summaries.items()),
            Formula(
                tuple(
                    f"{words}: {_product(summary[-1].shape)} = {format_number(features[words])}"
                    for words, summary in summaries.items()
                )
            ),
            Text("The printed pools do not yield the printed size; without the last 2×2 pool, as in tiny_wide, they do."),
        ),
        results=tuple(Result(f"features, {words}", count, 4_096) for words, count in features.items()),
    )


def _pooled_down(words: str, summary: Sequence[LayerSummary]) -> Chain:
    links = [(step.name, f"{step.shape[1]}") for step in summary]
    return Chain(f"One side of the image, {words}", (("image", "64"), *links))


def _product(shape: Sequence[int]) -> str:
    return " · ".join(map(str, shape))
