"""A small U-Net (Ronneberger et al., 2015), which predicts a class for every pixel (assignment E).

Contracting path: convolution, batch norm, ReLU and a 2×2 max pool for each width. Expanding path: convolution, batch norm, ReLU
and a 2×2 transposed convolution for each width, the last one to the logits. The assignment names a U-Net but shows no skip
connections; by default, each stage of the expanding path except the first also reads the contracting path's maps of that size.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from labbook.config.components import ComponentSettings
from labbook.errors import ParamsError
from labbook.models import conv_norm_relu, scaled

__all__ = ["Settings", "UNet", "build"]


class Settings(ComponentSettings):
    """Keys of a `model` block named `unet`; the defaults are the assignment's network."""

    name: Literal["unet"]
    channels: list[Annotated[int, Field(gt=0, le=65_536)]] = Field(
        [64, 128, 256, 512], min_length=1, description="output channels of each convolution in the contracting path"
    )
    skips: bool = Field(True, description="false removes the skip connections")
    width: float = Field(1.0, gt=0, le=16, description="factor for all channels")


class UNet(nn.Module):
    """Images (N, C, H, W) → logits (N, classes, H, W); H and W are multiples of 2 to the power of len(channels).

    Args:
        into: channels of the images.
        channels: output channels of each convolution in the contracting path; reversed in the expanding path.
        classes: number of classes.
        skips: whether maps of the contracting path are concatenated to those of their size in the expanding path.
    """

    def __init__(self, into: int, channels: list[int], classes: int, *, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        self.down = nn.ModuleList(
            nn.Sequential(*conv_norm_relu(a, b)) for a, b in zip([into, *channels], channels, strict=False)
        )
        self.pools = nn.ModuleList(nn.MaxPool2d(2) for _ in channels)
        self.up = nn.ModuleList()
        width = channels[-1]
        for channel, above in zip(reversed(channels), [*reversed(channels[:-1]), classes], strict=True):
            up = nn.ConvTranspose2d(channel, above, kernel_size=2, stride=2)
            self.up.append(nn.Sequential(*conv_norm_relu(width, channel), up))
            width = above + channel if skips else above

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        maps, passed = images, []
        for conv, pool in zip(self.down, self.pools, strict=True):
            maps = conv(maps)
            passed.append(maps)
            maps = pool(maps)
        for index, sequence in enumerate(self.up):
            if self.skips and index:
                maps = torch.cat([maps, passed[-index]], dim=1)
            maps = sequence(maps)
        return maps


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W).

    Raises:
        ParamsError: height or width of the images cannot be halved once per width.
    """
    width, rows, columns = image_shape
    factor = 2 ** len(settings.channels)
    if rows % factor or columns % factor:
        raise ParamsError(
            f"model.channels: {len(settings.channels)} widths need images whose height and width are multiples of {factor}, "
            f"not {rows}×{columns}."
        )
    channels = [scaled(asked, settings.width) for asked in settings.channels]
    return UNet(width, channels, classes, skips=settings.skips)
