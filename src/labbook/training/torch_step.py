"""The torch backend: gradients by PyTorch's autograd, updates by its optimiser."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim

from labbook.training.runtime import in_bf16

__all__ = ["build"]


def build(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], optimizer: optim.Optimizer, precision: str
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the function that takes one step of training: images and labels → loss and logits.

    Args:
        model: on its device.
        loss: of logits and labels.
        optimizer: of the model's parameters; its learning rate may change between steps.
        precision: `float32` or `bf16`, of forward and backward.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    forward: Any = in_bf16(model, parameters[0].device) if precision == "bf16" else model
    # Without the decorators of `step` (profiler scope, hooks), which no supported call avoids: they cost a small MLP a tenth of
    # its time, and import torch's compiler (1 s).
    update = inspect.unwrap(type(optimizer).step)

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        for parameter in parameters:
            parameter.grad = None
        logits = forward(images)
        value = loss(logits, labels)
        value.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            update(optimizer)
        return value, logits

    return step
