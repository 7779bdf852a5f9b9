"""The numpy backend: train a PyTorch model with the layers of this package, without autograd or PyTorch's optimiser.

The layers share the memory of the model's parameters, so everything but the training step stays the same: PyTorch
initialises, evaluates, selects and saves the weights, and a checkpoint contains the whole state.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn, optim

from labbook.errors import NumpyBackendError
from labbook.numpy_nn.activations import ELU, ReLU, Tanh
from labbook.numpy_nn.conv import Conv2d
from labbook.numpy_nn.layer import Layer
from labbook.numpy_nn.linear import Flatten, Linear
from labbook.numpy_nn.loss import CrossEntropyLoss
from labbook.numpy_nn.norm import BatchNorm1d, BatchNorm2d
from labbook.numpy_nn.optimizer import SGD
from labbook.numpy_nn.pooling import AvgPool2d, MaxPool2d
from labbook.numpy_nn.sequential import Sequential

__all__ = ["build", "convert"]

# The supported layers, and their arguments, which are attributes of PyTorch's layers.
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
UNSUPPORTED_OPTIONS = ("dampening", "nesterov", "maximize")  # of torch.optim.SGD


def build(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],  # cross-entropy: the settings allow nothing else
    optimizer: optim.Optimizer,
    precision: str,  # likewise float32
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the function that computes one training step: images and labels → loss and logits.

    Args:
        model: a sequence of layers on the CPU.
        loss: cross-entropy.
        optimizer: PyTorch's SGD, which holds learning rate and velocities; its `step` is never called.
        precision: float32.

    Raises:
        NumpyBackendError: the model has an unsupported or a frozen layer, or the optimizer has an unsupported option.
    """
    threadpool_limits(torch.get_num_threads(), user_api="blas")  # the last bits of matrix products depend on it
    network, criterion = convert(model), CrossEntropyLoss()
    (group,) = optimizer.param_groups
    _check_options(group)
    sgd = SGD(network, group["lr"], group["momentum"], group["weight_decay"])
    if group["momentum"]:
        for name, parameter in zip(network.parameters, model.parameters(), strict=True):
            velocity = optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
            sgd.velocities[name] = velocity.numpy()

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        sgd.lr = group["lr"]
        logits = network.forward(images.numpy())
        loss_value = criterion.forward(logits, labels.numpy())
        network.backward_parameters(criterion.backward())
        sgd.step()
        return torch.tensor(loss_value), torch.from_numpy(logits)

    return step


def convert(model: nn.Module) -> Sequential:
    """Convert a model to layers of this package, which share the memory of its parameters and running statistics.

    Raises:
        NumpyBackendError: a layer is not supported; the message names it.
    """
    return Sequential(*_convert_layers(model))


def _check_options(group: dict[str, Any]) -> None:
    for option in UNSUPPORTED_OPTIONS:
        if group[option]:
            raise NumpyBackendError(f"backend: numpy does not support {option} of the optimizer SGD. Use backend: torch.")


def _convert_layers(module: nn.Module) -> list[Layer]:
    if isinstance(module, nn.Sequential):
        return [layer for child in module for layer in _convert_layers(child)]
    name = type(module).__name__
    if name not in LAYERS:
        raise NumpyBackendError(
            f"backend: numpy does not support {module}. It supports sequences of {', '.join(LAYERS)}. Use backend: torch."
        )
    layer_type, names = LAYERS[name]
    arguments = [_as_scalar(getattr(module, argument)) for argument in names]
    options = {"bias": module.bias is not None} if isinstance(module, (nn.Linear, nn.Conv2d)) else {}
    supported: nn.Module = type(module)(*arguments, **options)
    if supported.extra_repr() != module.extra_repr():
        raise NumpyBackendError(f"backend: numpy does not support {module}, only {supported}. Use backend: torch.")
    if not all(parameter.requires_grad for parameter in module.parameters()):
        raise NumpyBackendError(f"backend: numpy trains every layer, and {module} is frozen. Use backend: torch.")
    layer: Layer = layer_type(*arguments, **options, **({"generator": np.random.default_rng(0)} if options else {}))
    layer.parameters = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}
    layer.buffers = {name: buffer.numpy() for name, buffer in module.named_buffers()}
    return [layer]


def _as_scalar(argument: Any) -> Any:
    """Return the value for the first axis; `_convert_layers` rejects a layer whose values differ between the axes."""
    return argument[0] if isinstance(argument, tuple) else argument
