"""A table of a model's layers, in the order of the forward pass."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["list_layers"]


@torch.no_grad()
def list_layers(model: nn.Module, image: Tensor) -> list[dict[str, Any]]:
    """List the layers in the order of the forward pass: name, kind, output shape without N, number of parameters.

    A layer is a module without children. A layer used twice is listed twice, and its parameters are counted once. The last row
    counts the parameters of modules with children, so that the counts add up to that of the model.

    Args:
        model: in evaluation mode.
        image: (1, C, H, W), float32.
    """
    rows: list[dict[str, Any]] = []

    def make_hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            count = 0 if any(row["name"] == name for row in rows) else _count(module)
            rows.append({"name": name, "kind": type(module).__name__, "shape": list(output.shape[1:]), "parameters": count})

        return hook

    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            if not [*module.children()]:
                hooks.enter_context(module.register_forward_hook(make_hook(name)))
        output = model(image)
    remaining = _count(model) - sum(row["parameters"] for row in rows)
    if remaining:
        rows.append({"name": "", "kind": type(model).__name__, "shape": list(output.shape[1:]), "parameters": remaining})
    return rows


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
