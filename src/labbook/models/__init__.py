"""Architectures, one file per family: each defines `Settings`, its keys in `params.yaml`, and `build`.

`build(settings, image_shape, classes)` returns a `torch.nn.Module` that maps images (N, C, H, W) to logits (N, classes, ...).
Every activation and pool is a separate module instance and never works in place, because attribution methods hook them.
"""

from torch import nn

__all__ = ["conv_norm_relu", "scaled"]


def conv_norm_relu(into: int, channels: int, kernel: int = 3, padding: int = 1) -> list[nn.Module]:
    """Return a convolution, batch norm and ReLU."""
    return [nn.Conv2d(into, channels, kernel, padding=padding), nn.BatchNorm2d(channels), nn.ReLU()]


def scaled(channels: int, width: float) -> int:
    """Scale a number of channels or units; the result is at least 1."""
    return max(1, round(channels * width))
