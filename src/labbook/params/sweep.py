"""A sweep: an experiment run again with one of its figures set to equally spaced values."""

import copy
from typing import Any

from pydantic import Field

from labbook.core.errors import ParamsError
from labbook.core.reading import pick, read, validate
from labbook.core.settings import Assignment, Name, Runtime, Strict, TrainSettings, read_runtime

__all__ = ["Sweep", "Vary", "read_sweep", "variants"]


class Vary(Strict):
    """Which key takes which values."""

    key: str = Field(min_length=1, description="of a float, dotted, inside the training block, such as model.dropout")
    first: float
    last: float
    count: int = Field(ge=2, le=100)

    def values(self) -> list[float]:
        """Space `count` values equally from `first` to `last`, both included."""
        step = (self.last - self.first) / (self.count - 1)
        return [self.first + index * step for index in range(self.count - 1)] + [self.last]


class Sweep(Strict):
    """One block under `sweeps`."""

    assignment: Assignment
    title: str
    experiment: Name = Field(description="whose settings these are, but for the varied key and how long it trains")
    vary: Vary
    train: TrainSettings


def read_sweep(name: str) -> tuple[list[tuple[float, TrainSettings]], Runtime]:
    """Read a sweep: each value with its training settings, and what holds for every run.

    Raises:
        ParamsError: the sweep is not there, or a key is wrong.
    """
    values = read()
    block = pick(values, f"sweeps.{name}")
    sweep = validate(block, Sweep, f"sweeps.{name}")
    return variants(block["train"], sweep.vary, f"sweeps.{name}"), read_runtime(values)


def variants(train: dict[str, Any], vary: Vary, key: str) -> list[tuple[float, TrainSettings]]:
    """Give the training settings for each value.

    Args:
        train: the block as it stands in `params.yaml`.
        vary: what to set.
        key: of the sweep, for messages.

    Raises:
        ParamsError: the block has no such key, or it does not take the value.
    """
    pick(train, vary.key, f"{key}.train")
    if _stands(vary.key, train.get("embedded")):
        raise ParamsError(f"{key}.train.embedded.{vary.key}: is what the sweep varies. Leave it out.")
    settings = []
    for value in vary.values():
        block = copy.deepcopy(train)
        parent, _, last = vary.key.rpartition(".")
        (pick(block, parent) if parent else block)[last] = value
        settings.append((value, validate(block, TrainSettings, f"{key}.train")))
    return settings


def _stands(key: str, block: Any) -> bool:
    """Tell whether a dotted key stands in a block."""
    for step in key.split("."):
        if not isinstance(block, dict) or step not in block:
            return False
        block = block[step]
    return True
