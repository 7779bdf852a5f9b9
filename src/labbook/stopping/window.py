"""Stop when the first of the last validations has the lowest loss of them: none since has been better (assignment D)."""

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from labbook.core.parts import PartSettings

__all__ = ["Settings", "build"]


class Settings(PartSettings):
    """Keys of a `stopping` block named `window`."""

    name: Literal["window"]
    validations: int = Field(gt=1, description="the last so many, the first of which is compared with the others")


def build(settings: Settings) -> Callable[[Sequence[float]], bool]:
    """Give the rule on the validation losses so far, oldest first."""
    count = settings.validations
    return lambda losses: len(losses) >= count and losses[-count] == min(losses[-count:])
