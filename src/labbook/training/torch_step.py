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
    """Return the function that computes one training step: images and labels → loss and logits.

    Args:
        model: the model, on its device.
        loss: logits and labels → mean loss.
        optimizer: the optimiser of the model's parameters; its learning rate may change between steps.
        precision: `float32` or `bf16`, in forward and backward passes.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    forward: Any = in_bf16(model, parameters[0].device) if precision == "bf16" else model
    # Without the decorators of `step` (profiler scope, hooks): they take a tenth of a small MLP's training time and import
    # torch's compiler (1 s). No supported call avoids them.
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
