"""What layers learnt and what they make of one image: weights that can be shown as pictures, and activations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from captum.attr import LayerActivation
from torch import Tensor, nn

from labbook.core.errors import ParamsError
from labbook.core.parts import closest

__all__ = ["Layer", "activations", "check_channels", "find_layer", "first_layer", "last_layer", "picturable"]


@dataclass(frozen=True)
class Layer:
    """A module and its name."""

    name: str
    module: nn.Module

    def __str__(self) -> str:
        return f"layer {self.name} ({type(self.module).__name__})"


def find_layer(model: nn.Module, name: str) -> Layer:
    """Find a module by its name.

    Raises:
        ParamsError: the model has none of this name; names those that it has.
    """
    there = {found: module for found, module in model.named_modules() if found}
    if name not in there:
        listed = ", ".join(f"{found} ({type(module).__name__})" for found, module in there.items())
        raise ParamsError(f"layer: the model has no {name!r}{closest(name, list(there))} There are: {listed}.")
    return Layer(name, there[name])


def first_layer(model: nn.Module) -> Layer:
    """Find the first layer with weights.

    Raises:
        ParamsError: there is none.
    """
    return _weighted(model)[0]


def last_layer(model: nn.Module) -> Layer:
    """Find the last convolution, or the last layer before the logits where there is none.

    Raises:
        ParamsError: there is neither.
    """
    layers = _weighted(model)
    convolutions = [layer for layer in layers if isinstance(layer.module, nn.Conv2d)]
    return convolutions[-1] if convolutions else layers[-2:][0]


def activations(model: nn.Module, layer: Layer, image: Tensor) -> Tensor:
    """Compute a layer's output for one image (1, C, H, W): (channels, H, W), or (units,).

    Raises:
        ParamsError: it has another shape, or the image does not pass through the layer.
    """
    try:
        with torch.no_grad():
            found = LayerActivation(model, layer.module).attribute(image)
    except (KeyError, AssertionError, IndexError) as error:
        raise ParamsError(f"layer: {layer} computes nothing when the model is shown an image. Choose another.") from error
    if not isinstance(found, Tensor) or found.ndim not in (2, 4):
        raise ParamsError(f"layer: {layer} gives no maps (N, C, H, W) and no units (N, units). Choose another.")
    return found[0].detach()


def check_channels(layer: Layer, channels: list[int], there: int) -> None:
    """Refuse channels that a layer with so many of them does not have.

    Raises:
        ParamsError: names the first that is not there.
    """
    for channel in channels:
        if channel >= there:
            raise ParamsError(f"channels: {channel} is none of the {there} of {layer}, 0 to {there - 1}.")


def picturable(layer: Layer, image_shape: Sequence[int]) -> Tensor | None:
    """Give a layer's weights as pictures, (channels, 1 or 3, height, width), where they can be seen as such.

    Those of a convolution over 1 or 3 channels are shown as they are, of more by their mean. Those of a Linear on the image's
    pixels have its shape. Others are no pictures.

    Args:
        layer: any.
        image_shape: (1, C, H, W) of what the model takes.
    """
    weights = getattr(layer.module, "weight", None)
    if isinstance(layer.module, nn.Conv2d) and isinstance(weights, Tensor):
        pictures = weights.detach()
    elif isinstance(layer.module, nn.Linear) and layer.module.in_features == math.prod(image_shape):
        pictures = layer.module.weight.detach().reshape(-1, *image_shape[1:])
    else:
        return None
    return pictures if pictures.shape[1] in (1, 3) else pictures.mean(dim=1, keepdim=True)


def _weighted(model: nn.Module) -> list[Layer]:
    found = [Layer(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    if not found:
        raise ParamsError("explain: the model has no Conv2d and no Linear, so there are no filters to show.")
    return found
