"""Pre-activation residual networks (He et al., 2016, "Identity mappings"), also without skip connections (assignment B).

For each width: a convolution, `blocks` blocks, a 2×2 max pool (except after the last width); then ReLU and one Linear.
A block is x + conv(ReLU(x)); with batch norm, x + conv(ReLU(BN(x))); without the skip connection, conv(ReLU(x)).
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from labbook.config.components import ComponentSettings
from labbook.errors import ParamsError

__all__ = ["Block", "Settings", "build"]


class Settings(ComponentSettings):
    """Keys of a `model` block named `residual`."""

    name: Literal["residual"]
    channels: list[Annotated[int, Field(gt=0, le=65_536)]] = Field(min_length=1)
    blocks: int = Field(gt=0, description="residual blocks per width")
    skip: bool = Field(True, description="false removes the skip connections")
    batch_norm: bool = False


class Block(nn.Module):
    """One pre-activation block, (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int, *, skip: bool, batch_norm: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.skip = skip

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs plus the output of the convolution; without the skip connection, only the output."""
        residual: Tensor = self.conv(self.relu(self.norm(inputs)))
        return inputs + residual if self.skip else residual


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W).

    Raises:
        ParamsError: the images are too small for the number of widths.
    """
    in_channels, rows, columns = image_shape
    if min(rows, columns) >> len(settings.channels) - 1 == 0:
        raise ParamsError(
            f"model.channels: {len(settings.channels)} widths reduce an image of {rows}×{columns} pixels to nothing. Use fewer."
        )
    layers: list[nn.Module] = []
    for index, channels in enumerate(settings.channels):
        if index:
            layers.append(nn.MaxPool2d(2))
            rows, columns = rows // 2, columns // 2
        layers.append(nn.Conv2d(in_channels, channels, kernel_size=3, padding=1))
        layers += [Block(channels, skip=settings.skip, batch_norm=settings.batch_norm) for _ in range(settings.blocks)]
        in_channels = channels
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(in_channels * rows * columns, classes))
