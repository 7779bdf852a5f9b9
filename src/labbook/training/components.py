"""Losses, optimisers and schedules by name: torch's own classes, or a custom class (`labbook.training.lookup`).

All keys of a component except `name` are keyword arguments of its class:

    loss       a class of torch.nn that compares logits with class labels: {name: CrossEntropyLoss, label_smoothing: 0.1}
    optimizer  a class of torch.optim: {name: AdamW, lr: 0.001, weight_decay: 0.05}
    schedule   a class of torch.optim.lr_scheduler: {name: MultiStepLR, milestones: [5], gamma: 0.1}
"""

import copy
import functools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn, optim

from labbook.config.components import Component
from labbook.errors import ParamsError
from labbook.training.lookup import LOSSES, Kind, configurable_arguments, construct, convert, one_line, read_component
from labbook.training.schedule import Schedule, build_schedule, check_schedule

__all__ = ["Schedule", "build_loss", "build_optimizer", "build_schedule", "check_component", "get_weight_decay"]

TRIAL_CLASSES = 3  # number of classes for checking a loss if it is unknown


def build_loss(component: Component, key: str, classes: int | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Build the mean loss of logits (N, classes) or (N, classes, H, W) and labels (N,) or (N, H, W).

    Args:
        component: the name of the loss and its arguments; a `weight` is one number per class.
        key: the component's key in `params.yaml`, for messages.
        classes: number of classes, to check the length of a `weight`.

    Raises:
        ParamsError: there is no such loss, or an argument is wrong.
    """
    cls, arguments = read_component("loss", component.model_dump(), key)
    where = f"{key}: {component.name}"
    module: nn.Module = construct(cls, (), arguments, where)
    if next(module.parameters(), None) is not None:
        raise ParamsError(f"{where} has parameters, which the optimiser would not train. Use a loss without parameters.")
    if component.name in LOSSES:
        weight = arguments.get("weight")
        _check_loss(module, classes or (TRIAL_CLASSES if weight is None else len(weight)), where)
    if next(module.buffers(), None) is None:
        return _flatten_pixels(module.forward)
    on_device = functools.cache(lambda device: copy.deepcopy(module).to(device).forward)
    return _flatten_pixels(lambda logits, labels: on_device(logits.device)(logits, labels))


def build_optimizer(component: Component, parameters: Iterable[nn.Parameter], key: str) -> optim.Optimizer:
    """Build the optimiser, by default fused where torch supports it, because overhead dominates in small models.

    All parameters are in one group, so `weight_decay` applies to biases and batch norm as well.

    Args:
        component: the name of the optimiser and its arguments.
        parameters: the model's parameters, on their device.
        key: the component's key in `params.yaml`, for messages.

    Raises:
        ParamsError: there is no such optimiser, or an argument is wrong or missing.
    """
    cls, arguments = read_component("optimizer", component.model_dump(), key)
    accepted = configurable_arguments(cls)
    if "lr" in accepted and "lr" not in arguments:
        raise ParamsError(f"{key}.lr: missing. Set the learning rate of {component.name}.")
    if "lr" in accepted and convert(arguments["lr"], float, f"{key}.lr") <= 0:
        raise ParamsError(f"{key}.lr: invalid value {arguments['lr']}: a learning rate must be greater than 0.")
    if "fused" in accepted and cls.__module__.startswith("torch.") and not {"fused", "foreach"} & arguments.keys():
        arguments["fused"] = True
    optimizer: optim.Optimizer = construct(cls, (list(parameters),), arguments, f"{key}: {component.name}")
    return optimizer


def check_component(kind: Kind, component: Component, key: str) -> None:
    """Check the name and the arguments of a component without training.

    Args:
        kind: `loss`, `optimizer` or `schedule`.
        component: its name and arguments.
        key: its key in `params.yaml`, for messages.

    Raises:
        ParamsError: there is no such class, or an argument is wrong.
    """
    parameter = nn.Parameter(torch.zeros(2, 2))  # a matrix, because Muon accepts nothing else
    match kind:
        case "loss":
            build_loss(component, key)
        case "optimizer":
            build_optimizer(component, [parameter], key)
        case "schedule":
            check_schedule(component, optim.SGD([parameter], lr=0.1, momentum=0.9), key)


def get_weight_decay(component: Component, key: str = "optimizer") -> float:
    """Return the weight decay that an optimiser applies: the component's, or the default of its class."""
    cls, arguments = read_component("optimizer", component.model_dump(), key)
    parameter = configurable_arguments(cls).get("weight_decay")
    return float(arguments.get("weight_decay", parameter.default if parameter else 0.0))


def _flatten_pixels(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def flattened_loss(logits: Tensor, labels: Tensor) -> Tensor:
        if labels.ndim > 1:  # one row per pixel, because torch's loss of (N, classes, H, W) is not deterministic on CUDA
            logits, labels = logits.movedim(1, -1).flatten(0, -2), labels.flatten()
        return loss(logits, labels)

    return flattened_loss


def _check_loss(module: nn.Module, classes: int, where: str) -> None:
    """Compute a loss once on dummy data, because torch checks some arguments only then."""
    try:
        module(torch.zeros(classes, classes), torch.arange(classes))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ParamsError(f"{where}: {one_line(error)}") from error
