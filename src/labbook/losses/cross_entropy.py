"""Softmax cross-entropy in nats, averaged over samples, or over pixels where every pixel has a label."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional

from labbook.core.parts import PartSettings

__all__ = ["Settings", "build"]


class Settings(PartSettings):
    """Keys of a `loss` block named `cross_entropy`."""

    name: Literal["cross_entropy"]


def build(settings: Settings) -> Callable[[Tensor, Tensor], Tensor]:
    """Give the loss of logits (N, classes, ...) and labels (N, ...)."""
    return _cross_entropy


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    if labels.ndim > 1:  # a row a pixel: the loss of maps has no deterministic kernel on CUDA
        logits, labels = logits.movedim(1, -1).flatten(0, -2), labels.flatten()
    return functional.cross_entropy(logits, labels)
