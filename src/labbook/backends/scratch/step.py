"""A PyTorch model trained by the layers from scratch, without autograd and without PyTorch's optimiser.

The layers work on the memory of the model's parameters. So all around a step stays as it is: weights are initialised,
measured, kept and saved by PyTorch, and a checkpoint holds everything.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn, optim

from labbook.backends.scratch.activations import ELU, ReLU, Tanh
from labbook.backends.scratch.conv import Conv2d
from labbook.backends.scratch.layer import Layer
from labbook.backends.scratch.linear import Flatten, Linear
from labbook.backends.scratch.loss import CrossEntropyLoss
from labbook.backends.scratch.norm import BatchNorm1d, BatchNorm2d
from labbook.backends.scratch.optimizer import SGD
from labbook.backends.scratch.pooling import AvgPool2d, MaxPool2d
from labbook.backends.scratch.sequential import Sequential
from labbook.core.errors import ScratchError

__all__ = ["build", "twin_of"]

# The layers that there are, and their arguments by the names of PyTorch's attributes.
LAYERS: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    "Flatten": (Flatten, ()),
    "Linear": (Linear, ("in_features", "out_features")),
    "Conv2d": (Conv2d, ("in_channels", "out_channels", "kernel_size", "stride", "padding")),
    "AvgPool2d": (AvgPool2d, ("kernel_size", "stride")),
    "MaxPool2d": (MaxPool2d, ("kernel_size", "stride")),
    "BatchNorm1d": (BatchNorm1d, ("num_features", "eps", "momentum")),
    "BatchNorm2d": (BatchNorm2d, ("num_features", "eps", "momentum")),
    "ReLU": (ReLU, ()),
    "ELU": (ELU, ("alpha",)),
    "Tanh": (Tanh, ()),
}


def build(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],  # the settings see to it that it is cross-entropy
    optimizer: optim.Optimizer,
    precision: str,  # and to float32
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Give the function that takes one step of training: images and labels → loss and logits.

    Args:
        model: on the CPU, layers one after another.
        loss: cross-entropy.
        optimizer: PyTorch's SGD, which holds learning rate and velocities and is never asked to move anything.
        precision: float32.

    Raises:
        ScratchError: the model has a layer that is not there from scratch, or one that is not learnt.
    """
    threadpool_limits(torch.get_num_threads(), user_api="blas")  # NumPy's products; sums depend on how many share them
    twin, criterion = twin_of(model), CrossEntropyLoss()
    (group,) = optimizer.param_groups
    descent = SGD(twin, group["lr"], group["momentum"], group["weight_decay"])
    if group["momentum"]:
        for name, parameter in zip(twin.parameters, model.parameters(), strict=True):
            velocity = optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
            descent.velocities[name] = velocity.numpy()

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        descent.lr = group["lr"]
        logits = twin.forward(images.numpy())
        value = criterion.forward(logits, labels.numpy())
        twin.backward_parameters(criterion.backward())
        descent.step()
        return torch.tensor(value), torch.from_numpy(logits)

    return step


def twin_of(model: nn.Module) -> Sequential:
    """Build the same layers from scratch, on the memory of the model's parameters and running statistics.

    Raises:
        ScratchError: names the layer that cannot be built.
    """
    return Sequential(*_layers_of(model))


def _layers_of(module: nn.Module) -> list[Layer]:
    if isinstance(module, nn.Sequential):
        return [layer for part in module for layer in _layers_of(part)]
    name = type(module).__name__
    if name not in LAYERS:
        raise ScratchError(f"backend: scratch has no {module}. There are: {', '.join(LAYERS)}, one after another.")
    layer_type, names = LAYERS[name]
    arguments = [_one(getattr(module, argument)) for argument in names]
    options = {"bias": module.bias is not None} if isinstance(module, (nn.Linear, nn.Conv2d)) else {}
    plain: nn.Module = type(module)(*arguments, **options)
    if plain.extra_repr() != module.extra_repr():
        raise ScratchError(f"backend: scratch has no {module}, only {plain}.")
    if not all(parameter.requires_grad for parameter in module.parameters()):
        raise ScratchError(f"backend: scratch trains every layer, and {module} is not to be learnt.")
    layer: Layer = layer_type(*arguments, **options, **({"generator": np.random.default_rng(0)} if options else {}))
    layer.parameters = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}
    layer.buffers = {name: buffer.numpy() for name, buffer in module.named_buffers()}
    return [layer]


def _one(argument: Any) -> Any:
    """Give the first of the sizes along both axes; where the second is another, the layer is refused as not plain."""
    return argument[0] if isinstance(argument, tuple) else argument
