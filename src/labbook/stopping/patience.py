"""Stop when the validation loss has not fallen below its minimum for so many validations in a row."""

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from labbook.core.parts import PartSettings

__all__ = ["Settings", "build"]


class Settings(PartSettings):
    """Keys of a `stopping` block named `patience`."""

    name: Literal["patience"]
    validations: int = Field(gt=0, description="without a new minimum")


def build(settings: Settings) -> Callable[[Sequence[float]], bool]:
    """Give the rule on the validation losses so far, oldest first."""
    return lambda losses: (
        len(losses) > settings.validations and min(losses[-settings.validations :]) >= min(losses[: -settings.validations])
    )
