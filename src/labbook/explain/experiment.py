"""Explain a trained experiment: filters, activations for one image, and attributions with quality metrics."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from labbook.config.explain import Explain
from labbook.data.packed import PackedDataset
from labbook.errors import ParamsError
from labbook.evaluation.restore import Restored
from labbook.explain.attribution import METHODS, SIGNED, MethodInputs, Score, attribute, choose_methods, relevance
from labbook.explain.layers import Layer, activations, choose_channels, find_layer, first_layer, last_layer, weight_images
from labbook.explain.quality import (
    completeness_gap,
    deletion_insertion,
    infidelity,
    occlude_squares,
    randomization,
    sensitivity_max,
)
from labbook.explain.samples import find_samples, read_image
from labbook.plots.explanations import Panel, draw_activations, draw_attributions, draw_filters

__all__ = ["Explanation", "explain"]

MAX_FILTERS = 64  # shown filters of the first layer
MAX_LAST_MAPS = 10  # shown maps of the last layer, as assignment D requires


@dataclass(frozen=True)
class Explanation:
    """Outputs of the explain stage.

    Attributes:
        summary: data source, samples and notes about them, and the quality of each method's attributions.
        filters: weights of the first layer.
        activations: weights of chosen channels, their activations for one image, and the maps of the last layer.
        attributions: one row per image, one column per method.
    """

    summary: dict[str, Any]
    filters: Figure
    activations: Figure
    attributions: Figure


def explain(restored: Restored, packed: PackedDataset, settings: Explain, device: torch.device, seed: int) -> Explanation:
    """Explain a model without changing it.

    Args:
        restored: the model, on the device.
        packed: its dataset.
        settings: settings of the explanation.
        device: the device of the model.
        seed: seed of the quality metrics.

    Raises:
        ParamsError: a layer, channel, image or region does not exist, or a chosen method does not suit the model.
        DataError: the image cannot be read, or there is nothing to attribute.
    """
    score = Score(restored.model)
    filters, maps = _draw_layers(score.model, restored, packed, settings, device)
    samples = find_samples(restored, packed, device, correct=settings.correct, wrong=settings.wrong, region=settings.region)
    black, white = (
        restored.convert(torch.full((1, *packed.image_shape), level, dtype=torch.uint8, device=device)) for level in (0, 255)
    )
    inputs = MethodInputs(score, samples.images, samples.targets, black, settings.steps)
    methods = choose_methods(inputs, settings.attributions)
    attributions = {name: attribute(METHODS[name], inputs) for name in methods}
    return Explanation(
        summary={
            "source": packed.source,
            "samples": [vars(sample) for sample in samples.metadata],
            "notes": samples.notes,
            "methods": _measure_quality(inputs, attributions, white, seed),
        },
        filters=filters,
        activations=maps,
        attributions=draw_attributions(
            samples.pixels,
            [sample.caption for sample in samples.metadata],
            {name: relevance(attribution).cpu().numpy() for name, attribution in attributions.items()},
            SIGNED,
        ),
    )


def _draw_layers(
    model: nn.Module, restored: Restored, packed: PackedDataset, settings: Explain, device: torch.device
) -> tuple[Figure, Figure]:
    """Draw the filters of the first layer, and the activations of the chosen and the last layer."""
    pixels = read_image(settings.image, restored, packed)
    image = restored.convert(torch.from_numpy(pixels[None].copy()).to(device))
    layer = first_layer(model) if settings.layer is None else find_layer(model, settings.layer)
    last = last_layer(model)
    maps, final = activations(model, layer, image), activations(model, last, image)
    channels = choose_channels(layer, settings.channels, len(maps))
    panels = [_panel(f"activations of {layer}", maps, channels)]
    weights = weight_images(layer, image.shape)
    if weights is not None:
        panels.insert(0, _panel(_title(layer), weights, channels))
    shown = min(len(final), MAX_LAST_MAPS if final.ndim == 3 else MAX_FILTERS)
    panels.append(_panel(f"activations of {last}, {_count_label(shown, len(final))}", final, range(shown)))
    caption = f"test image {settings.image}" if isinstance(settings.image, int) else Path(settings.image).name
    return _draw_first(first_layer(model), image.shape), draw_activations(caption, pixels, panels)


def _draw_first(first: Layer, image_shape: Sequence[int]) -> Figure:
    weights = weight_images(first, image_shape)
    if weights is None:
        raise ParamsError(
            f"explain: the weights of the first layer, {first}, cannot be shown as images. Remove it from `explain`."
        )
    shown = weights[:MAX_FILTERS]
    return draw_filters(f"{_title(first)}, {_count_label(len(shown), len(weights))}", shown.cpu().numpy())


def _count_label(shown: int, count: int) -> str:
    return f"the first {shown} of {count}" if shown < count else f"all {count}"


def _title(layer: Layer) -> str:
    channels = getattr(layer.module, "in_channels", 1)
    return f"weights of {layer}" if channels in (1, 3) else f"weights of {layer}, means over {channels} input channels"


def _panel(title: str, values: Tensor, channels: Sequence[int]) -> Panel:
    return Panel(title, values[list(channels)].cpu().numpy(), channels)


def _measure_quality(
    inputs: MethodInputs, attributions: dict[str, Tensor], white: Tensor, seed: int
) -> dict[str, dict[str, Any]]:
    """Compute the metrics of each method."""
    methods = {name: METHODS[name] for name in attributions}
    occluded = occlude_squares(inputs, seed)
    similarity = randomization(inputs, methods, attributions, seed)
    quality = {}
    for name, attribution in attributions.items():
        deletion, insertion = deletion_insertion(inputs, attribution)
        metrics = {
            "infidelity": infidelity(attribution, occluded),
            "sensitivity_max": sensitivity_max(inputs, methods[name], attribution, white, seed),
            "deletion": deletion,
            "insertion": insertion,
        }
        if name == "integrated_gradients":
            metrics["completeness_gap"] = completeness_gap(inputs, attribution)
        quality[name] = _rounded(metrics) | {"similarity_randomised_down_to": _rounded(similarity[name])}
    return quality


def _rounded(metrics: dict[str, Any]) -> dict[str, Any]:
    """Round to four digits, because further digits depend on the machine; replace infinity, which JSON lacks, by `None`."""
    return {
        key: float(f"{value:.4g}") if value is not None and math.isfinite(value) else None for key, value in metrics.items()
    }
