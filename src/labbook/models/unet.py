"""A small U-Net (Ronneberger et al., 2015), which predicts a class for every pixel (assignment E).

Contracting path: convolution, batch norm, ReLU and a 2×2 max pool for each width. Expanding path: convolution, batch norm, ReLU
and a 2×2 transposed convolution for each width, the last one to the logits. The assignment names a U-Net but shows no skip
connections; by default, each stage of the expanding path except the first also reads feature maps of the contracting path.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from labbook.config.components import ComponentSettings
from labbook.errors import ParamsError
from labbook.models import conv_norm_relu, scale_width

__all__ = ["Settings", "UNet", "build"]


class Settings(ComponentSettings):
    """Keys of a `model` block named `unet`; the defaults are the assignment's network."""

    name: Literal["unet"]
    channels: list[Annotated[int, Field(gt=0, le=65_536)]] = Field(
        [64, 128, 256, 512], min_length=1, description="output channels of each convolution in the contracting path"
    )
    skips: bool = Field(True, description="false removes the skip connections")
    width: float = Field(1.0, gt=0, le=16, description="multiplier of all numbers of channels")


class UNet(nn.Module):
    """Images (N, C, H, W) → logits (N, classes, H, W); H and W are multiples of 2 to the power of len(channels).

    Args:
        in_channels: channels of the images.
        channels: output channels of each convolution in the contracting path; reversed in the expanding path.
        classes: number of classes.
        skips: whether to concatenate feature maps of the contracting path to those of the same size in the expanding path.
    """

    def __init__(self, in_channels: int, channels: list[int], classes: int, *, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        self.down = nn.ModuleList(
            nn.Sequential(*conv_norm_relu(a, b)) for a, b in zip([in_channels, *channels], channels, strict=False)
        )
        self.pools = nn.ModuleList(nn.MaxPool2d(2) for _ in channels)
        self.up = nn.ModuleList()
        in_width = channels[-1]
        for width, out_width in zip(reversed(channels), [*reversed(channels[:-1]), classes], strict=True):
            upsample = nn.ConvTranspose2d(width, out_width, kernel_size=2, stride=2)
            self.up.append(nn.Sequential(*conv_norm_relu(in_width, width), upsample))
            in_width = out_width + width if skips else out_width

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        maps, skipped = images, []
        for conv, pool in zip(self.down, self.pools, strict=True):
            maps = conv(maps)
            skipped.append(maps)
            maps = pool(maps)
        for index, block in enumerate(self.up):
            if self.skips and index:
                maps = torch.cat([maps, skipped[-index]], dim=1)
            maps = block(maps)
        return maps


def build(settings: Settings, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build the network for images (N, C, H, W).

    Raises:
        ParamsError: height or width of the images is not divisible by 2 to the power of len(channels).
    """
    in_channels, rows, columns = image_shape
    factor = 2 ** len(settings.channels)
    if rows % factor or columns % factor:
        raise ParamsError(
            f"model.channels: {len(settings.channels)} widths need images whose height and width are multiples of {factor}, "
            f"not {rows}×{columns}."
        )
    channels = [scale_width(width, settings.width) for width in settings.channels]
    return UNet(in_channels, channels, classes, skips=settings.skips)
