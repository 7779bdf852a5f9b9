"""How far an attribution can be trusted: figures for any method, of the images that it was asked about.

Infidelity and sensitivity: Yeh et al. (2019), "On the (in)fidelity and sensitivity of explanations", by Captum. Deletion and
insertion: Petsiuk et al. (2018), "RISE". Completeness: Sundararajan et al. (2017). Randomisation: Adebayo et al. (2018),
"Sanity checks for saliency maps": a map that stays the same when weights are drawn anew does not explain the model.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping

import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max as captum_sensitivity_max
from torch import Tensor

from labbook.explain.attribution import Method, Question, attribute, relevance, window

__all__ = ["completeness_gap", "deletion_insertion", "infidelity", "randomised", "sensitivity_max", "similarity"]

SQUARES = 16  # blackened at random for infidelity, one at a time
SHIFTS = 3  # of all pixels, for sensitivity
RADIUS = 0.02  # of these shifts, as a share of the range from black to white
FRACTIONS = 10  # of the pixels, for deletion and insertion: so many steps
STAGES = 3  # of randomisation: after a third of the layers, two thirds, and all of them


def infidelity(asked: Question, attributions: Tensor, seed: int) -> float:
    """Measure how badly attributions predict what blackening random squares does to the score.

    The squared error, at the best scale of the attributions, over that of attributions that are all zero: 0 predicts
    exactly, 1 says nothing. The mean over images.

    Args:
        asked: the question.
        attributions: (N, C, H, W), its answer.
        seed: of the squares.
    """

    def error(answer: Tensor, *, normalize: bool) -> Tensor:
        found: Tensor = captum_infidelity(
            asked.score,
            _blackened(asked, torch.Generator().manual_seed(seed)),
            asked.images,
            answer,
            additional_forward_args=asked.chosen,
            n_perturb_samples=SQUARES,
            normalize=normalize,
        )
        return found

    nothing = error(torch.zeros_like(attributions), normalize=False)
    return float((error(attributions, normalize=True) / nothing.clamp_min(torch.finfo(nothing.dtype).tiny)).mean())


def sensitivity_max(asked: Question, method: Method, white: Tensor, seed: int) -> float:
    """Measure how much an explanation changes, relative to itself, when all pixels shift a little; the worst of few shifts.

    Args:
        asked: the question.
        method: that answers it.
        white: (1, C, H, W), what a white image becomes.
        seed: of the shifts.
    """
    generator = torch.Generator().manual_seed(seed)
    radius = RADIUS * (white - asked.black).abs()

    def shifted(images: Tensor) -> Tensor:
        return images + radius * (2 * torch.rand(images.shape, generator=generator) - 1).to(images.device)

    def explain(images: Tensor | tuple[Tensor], additional_forward_args: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        own, chosen = (one[0] if isinstance(one, tuple) else one for one in (images, additional_forward_args))
        return (attribute(method, dataclasses.replace(asked, images=own, chosen=chosen)),)

    found: Tensor = captum_sensitivity_max(
        explain, asked.images, shifted, n_perturb_samples=SHIFTS, additional_forward_args=asked.chosen
    )
    return float(found.mean())


@torch.no_grad()
def deletion_insertion(asked: Question, attributions: Tensor) -> tuple[float, float]:
    """Measure the probability of what was chosen while pixels vanish, and while they appear, the most relevant first.

    The areas under both curves, on [0, 1]: a good attribution deletes to a small one and inserts to a large one.

    Args:
        asked: the question.
        attributions: (N, C, H, W), its answer.
    """
    flat = relevance(attributions).flatten(1)
    places = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1).reshape(len(flat), 1, *asked.images.shape[2:])
    curves = []
    for step in range(FRACTIONS + 1):
        taken = places < step / FRACTIONS * flat.shape[1]
        deleted, inserted = (torch.where(mask, asked.black, asked.images) for mask in (taken, ~taken))
        curves.append(_probabilities(asked, torch.cat([deleted, inserted])))
    deletion, insertion = (torch.trapezoid(torch.stack(curves), dim=0) / FRACTIONS).reshape(2, -1).mean(dim=1).tolist()
    return deletion, insertion


@torch.no_grad()
def completeness_gap(asked: Question, attributions: Tensor) -> float:
    """Measure |sum of attributions - (score - score of black)| over |score - score of black|; the worst of the images.

    Args:
        asked: the question.
        attributions: (N, C, H, W), of a method that promises the gap to be 0.
    """
    wanted = asked.score(asked.images, asked.chosen) - asked.score(asked.black.expand_as(asked.images), asked.chosen)
    gaps = (attributions.flatten(1).sum(dim=1) - wanted).abs() / wanted.abs().clamp_min(torch.finfo(wanted.dtype).tiny)
    return float(gaps.max())


def randomised(
    asked: Question, methods: Mapping[str, Method], answers: Mapping[str, Tensor], seed: int
) -> dict[str, dict[str, float | None]]:
    """Draw weights anew, from the last layer down, and compare |relevance| with that of the trained model.

    Gives for each method, by the name of the layer down to which all are drawn anew, the mean rank correlation over the images;
    `None` where every map of one model is the same everywhere, so that it has no ranks.

    Args:
        asked: the question.
        methods: by name.
        answers: theirs, (N, C, H, W).
        seed: of the new weights.
    """
    score = copy.deepcopy(asked.score)
    layers = [(name, layer) for name, layer in score.model.named_modules() if [*layer.parameters(recurse=False)]][::-1]
    ends = sorted({math.ceil(len(layers) * stage / STAGES) for stage in range(1, STAGES + 1)})
    found: dict[str, dict[str, float | None]] = {name: {} for name in methods}
    with torch.random.fork_rng(devices=[asked.images.device] if asked.images.is_cuda else []):
        torch.manual_seed(seed)
        for start, end in zip([0, *ends], ends, strict=False):
            for _, layer in layers[start:end]:
                layer.reset_parameters()  # every layer of torch that has parameters has it
            for name, method in methods.items():
                maps = relevance(attribute(method, dataclasses.replace(asked, score=score))).abs()
                pairs = zip(relevance(answers[name]).abs(), maps, strict=True)
                found[name][layers[end - 1][0]] = _mean([similarity(*pair) for pair in pairs])
    return found


def similarity(first: Tensor, second: Tensor) -> float | None:
    """Compute Spearman's rank correlation of two maps of the same shape; `None` where one has no ranks."""
    ranks = torch.stack([_ranks(one.cpu().flatten()) for one in (first, second)])
    return float(torch.corrcoef(ranks)[0, 1]) if bool((ranks.std(dim=1) > 0).all()) else None


def _ranks(values: Tensor) -> Tensor:
    """Rank values (N,), equal ones by their mean rank, as `scipy.stats.rankdata` does half a second of import later."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    ranks: Tensor = counts.cumsum(dim=0) - (counts - 1).double() / 2
    return ranks[places]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _blackened(asked: Question, generator: torch.Generator) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Give what blackens a random square of each image: what it takes away, and what is left."""
    side = window(asked.images)

    def blacken(images: Tensor) -> tuple[Tensor, Tensor]:
        inside = torch.ones(1, dtype=torch.bool)
        for axis, length in ((2, images.shape[2]), (3, images.shape[3])):
            first = torch.randint(length - side + 1, (len(images), 1, 1, 1), generator=generator)
            shape = [length if index == axis else 1 for index in range(4)]
            place = torch.arange(length).reshape(shape)
            inside = inside & (place >= first) & (place < first + side)
        left = torch.where(inside.to(images.device), asked.black, images)
        return images - left, left

    return blacken


def _probabilities(asked: Question, images: Tensor) -> Tensor:
    """Give the mean probability of the chosen classes for images (2 * N, C, H, W), which are those of the question twice."""
    chosen = torch.cat([asked.chosen, asked.chosen])
    logits: Tensor = asked.score.model(images)
    chances = logits.softmax(dim=1) * chosen
    return chances.flatten(1).sum(dim=1) / chosen.flatten(1).sum(dim=1)
