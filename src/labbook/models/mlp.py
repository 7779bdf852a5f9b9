"""Multilayer perceptrons: Flatten, then Linear, activation and optional Dropout per hidden layer (assignments A and B)."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import nn

from labbook.config.components import ComponentSettings

__all__ = ["Settings", "build"]

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


class Settings(ComponentSettings):
    """Keys of a `model` block named `mlp`."""

    name: Literal["mlp"]
    hidden: list[Annotated[int, Field(gt=0, le=65_536)]] = Field(description="units of each hidden layer")
    activation: Literal["relu", "sigmoid", "tanh"] = "relu"
    dropout: float = Field(0.0, ge=0, le=1, description="dropout probability after each hidden activation; 0 omits the layers")
    init: Literal["default", "normal", "zeros"] = Field(
        "default",
        description="initial weights: PyTorch's default, normal with init_std, or zeros; the last two set biases to zero",
    )
    init_std: float | None = Field(None, gt=0, description="standard deviation of init: normal")

    @model_validator(mode="after")
    def _init_std_belongs_to_normal(self) -> "Settings":
        if (self.init == "normal") != (self.init_std is not None):
            raise ValueError("init: normal and init_std require each other")
        return self


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W)."""
    features = math.prod(image_shape)
    layers: list[nn.Module] = [nn.Flatten()]
    for hidden in settings.hidden:
        layers += [nn.Linear(features, hidden), ACTIVATIONS[settings.activation]()]
        if settings.dropout:
            layers.append(nn.Dropout(settings.dropout))
        features = hidden
    model = nn.Sequential(*layers, nn.Linear(features, classes))
    if settings.init != "default":
        _init_normal(model, settings.init_std or 0.0)
    return model


def _init_normal(model: nn.Sequential, std: float) -> None:
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
