"""Weights of a layer as images, and its activations for one image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from captum.attr import LayerActivation
from torch import Tensor, nn

from labbook.config.messages import closest
from labbook.errors import ParamsError

__all__ = ["Layer", "activations", "choose_channels", "find_layer", "first_layer", "last_layer", "weight_images"]

CHANNELS = 4  # number of channels shown by default


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
        ParamsError: the model has no module of this name; the message lists its modules.
    """
    known = {module_name: module for module_name, module in model.named_modules() if module_name}
    if name not in known:
        listed = ", ".join(f"{module_name} ({type(module).__name__})" for module_name, module in known.items())
        raise ParamsError(f"layer: the model has no {name!r}{closest(name, list(known))} Known: {listed}.")
    return Layer(name, known[name])


def first_layer(model: nn.Module) -> Layer:
    """Find the first layer with weights.

    Raises:
        ParamsError: there is none.
    """
    return _weighted_layers(model)[0]


def last_layer(model: nn.Module) -> Layer:
    """Find the last convolution, or in a model without convolutions the last layer before the logits.

    Raises:
        ParamsError: there is neither.
    """
    layers = _weighted_layers(model)
    convolutions = [layer for layer in layers if isinstance(layer.module, nn.Conv2d)]
    return convolutions[-1] if convolutions else layers[-2:][0]


def activations(model: nn.Module, layer: Layer, image: Tensor) -> Tensor:
    """Compute the output of a layer for one image (1, C, H, W): (channels, H, W), or (units,).

    Raises:
        ParamsError: the output has another shape, or the model does not call the layer.
    """
    try:
        with torch.no_grad():
            output = LayerActivation(model, layer.module).attribute(image)
    except (KeyError, AssertionError, IndexError) as error:
        raise ParamsError(f"layer: {layer} is not called by the model. Choose another layer.") from error
    if not isinstance(output, Tensor) or output.ndim not in (2, 4):
        raise ParamsError(
            f"layer: the output of {layer} is neither maps (N, C, H, W) nor units (N, units). Choose another layer."
        )
    return output[0].detach()


def choose_channels(layer: Layer, requested: Sequence[int] | None, count: int) -> list[int]:
    """Return the channels to show: the requested ones, or the first ones.

    Args:
        layer: the layer, for messages.
        requested: channels, or `None`.
        count: number of the layer's channels.

    Raises:
        ParamsError: a requested channel does not exist.
    """
    for channel in requested or ():
        if channel >= count:
            raise ParamsError(f"channels: {channel} is out of range; {layer} has channels 0 to {count - 1}.")
    return list(range(min(CHANNELS, count)) if requested is None else requested)


def weight_images(layer: Layer, image_shape: Sequence[int]) -> Tensor | None:
    """Return the weights of a layer as images (channels, 1 or 3, height, width), or `None` if they cannot be shown as images.

    A convolution over 1 or 3 channels keeps its weights; one over more channels is averaged over them. A Linear on the
    pixels of the input has one image per unit.

    Args:
        layer: any layer.
        image_shape: shape (1, C, H, W) of the model's input.
    """
    weights = getattr(layer.module, "weight", None)
    if isinstance(layer.module, nn.Conv2d) and isinstance(weights, Tensor):
        images = weights.detach()
    elif isinstance(layer.module, nn.Linear) and layer.module.in_features == math.prod(image_shape):
        images = layer.module.weight.detach().reshape(-1, *image_shape[1:])
    else:
        return None
    return images if images.shape[1] in (1, 3) else images.mean(dim=1, keepdim=True)


def _weighted_layers(model: nn.Module) -> list[Layer]:
    layers = [Layer(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    if not layers:
        raise ParamsError("explain: the model has neither Conv2d nor Linear layers, so it has no filters to show.")
    return layers
