"""Architectures, one file per family: each defines `Settings`, its keys in `params.yaml`, and `build`.

`build(settings, image_shape, classes)` returns a `torch.nn.Module` that maps images (N, C, H, W) to logits (N, classes, ...).
Every activation and pooling layer is a separate instance and never works in place, because attribution methods hook modules.
"""

from torch import nn

__all__ = ["conv_norm_relu", "scale_width"]


def conv_norm_relu(in_channels: int, out_channels: int, kernel: int = 3, padding: int = 1) -> list[nn.Module]:
    """Return a convolution, batch norm and ReLU."""
    return [nn.Conv2d(in_channels, out_channels, kernel, padding=padding), nn.BatchNorm2d(out_channels), nn.ReLU()]


def scale_width(width: int, factor: float) -> int:
    """Scale a number of channels or units; the result is at least 1."""
    return max(1, round(width * factor))
