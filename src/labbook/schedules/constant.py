"""The same learning rate from beginning to end."""

from collections.abc import Callable
from typing import Literal

from labbook.core.parts import PartSettings

__all__ = ["Settings", "build"]


class Settings(PartSettings):
    """Keys of a `schedule` block named `constant`."""

    name: Literal["constant"]


def build(settings: Settings) -> Callable[[int], float]:
    """Give the factor in an epoch: always 1."""
    return lambda epoch: 1.0
