"""No augmentation: pixels scaled to [0, 1]."""

from typing import Literal

import torch
from torch import Tensor

from labbook.core.parts import PartSettings

__all__ = ["Scaled", "Settings", "build"]


class Settings(PartSettings):
    """Keys of an `augmentation` block named `none`."""

    name: Literal["none"]


class Scaled:
    """Bytes in [0, 255] become float32 in [0, 1]."""

    random = None

    def fixed(self, images: Tensor) -> Tensor:
        """Scale bytes (N, C, H, W)."""
        return images.to(torch.float32) / 255


def build(settings: Settings) -> Scaled:
    """Give the transform."""
    return Scaled()
