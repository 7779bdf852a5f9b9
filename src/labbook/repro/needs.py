"""Resource requirements of a stage, from the settings of its experiment."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.stage import Stage

from labbook.config.reading import PARAMS, look_up, read, validate
from labbook.config.sweep import Sweep, variants
from labbook.config.train import TrainSettings, resolve
from labbook.errors import LabbookError

__all__ = ["Needs", "read_needs"]

TRAINERS = {
    "train": "experiments",
    "pretrain": "pretrained",
    "sweep": "sweeps",
}  # and the group of params.yaml that has their settings
READERS = ("evaluate", "explain")  # use the threads of the experiment


@dataclass(frozen=True)
class Needs:
    """Resource requirements of one stage.

    Attributes:
        processes: number of processes that train one model together.
        threads: per process.
        trainings: number of independent trainings, which may use all free cores.
    """

    processes: int = 1
    threads: int = 1
    trainings: int = 1

    @property
    def cores(self) -> int:
        """Return the number of cores that one training uses."""
        return self.processes * self.threads


def read_needs(stages: Sequence[Stage]) -> dict[Stage, Needs]:
    """Read the requirements of each stage from `params.yaml`.

    A stage whose settings are invalid gets the defaults; it reports the error when it runs.
    """
    try:
        values = read(Path(stages[0].repo.root_dir, PARAMS)) if stages else {}
        source = look_up(values, "data.source")
    except LabbookError:
        return {stage: Needs() for stage in stages}
    return {stage: _needs(stage, values, source) for stage in stages}


def _needs(stage: Stage, values: dict[str, Any], source: str) -> Needs:
    kind, _, name = stage.addressing.partition("@")
    try:
        for key in (f"{TRAINERS[kind]}.{name}",) if kind in TRAINERS else _keys(stage):
            match key.removesuffix(".train").split("."):
                case ["experiments" | "pretrained", _]:
                    return _of_training(resolve(values, key.removesuffix(".train"), source).settings)
                case ["sweeps", sweep]:
                    return _of_sweep(values, sweep, source)
        if kind in READERS:
            return Needs(threads=resolve(values, f"experiments.{name}", source).settings.threads)
    except LabbookError:
        return Needs()
    return Needs()


def _keys(stage: Stage) -> list[str]:
    """Return the keys that a stage lists under `params`."""
    return [key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params]


def _of_training(settings: TrainSettings) -> Needs:
    together = settings.world_size > 1  # then the seeds train one after another
    return Needs(settings.world_size, settings.threads, 1 if together else settings.seeds)


def _of_sweep(values: dict[str, Any], name: str, source: str) -> Needs:
    sweep = validate(look_up(values, f"sweeps.{name}"), Sweep, f"sweeps.{name}")
    settings = [settings for _, settings in variants(values, name, sweep, source)]
    return Needs(settings[0].world_size, settings[0].threads, len(settings))
