"""A sweep: one experiment trained again with one key of its training block set to equally spaced values."""

import copy
from typing import Any

from pydantic import Field

from labbook.params.reading import pick, read, validate
from labbook.params.training import Assignment, Name, Runtime, Strict, TrainSettings, read_runtime

__all__ = ["Sweep", "read_sweep", "varied"]


class Sweep(Strict):
    """One block under `sweeps`."""

    assignment: Assignment
    title: str
    base: Name = Field(description="the experiment")
    parameter: str = Field(description="dotted key inside its training block, such as model.dropout")
    first: float
    last: float
    count: int = Field(ge=2, le=100)
    epochs: int = Field(gt=0)
    embedded_epochs: int | None = Field(None, gt=0)

    def values(self) -> list[float]:
        """Space `count` values equally from `first` to `last`, both included."""
        step = (self.last - self.first) / (self.count - 1)
        return [self.first + index * step for index in range(self.count - 1)] + [self.last]


def read_sweep(name: str) -> tuple[Sweep, list[tuple[float, TrainSettings]], Runtime]:
    """Read a sweep: its block, the training settings of each value, and what holds for every run.

    Raises:
        ParamsError: the sweep or its base is not there, or a key is wrong.
    """
    values = read()
    sweep = validate(pick(values, f"sweeps.{name}"), Sweep, f"sweeps.{name}")
    base = pick(values, f"experiments.{sweep.base}.train")
    return sweep, [(value, varied(base, sweep, value, name)) for value in sweep.values()], read_runtime(values)


def varied(base: dict[str, Any], sweep: Sweep, value: float, name: str) -> TrainSettings:
    """Give the base's training settings with the swept key set to `value`, for the sweep's number of epochs.

    Raises:
        ParamsError: the base has no such key, or the value is not one it takes.
    """
    pick(base, sweep.parameter)
    block = copy.deepcopy(base) | {"epochs": sweep.epochs, "embedded_epochs": sweep.embedded_epochs}
    parent, _, last = sweep.parameter.rpartition(".")
    (pick(block, parent) if parent else block)[last] = value
    return validate(block, TrainSettings, f"sweeps.{name}, experiments.{sweep.base}.train")
