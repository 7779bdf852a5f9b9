"""One file an architecture family: `Settings`, its keys in `params.yaml`, and `build`.

`build(settings, image_shape, classes)` gives a `torch.nn.Module` that maps images (N, C, H, W) to logits (N, classes).
Every activation and pool is a module instance of its own, never in place: attribution methods hook them.
"""

from torch import nn

__all__ = ["conv_norm_relu", "scaled"]


def conv_norm_relu(into: int, channels: int, kernel: int = 3, padding: int = 1) -> list[nn.Module]:
    """Give a convolution to so many channels, batch norm and ReLU."""
    return [nn.Conv2d(into, channels, kernel, padding=padding), nn.BatchNorm2d(channels), nn.ReLU()]


def scaled(channels: int, width: float) -> int:
    """Scale a number of channels or units, and leave at least one."""
    return max(1, round(channels * width))
