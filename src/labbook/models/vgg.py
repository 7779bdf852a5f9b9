"""Networks defined by a list of layers, like VGG (Simonyan and Zisserman, 2015), with batch norm (assignment C).

A number stands for a 3×3 convolution with that many output channels, batch norm and ReLU; `pool` for 2×2 max pooling, `pool4`
for 4×4 max pooling. The last layer is followed by Flatten and one Linear.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from torch import nn

from labbook.config.components import ComponentSettings
from labbook.errors import ParamsError
from labbook.models import conv_norm_relu, scale_width

__all__ = ["Settings", "build"]

POOLS = {"pool": 2, "pool4": 4}


def _check_layer(value: Any) -> Any:
    if value in list(POOLS) or (type(value) is int and 0 < value <= 65_536):
        return value
    raise ValueError("a layer is a number of channels of at most 65,536, pool or pool4")


class Settings(ComponentSettings):
    """Keys of a `model` block named `vgg`."""

    name: Literal["vgg"]
    layers: list[Annotated[int | str, BeforeValidator(_check_layer)]] = Field(
        min_length=1, description="channels, pool or pool4"
    )
    adaptive: int | None = Field(None, gt=0, description="final max pool to this many rows and columns, for any image size")
    bias: bool = Field(True, description="whether the last Linear has a bias")
    width: float = Field(1.0, gt=0, le=16, description="multiplier of all numbers of channels")


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W).

    Raises:
        ParamsError: the images are too small for the pools, or do not divide evenly where `adaptive` is set.
    """
    in_channels, rows, columns = image_shape
    layers: list[nn.Module] = []
    for layer in settings.layers:
        if isinstance(layer, str):
            layers.append(nn.MaxPool2d(POOLS[layer]))
            rows, columns = rows // POOLS[layer], columns // POOLS[layer]
        else:
            channels = scale_width(layer, settings.width)
            layers += conv_norm_relu(in_channels, channels)
            in_channels = channels
    if not rows or not columns:
        _, *size = image_shape
        raise ParamsError(f"model.layers: the pools reduce an image of {size[0]}×{size[1]} pixels to nothing. Use fewer.")
    if settings.adaptive:
        layers.append(_fixed_size_pool(settings.adaptive, rows, columns))
        rows = columns = settings.adaptive
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(in_channels * rows * columns, classes, bias=settings.bias))


def _fixed_size_pool(side: int, rows: int, columns: int) -> nn.MaxPool2d:
    """Return the max pool from maps (rows, columns) to (side, side): `AdaptiveMaxPool2d`, but deterministic on CUDA."""
    if rows % side or columns % side:
        raise ParamsError(f"model.adaptive: maps of {rows}×{columns} do not divide evenly into {side}×{side}.")
    return nn.MaxPool2d((rows // side, columns // side))
