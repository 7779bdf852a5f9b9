"""A deep residual network with few batch norms (assignment C), after He et al. (2016, "Deep residual learning").

For each width: a convolution, batch norm, ReLU, `blocks` blocks, a 2×2 max pool. Then a convolution without padding,
batch norm, ReLU, a 2×2 max pool, and Linear layers with ReLU between them. A block is x + conv(ReLU(conv(x))). The
assignment does not specify the order of the layers; this order is our choice.
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from labbook.config.components import ComponentSettings
from labbook.errors import ParamsError
from labbook.models import conv_norm_relu, scale_width

__all__ = ["Block", "Settings", "build"]


class Settings(ComponentSettings):
    """Keys of a `model` block named `deep_residual`; the defaults are the assignment's network."""

    name: Literal["deep_residual"]
    channels: list[Annotated[int, Field(gt=0, le=65_536)]] = Field([10, 100, 256], min_length=1)
    blocks: int = Field(4, gt=0, description="residual blocks per width")
    last: int = Field(512, gt=0, le=65_536, description="output channels of the convolution without padding")
    hidden: list[Annotated[int, Field(gt=0, le=65_536)]] = Field(
        [512, 500, 500, 100, 100, 100], description="units of each hidden Linear"
    )
    width: float = Field(1.0, gt=0, le=16, description="multiplier of all numbers of channels and hidden units")


class Block(nn.Module):
    """One residual block, (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs plus the output of the convolutions."""
        residual: Tensor = self.conv2(self.relu(self.conv1(inputs)))
        return inputs + residual


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W).

    Raises:
        ParamsError: the images are too small for the number of widths.
    """
    in_channels, *size = image_shape
    rows, columns = (_pooled_size(side, len(settings.channels)) for side in size)
    if rows < 1 or columns < 1:
        raise ParamsError(
            f"model.channels: {len(settings.channels)} widths reduce an image of {size[0]}×{size[1]} pixels to nothing. "
            "Use fewer."
        )
    layers: list[nn.Module] = []
    for index, width in enumerate(settings.channels):
        channels = scale_width(width, settings.width)
        layers += conv_norm_relu(in_channels, channels, kernel=3 if index else 5, padding=1 if index else 3)
        layers += [Block(channels) for _ in range(settings.blocks)]
        layers.append(nn.MaxPool2d(2))
        in_channels = channels
    last = scale_width(settings.last, settings.width)
    layers += [*conv_norm_relu(in_channels, last, padding=0), nn.MaxPool2d(2), nn.Flatten()]
    features = last * rows * columns
    for width in settings.hidden:
        units = scale_width(width, settings.width)
        layers += [nn.Linear(features, units), nn.ReLU()]
        features = units
    return nn.Sequential(*layers, nn.Linear(features, classes))


def _pooled_size(pixels: int, widths: int) -> int:
    """Return the number of rows or columns after the last max pool, for an image of `pixels` rows or columns."""
    pixels += 2  # the first convolution is 5×5 with padding 3
    return ((pixels >> widths) - 2) // 2
