"""Adam (Kingma and Ba, 2015)."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field
from torch import nn, optim

from labbook.core.parts import PartSettings

__all__ = ["Settings", "build"]

Beta = Annotated[float, Field(ge=0, lt=1)]


class Settings(PartSettings):
    """Keys of an `optimizer` block named `adam`; the defaults are the paper's."""

    name: Literal["adam"]
    lr: float = Field(gt=0)
    betas: list[Beta] = Field([0.9, 0.999], min_length=2, max_length=2)
    weight_decay: float = Field(0.0, ge=0, description="L2 regularisation, as a gradient of weight_decay × weight")


def build(settings: Settings, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Build the optimiser; fused, as overhead is what small models pay for."""
    first, second = settings.betas
    return optim.Adam(parameters, lr=settings.lr, betas=(first, second), weight_decay=settings.weight_decay, fused=True)
