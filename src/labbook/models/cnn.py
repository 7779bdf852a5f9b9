"""Small convolutional networks: blocks of convolution, activation and pooling, then Linear layers (assignments A, B and D).

A block is conv, batch norm if asked for, activation, these three again where it has several convolutions, max pool 2×2,
dropout if asked for; `pool_first` swaps pool and activation, which for an increasing activation computes the same function.
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from labbook.config.parts import PartSettings
from labbook.errors import ParamsError

__all__ = ["Settings", "build"]

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU}


class Settings(PartSettings):
    """Keys of a `model` block named `cnn`."""

    name: Literal["cnn"]
    channels: list[Annotated[int, Field(gt=0, le=65_536)]] = Field(min_length=1, description="of each block's output")
    pools: int = Field(ge=0, description="the first so many blocks end in a pool")
    kernel: int = Field(3, gt=0, le=255, description="of every convolution, odd; the padding keeps the size")
    convs_per_block: int = Field(1, gt=0, description="each with its activation")
    hidden: list[Annotated[int, Field(gt=0, le=65_536)]] = Field([], description="units of the layers before the last")
    activation: Literal["relu", "tanh", "elu"] = "relu"
    pool_first: bool = Field(False, description="pool before the activation")
    batch_norm: bool = Field(False, description="after each convolution")
    batch_norm_head: bool = Field(False, description="after each Linear, the last one too")
    dropout: float | None = Field(None, ge=0, le=1, description="in every block; 0 keeps the layer, which then does nothing")
    init: Literal["default", "kaiming_uniform"] = Field(
        "default", description="kaiming_uniform has the gain of ReLU; PyTorch's default is Kaiming-uniform too, with a = √5"
    )


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W); convolutions have stride 1 and keep the size.

    Raises:
        ParamsError: the images are too small for so many pools, there are fewer blocks, or the kernel is even.
    """
    width, rows, columns = image_shape
    _check(settings, rows, columns)
    layers: list[nn.Module] = []
    for index, channels in enumerate(settings.channels):
        layers += _block(settings, width, channels, pooled=index < settings.pools)
        width = channels
    layers.append(nn.Flatten())
    features = width * (rows >> settings.pools) * (columns >> settings.pools)
    model = nn.Sequential(*layers, *_head(settings, features, classes))
    if settings.init == "kaiming_uniform":
        _draw_kaiming_uniform(model)
    return model


def _check(settings: Settings, rows: int, columns: int) -> None:
    if settings.kernel % 2 == 0:
        raise ParamsError(f"model.kernel: {settings.kernel} is even; only an odd kernel can keep the size by its padding.")
    if settings.pools > len(settings.channels):
        raise ParamsError(
            f"model.pools: {settings.pools} pools for {len(settings.channels)} convolutions or blocks of them; "
            f"one each is the most."
        )
    if min(rows, columns) >> settings.pools == 0:
        raise ParamsError(f"model.pools: {settings.pools} pools leave nothing of an image of {rows}×{columns} pixels.")


def _block(settings: Settings, width: int, channels: int, *, pooled: bool) -> list[nn.Module]:
    """List the layers of one block, (N, width, H, W) → (N, channels, H or H // 2, W or W // 2)."""
    layers: list[nn.Module] = []
    for into in [width, *[channels] * (settings.convs_per_block - 1)]:
        layers.append(nn.Conv2d(into, channels, settings.kernel, padding=(settings.kernel - 1) // 2))
        if settings.batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(ACTIVATIONS[settings.activation]())
    if pooled:
        layers.insert(len(layers) - settings.pool_first, nn.MaxPool2d(2))
    if settings.dropout is not None:
        layers.append(nn.Dropout(settings.dropout))
    return layers


def _head(settings: Settings, features: int, classes: int) -> list[nn.Module]:
    """List the layers from (N, features) to logits (N, classes)."""
    layers: list[nn.Module] = []
    for units in (*settings.hidden, classes):
        layers.append(nn.Linear(features, units))
        if settings.batch_norm_head:
            layers.append(nn.BatchNorm1d(units))
        layers.append(ACTIVATIONS[settings.activation]())
        features = units
    return layers[:-1]


def _draw_kaiming_uniform(model: nn.Module) -> None:
    """Draw weights anew; biases become zero, for which the bound is derived (He et al., 2015, "Delving deep", section 2.2)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
