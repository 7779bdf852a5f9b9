"""The seeds from which an experiment is trained again: a block under `seeds:` in `params.yaml`."""

from typing import Annotated

from pydantic import Field, field_validator

from labbook.core.reading import pick, read, validate
from labbook.core.settings import Name, Runtime, Strict, TrainSettings, read_training

__all__ = ["Seeded", "read_seeds"]

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Seeded(Strict):
    """One experiment's block. DVC needs the parts here too, as stages depend on their files; they are checked."""

    dataset: Name
    pretrained: Name
    backend: Name
    model: Name
    loss: Name
    optimizer: Name
    schedule: Name
    augmentation: Name
    stopping: Name
    seeds: list[Seed] = Field(min_length=2, max_length=100, description="of weights, order and dropout; the data stay the same")

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands there twice, and would be trained and counted twice")
        return seeds


def read_seeds(name: str) -> tuple[TrainSettings, list[Runtime]]:
    """Read an experiment's training settings, and what holds for the run of each seed.

    Raises:
        ParamsError: the block is not there, or a key is wrong.
    """
    seeded = validate(pick(read(), f"seeds.{name}"), Seeded, f"seeds.{name}")
    settings, runtime = read_training(f"experiments.{name}")
    return settings, [runtime.model_copy(update={"seed": seed}) for seed in seeded.seeds]
