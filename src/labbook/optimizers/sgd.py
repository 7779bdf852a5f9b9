"""Stochastic gradient descent, with classical momentum where asked for."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field
from torch import nn, optim

from labbook.core.parts import PartSettings

__all__ = ["Settings", "build"]


class Settings(PartSettings):
    """Keys of an `optimizer` block named `sgd`."""

    name: Literal["sgd"]
    lr: float = Field(gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, description="L2 regularisation, as a gradient of weight_decay × weight")


def build(settings: Settings, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Build the optimiser; fused, as overhead is what small models pay for."""
    return optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True)
