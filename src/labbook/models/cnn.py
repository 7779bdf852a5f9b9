"""Small convolutional networks: blocks of convolution, activation and pooling, then Linear layers (assignments A, B and D).

A block repeats convolution, optional batch norm and activation `convs_per_block` times; optional 2×2 max pooling and dropout
follow. `pool_first` puts pooling before the last activation; for an increasing activation this computes the same function.
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from labbook.config.components import ComponentSettings
from labbook.errors import ParamsError

__all__ = ["Settings", "build"]

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU}


class Settings(ComponentSettings):
    """Keys of a `model` block named `cnn`."""

    name: Literal["cnn"]
    channels: list[Annotated[int, Field(gt=0, le=65_536)]] = Field(min_length=1, description="output channels of each block")
    pools: int = Field(ge=0, description="number of blocks, from the first, that end in a 2×2 max pool")
    kernel: int = Field(3, gt=0, le=255, description="size of all kernels, odd; padding preserves the image size")
    convs_per_block: int = Field(1, gt=0, description="convolutions per block, each followed by an activation")
    hidden: list[Annotated[int, Field(gt=0, le=65_536)]] = Field([], description="units of each hidden Linear")
    activation: Literal["relu", "tanh", "elu"] = "relu"
    pool_first: bool = Field(False, description="pool before the activation")
    batch_norm: bool = Field(False, description="batch norm after each convolution")
    batch_norm_head: bool = Field(False, description="batch norm after each Linear, including the last")
    dropout: float | None = Field(
        None, ge=0, le=1, description="dropout probability in every block; 0 keeps the layers without effect, null omits them"
    )
    init: Literal["default", "kaiming_uniform"] = Field(
        "default", description="kaiming_uniform uses the gain of ReLU; PyTorch's default is Kaiming-uniform with a = √5"
    )


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W); convolutions have stride 1 and preserve the size.

    Raises:
        ParamsError: the images are too small for the pools, there are more pools than blocks, or the kernel is even.
    """
    in_channels, rows, columns = image_shape
    _check(settings, rows, columns)
    layers: list[nn.Module] = []
    for index, channels in enumerate(settings.channels):
        layers += _block(settings, in_channels, channels, pooled=index < settings.pools)
        in_channels = channels
    layers.append(nn.Flatten())
    features = in_channels * (rows >> settings.pools) * (columns >> settings.pools)
    model = nn.Sequential(*layers, *_head(settings, features, classes))
    if settings.init == "kaiming_uniform":
        _init_kaiming_uniform(model)
    return model


def _check(settings: Settings, rows: int, columns: int) -> None:
    if settings.kernel % 2 == 0:
        raise ParamsError(
            f"model.kernel: {settings.kernel} is even. Use an odd kernel, whose padding can preserve the image size."
        )
    if settings.pools > len(settings.channels):
        raise ParamsError(
            f"model.pools: {settings.pools} pools, but {len(settings.channels)} blocks. Use at most one pool per block."
        )
    if min(rows, columns) >> settings.pools == 0:
        raise ParamsError(
            f"model.pools: {settings.pools} pools reduce an image of {rows}×{columns} pixels to nothing. Use fewer pools."
        )


def _block(settings: Settings, in_channels: int, out_channels: int, *, pooled: bool) -> list[nn.Module]:
    """Return the layers of one block, (N, in, H, W) → (N, out, H, W), or (N, out, H // 2, W // 2) if `pooled`."""
    layers: list[nn.Module] = []
    for channels in [in_channels, *[out_channels] * (settings.convs_per_block - 1)]:
        layers.append(nn.Conv2d(channels, out_channels, settings.kernel, padding=(settings.kernel - 1) // 2))
        if settings.batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(ACTIVATIONS[settings.activation]())
    if pooled:
        layers.insert(len(layers) - settings.pool_first, nn.MaxPool2d(2))
    if settings.dropout is not None:
        layers.append(nn.Dropout(settings.dropout))
    return layers


def _head(settings: Settings, features: int, classes: int) -> list[nn.Module]:
    """Return the layers from (N, features) to logits (N, classes)."""
    layers: list[nn.Module] = []
    for units in (*settings.hidden, classes):
        layers.append(nn.Linear(features, units))
        if settings.batch_norm_head:
            layers.append(nn.BatchNorm1d(units))
        layers.append(ACTIVATIONS[settings.activation]())
        features = units
    return layers[:-1]


def _init_kaiming_uniform(model: nn.Module) -> None:
    """Redraw all weights and zero all biases, as the derivation assumes (He et al., 2015, "Delving deep", section 2.2)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
