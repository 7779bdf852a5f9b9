"""Explain one trained experiment: its filters, its activations for one image, attributions and how far to trust them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from labbook.core.errors import ParamsError
from labbook.core.packed import Packed
from labbook.explain.attribution import METHODS, SIGNED, Question, Score, attribute, check_fit, relevance
from labbook.explain.layers import Layer, activations, check_channels, find_layer, first_layer, last_layer, picturable
from labbook.explain.pictures import Floats, Panel, draw_activations, draw_attributions, draw_filters
from labbook.explain.samples import find_samples, read_image
from labbook.explain.trust import completeness_gap, deletion_insertion, infidelity, randomised, sensitivity_max
from labbook.params.explain import Look
from labbook.trained import Restored

__all__ = ["Explanation", "explain"]

SHOWN = 64  # filters of the first layer, at most
LAST = 10  # maps of the last layer, as assignment D asks


@dataclass(frozen=True)
class Explanation:
    """What the stage writes.

    Attributes:
        metrics: for `metrics/explain/<experiment>.json`.
        filters: weights of the first layer.
        activations: chosen filters above what they make of one image, and the last layer's maps.
        attributions: a row for each image, a column for each method.
    """

    metrics: dict[str, Any]
    filters: Figure
    activations: Figure
    attributions: Figure


def explain(restored: Restored, packed: Packed, look: Look, device: torch.device, seed: int) -> Explanation:
    """Look inside a model, and leave it as it is.

    Args:
        restored: the model, on the device.
        packed: its dataset.
        look: what is to be shown.
        device: of the model.
        seed: of what the figures of trust draw.

    Raises:
        ParamsError: a layer, channel, image or region is not there, or a method does not go with the model.
        DataError: the image cannot be read, or there is no sample.
    """
    score = Score(restored.model)
    filters, shown = _look_inside(score, restored, packed, look, device)
    samples = find_samples(restored, packed, device, correct=look.correct, wrong=look.wrong, region=look.region)
    black, white = (
        restored.convert(torch.full((1, *packed.image_shape), level, dtype=torch.uint8, device=device)) for level in (0, 255)
    )
    asked = Question(score, samples.images, samples.chosen, black, look.steps)
    check_fit(asked, look.attributions)
    answers: dict[str, Tensor] = {name: attribute(METHODS[name], asked) for name in look.attributions}
    maps = {name: _array(relevance(answer)) for name, answer in answers.items()}
    figures = {name: _trust(asked, name, answer, white, seed) for name, answer in answers.items()}
    for name, found in randomised(asked, {name: METHODS[name] for name in answers}, answers, seed).items():
        figures[name]["similarity_randomised_down_to"] = {layer: _rounded(value) for layer, value in found.items()}
    return Explanation(
        metrics={"source": packed.source, "samples": [vars(sample) for sample in samples.about], "methods": figures},
        filters=filters,
        activations=shown,
        attributions=draw_attributions(samples.pixels, [sample.caption for sample in samples.about], maps, SIGNED),
    )


def _look_inside(score: Score, restored: Restored, packed: Packed, look: Look, device: torch.device) -> tuple[Figure, Figure]:
    """Draw the first layer's filters, and the chosen image's activations."""
    model = score.model
    pixels = read_image(look.image, restored, packed)
    image = restored.convert(torch.from_numpy(pixels[None].copy()).to(device))
    layer, first, last = find_layer(model, look.layer), first_layer(model), last_layer(model)
    maps, final = activations(model, layer, image), activations(model, last, image)
    check_channels(layer, look.channels, len(maps))
    panels = [_panel(f"activations of {layer}", maps, look.channels)]
    weights = picturable(layer, image.shape)
    if weights is not None:
        panels.insert(0, _panel(_title(layer), weights, look.channels))
    shown = min(len(final), LAST if final.ndim == 3 else SHOWN)
    panels.append(_panel(f"activations of {last}, {_share(shown, len(final))}", final, range(shown)))
    caption = f"test image {look.image}" if isinstance(look.image, int) else Path(look.image).name
    return _filters(first, image.shape), draw_activations(caption, pixels, panels)


def _filters(first: Layer, image_shape: Sequence[int]) -> Figure:
    weights = picturable(first, image_shape)
    if weights is None:
        raise ParamsError(
            f"explain: weights of the first layer, {first}, do not lie on pixels, so there are no filters to show."
        )
    shown = weights[:SHOWN]
    return draw_filters(f"{_title(first)}, {_share(len(shown), len(weights))}", _array(shown))


def _share(shown: int, there: int) -> str:
    return f"the first {shown} of {there}" if shown < there else f"all {there}"


def _title(layer: Layer) -> str:
    channels = getattr(layer.module, "in_channels", 1)
    return f"weights of {layer}" if channels in (1, 3) else f"weights of {layer}, means over {channels} input channels"


def _panel(title: str, values: Tensor, channels: Sequence[int]) -> Panel:
    return title, _array(values[list(channels)]), channels


def _trust(asked: Question, name: str, answer: Tensor, white: Tensor, seed: int) -> dict[str, Any]:
    """Measure one method's answer."""
    deletion, insertion = deletion_insertion(asked, answer)
    figures = {
        "infidelity": infidelity(asked, answer, seed),
        "sensitivity_max": sensitivity_max(asked, METHODS[name], white, seed),
        "deletion": deletion,
        "insertion": insertion,
    }
    if name == "integrated_gradients":
        figures["completeness_gap"] = completeness_gap(asked, answer)
    return {key: _rounded(value) for key, value in figures.items()}


def _rounded(value: float | None) -> float | None:
    """Keep four digits: more are of the machine."""
    return value if value is None else float(f"{value:.4g}")


def _array(values: Tensor) -> Floats:
    array: Floats = values.cpu().numpy()
    return array
