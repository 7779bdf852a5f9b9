"""Quality metrics of attributions: faithfulness, sensitivity and randomisation, each a mean over the images.

Faithfulness: does an attribution predict how a change of the image affects the model's output? Infidelity (Yeh et al., 2019,
"On the (in)fidelity and sensitivity of explanations"), deletion and insertion (Petsiuk et al., 2018, "RISE"), and completeness
(Sundararajan et al., 2017). Sensitivity: how much does an attribution change with a small change of the image (Yeh et
al.)? Randomisation: does it change with the model's weights (Adebayo et al., 2018, "Sanity checks for saliency maps")? An
attribution that stays the same does not explain the model.

Values shared by all methods, such as the output for images with black squares, are computed once.
"""

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from labbook.explain.attribution import BATCH, Method, MethodInputs, Score, attribute, relevance, window_side

__all__ = [
    "Occluded",
    "completeness_gap",
    "deletion_insertion",
    "infidelity",
    "occlude_squares",
    "randomization",
    "rank_correlation",
    "sensitivity_max",
]

SQUARES = 16  # random black squares per image for infidelity, one at a time
SHIFTS = 3  # random shifts of all pixels per image, for sensitivity
RADIUS = 0.02  # largest shift, as a fraction of the range from black to white
FRACTIONS = 10  # steps of deletion and insertion, each of the same number of pixels
STAGES = 3  # stages of randomisation: a third of the layers, two thirds, all


@dataclass(frozen=True)
class Occluded:
    """Effect of random black squares on each image.

    Attributes:
        removed: (N, SQUARES, C, H, W), image minus occluded image.
        drops: (N, SQUARES), score of the image minus score of the occluded image.
    """

    removed: Tensor
    drops: Tensor


@torch.no_grad()
def occlude_squares(inputs: MethodInputs, seed: int) -> Occluded:
    """Occlude each image with random black squares, one at a time; `seed` determines their positions."""
    images, targets = (tensor.repeat_interleave(SQUARES, dim=0) for tensor in (inputs.images, inputs.targets))
    occluded = torch.where(_random_squares(images, seed), inputs.baseline, images)
    scores = inputs.score(inputs.images, inputs.targets)[:, None]
    drops = scores - _scores(inputs.score, occluded, targets).reshape(-1, SQUARES)
    return Occluded((images - occluded).reshape(*drops.shape, *images.shape[1:]), drops)


def infidelity(attributions: Tensor, occluded: Occluded) -> float:
    """Compute the error of attributions (N, C, H, W) as predictions of how much the score drops with each black square.

    It is the mean squared error at the best scale of the attributions, divided by that of attributions that are all 0: 0 is
    exact, 1 is uninformative.
    """
    predicted = (attributions[:, None] * occluded.removed).flatten(2).sum(dim=2)
    scale = _divide((predicted * occluded.drops).sum(dim=1), predicted.square().sum(dim=1))
    error = (scale[:, None] * predicted - occluded.drops).square().mean(dim=1)
    return float(_divide(error, occluded.drops.square().mean(dim=1)).mean())


def sensitivity_max(inputs: MethodInputs, method: Method, attributions: Tensor, white: Tensor, seed: int) -> float:
    """Compute how much attributions change, relative to their norm, under small shifts of all pixels; the maximum over shifts.

    Args:
        inputs: inputs of the method.
        method: the method that computed the attributions.
        attributions: (N, C, H, W).
        white: (1, C, H, W), a white image after preprocessing.
        seed: seed of the shifts.
    """
    images, targets, before = (
        tensor.repeat_interleave(SHIFTS, dim=0) for tensor in (inputs.images, inputs.targets, attributions)
    )
    noise = 2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)) - 1
    shifted = images + RADIUS * (white - inputs.baseline).abs() * noise.to(images.device)
    after = attribute(method, dataclasses.replace(inputs, images=shifted, targets=targets))
    norms = before.flatten(1).norm(dim=1)
    changes = (before - after).flatten(1).norm(dim=1) / torch.where(norms > 0, norms, 1)
    return float(changes.reshape(-1, SHIFTS).amax(dim=1).mean())


@torch.no_grad()
def deletion_insertion(inputs: MethodInputs, attributions: Tensor) -> tuple[float, float]:
    """Compute the areas under two curves: probability of the target while pixels are deleted, and while they are inserted.

    The most relevant pixels come first. Both areas are in [0, 1]; good attributions have a small first and a large second area.

    Args:
        inputs: inputs of the method.
        attributions: (N, C, H, W).
    """
    flat = relevance(attributions).flatten(1)
    ranks = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1).reshape(len(flat), 1, *inputs.images.shape[2:])
    areas = []
    for first, second in ((inputs.baseline, inputs.images), (inputs.images, inputs.baseline)):
        curve = [
            torch.where(ranks < step / FRACTIONS * flat.shape[1], first, second).expand_as(inputs.images)
            for step in range(FRACTIONS + 1)
        ]
        probabilities = _probabilities(inputs, torch.cat(curve)).reshape(FRACTIONS + 1, -1)
        areas.append(float(torch.trapezoid(probabilities, dim=0).mean()) / FRACTIONS)
    return areas[0], areas[1]


@torch.no_grad()
def completeness_gap(inputs: MethodInputs, attributions: Tensor) -> float:
    """Compute |sum of attributions - Δ| / |Δ|, where Δ is the score minus that of the baseline; the maximum over images.

    Args:
        inputs: inputs of the method.
        attributions: (N, C, H, W), of a method for which the gap is 0 in theory.
    """
    baselines = inputs.baseline.expand_as(inputs.images)
    difference = inputs.score(inputs.images, inputs.targets) - inputs.score(baselines, inputs.targets)
    return float(_divide((attributions.flatten(1).sum(dim=1) - difference).abs(), difference.abs()).max())


def randomization(
    inputs: MethodInputs, methods: Mapping[str, Method], attributions: Mapping[str, Tensor], seed: int
) -> dict[str, dict[str, float | None]]:
    """Re-initialise layers from the last one down, and compare |relevance| with that of the trained model.

    Return the mean rank correlation over the images, by method and by name of the lowest re-initialised layer; `None` if it is
    undefined for all images.

    Args:
        inputs: inputs of the methods.
        methods: methods by name.
        attributions: attributions of the trained model by method, (N, C, H, W).
        seed: seed of the new weights.
    """
    score = copy.deepcopy(inputs.score)
    layers = [(name, layer) for name, layer in score.model.named_modules() if [*layer.parameters(recurse=False)]][::-1]
    ends = sorted({math.ceil(len(layers) * stage / STAGES) for stage in range(1, STAGES + 1)})
    correlations: dict[str, dict[str, float | None]] = {name: {} for name in methods}
    with torch.random.fork_rng(devices=[inputs.images.device] if inputs.images.is_cuda else []):
        torch.manual_seed(seed)
        for start, end in zip([0, *ends], ends, strict=False):
            for _, layer in layers[start:end]:
                layer.reset_parameters()  # all of torch's layers with parameters have this method
            randomized = dataclasses.replace(inputs, score=score)
            for name, method in methods.items():
                maps = relevance(attribute(method, randomized)).abs()
                pairs = zip(relevance(attributions[name]).abs(), maps, strict=True)
                correlations[name][layers[end - 1][0]] = _mean([rank_correlation(*pair) for pair in pairs])
    return correlations


def rank_correlation(first: Tensor, second: Tensor) -> float | None:
    """Compute Spearman's rank correlation of two tensors of the same shape; `None` if all values of one are equal."""
    ranks = torch.stack([_ranks(tensor.cpu().flatten()) for tensor in (first, second)])
    return float(torch.corrcoef(ranks)[0, 1]) if bool((ranks.std(dim=1) > 0).all()) else None


def _ranks(values: Tensor) -> Tensor:
    """Rank values (N,), ties by their mean rank, like `scipy.stats.rankdata`, whose import takes half a second."""
    _, rank_indices, counts = values.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    ranks: Tensor = counts.cumsum(dim=0) - (counts - 1).double() / 2
    return ranks[rank_indices]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide by numbers ≥ 0; a denominator of 0 is replaced by the smallest positive number."""
    return numerator / denominator.clamp_min(torch.finfo(denominator.dtype).tiny)


def _random_squares(images: Tensor, seed: int) -> Tensor:
    """Draw one square per image (N, C, H, W): a mask (N, 1, H, W)."""
    generator, side = torch.Generator().manual_seed(seed), window_side(images)
    inside = torch.ones(1, dtype=torch.bool)
    for axis, length in ((2, images.shape[2]), (3, images.shape[3])):
        first = torch.randint(length - side + 1, (len(images), 1, 1, 1), generator=generator)
        position = torch.arange(length).reshape([length if index == axis else 1 for index in range(4)])
        inside = inside & (position >= first) & (position < first + side)
    return inside.to(images.device)


def _scores(score: Score, images: Tensor, targets: Tensor) -> Tensor:
    batches = zip(torch.split(images, BATCH), torch.split(targets, BATCH), strict=True)
    return torch.cat([score(*batch) for batch in batches])


def _probabilities(inputs: MethodInputs, images: Tensor) -> Tensor:
    """Compute the mean probability of the targets for images (M * N, C, H, W), which are M versions of the N of `inputs`."""
    targets = inputs.targets.repeat(len(images) // len(inputs.images), *[1] * (inputs.targets.ndim - 1))
    logits = torch.cat([inputs.score.model(batch) for batch in torch.split(images, BATCH)])
    probabilities = logits.softmax(dim=1) * targets
    return probabilities.flatten(1).sum(dim=1) / targets.flatten(1).sum(dim=1)
