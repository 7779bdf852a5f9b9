"""Quantities recorded during training in addition to loss and accuracy: gradient norms and dead units."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labbook.training.inference import DeviceDataset, evaluation_mode

__all__ = ["dead_units", "gradient_norms", "measure_watched"]


def measure_watched(names: Sequence[str], model: nn.Module, inputs: DeviceDataset) -> dict[str, dict[str, float]]:
    """Return each named quantity by layer, to six significant digits."""
    quantities = {}
    if "gradient_norms" in names:
        quantities["gradient_norms"] = gradient_norms(model)
    if "dead_units" in names:
        quantities["dead_units"] = dead_units(model, inputs)
    return {name: {layer: float(f"{value:.6g}") for layer, value in values.items()} for name, values in quantities.items()}


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """Return the Euclidean norm of the gradient of each layer's parameters, for the batch of the last step."""
    norms = {}
    for name, module in model.named_modules():
        gradients = [parameter.grad.flatten() for parameter in module.parameters(recurse=False) if parameter.grad is not None]
        if gradients:
            norms[name] = float(torch.cat(gradients).norm())
    return norms


def dead_units(model: nn.Module, inputs: DeviceDataset) -> dict[str, float]:
    """Return the fraction of each ReLU's units, or channels, that are zero for every input.

    Lu et al. (2020), "Dying ReLU and initialization", section 2. The model's mode is restored and its hooks are removed.
    """
    alive: dict[str, Tensor] = {}

    def record(name: str, outputs: Tensor) -> None:
        positive = (outputs > 0).transpose(0, 1).flatten(1).any(1)
        alive[name] = alive[name] | positive if name in alive else positive

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, outputs, name=name: record(name, outputs))
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        with evaluation_mode(model):
            for images, _ in inputs.batches():
                model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: 1 - float(units.float().mean()) for name, units in alive.items()}
