"""Multi-layer perceptrons: Flatten, then Linear, ReLU and perhaps Dropout for each hidden layer (assignments A and B)."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from labbook.core.parts import PartSettings

__all__ = ["Settings", "build"]


class Settings(PartSettings):
    """Keys of a `model` block named `mlp`."""

    name: Literal["mlp"]
    hidden: list[Annotated[int, Field(gt=0, le=65_536)]] = Field(description="units of each hidden layer")
    dropout: float = Field(0.0, ge=0, le=1, description="after each hidden ReLU; 0 leaves the layers out")


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W)."""
    width = math.prod(image_shape)
    layers: list[nn.Module] = [nn.Flatten()]
    for hidden in settings.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        if settings.dropout:
            layers.append(nn.Dropout(settings.dropout))
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, classes))
