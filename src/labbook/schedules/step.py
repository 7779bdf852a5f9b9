"""The learning rate drops by a factor at the start of chosen epochs."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from labbook.core.parts import PartSettings

__all__ = ["Settings", "build"]


class Settings(PartSettings):
    """Keys of a `schedule` block named `step`."""

    name: Literal["step"]
    at_epochs: list[Annotated[int, Field(gt=1)]] = Field(min_length=1, description="epochs count from 1")
    factor: float = Field(gt=0, lt=1)


def build(settings: Settings) -> Callable[[int], float]:
    """Give the factor in an epoch: one `factor` for each drop that lies behind."""
    drops = sorted(settings.at_epochs)
    return lambda epoch: settings.factor ** sum(drop <= epoch for drop in drops)
