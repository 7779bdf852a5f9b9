"""Small convolutional networks: blocks of convolution, activation and pooling, then one Linear (assignments A and B).

A block is conv, batch norm if asked for, activation, max pool 2×2, dropout if asked for; `pool_first` swaps pool and
activation, which for an increasing activation computes the same function.
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from labbook.errors import ParamsError
from labbook.parts import PartSettings

__all__ = ["Settings", "build"]

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Settings(PartSettings):
    """Keys of a `model` block named `cnn`."""

    name: Literal["cnn"]
    channels: list[Annotated[int, Field(gt=0, le=65_536)]] = Field(min_length=1, description="of each convolution's output")
    pools: int = Field(ge=0, description="the first so many blocks end in a pool")
    activation: Literal["relu", "tanh"] = "relu"
    pool_first: bool = Field(False, description="pool before the activation")
    batch_norm: bool = False
    dropout: float | None = Field(None, ge=0, le=1, description="in every block; 0 keeps the layer, which then does nothing")


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W); convolutions are 3×3, stride 1, padding 1.

    Raises:
        ParamsError: the images are too small for so many pools, or there are fewer convolutions.
    """
    width, rows, columns = image_shape
    if settings.pools > len(settings.channels):
        raise ParamsError(
            f"model.pools: {settings.pools} pools for {len(settings.channels)} convolutions; one each is the most."
        )
    if min(rows, columns) >> settings.pools == 0:
        raise ParamsError(f"model.pools: {settings.pools} pools leave nothing of an image of {rows}×{columns} pixels.")
    layers: list[nn.Module] = []
    for index, channels in enumerate(settings.channels):
        layers.append(nn.Conv2d(width, channels, kernel_size=3, padding=1))
        if settings.batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        activation = ACTIVATIONS[settings.activation]()
        if index < settings.pools:
            pool = nn.MaxPool2d(2)
            layers += [pool, activation] if settings.pool_first else [activation, pool]
            rows, columns = rows // 2, columns // 2
        else:
            layers.append(activation)
        if settings.dropout is not None:
            layers.append(nn.Dropout(settings.dropout))
        width = channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * rows * columns, classes))
