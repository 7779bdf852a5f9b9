"""How many processes a stage starts: a training of several takes the room of as many jobs, docs/processes.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.stage import Stage

from labbook.core.errors import LabbookError
from labbook.core.reading import PARAMS, pick, read, validate
from labbook.core.settings import TrainSettings

__all__ = ["count_processes"]


def count_processes(stages: Sequence[Stage]) -> dict[Stage, int]:
    """Read from params.yaml how many processes each stage of a repository trains with; 1 if it trains nothing.

    What cannot be read counts as 1: the check stage tells what is wrong.
    """
    try:
        values = read(Path(stages[0].repo.root_dir, PARAMS))
        source = pick(values, "data.source")
    except LabbookError:
        return dict.fromkeys(stages, 1)
    return {stage: max((_processes(values, key, source) for key in _keys(stage)), default=1) for stage in stages}


def _keys(stage: Stage) -> list[str]:
    """Name the settings on which a stage depends."""
    return [key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params]


def _processes(values: dict[str, Any], key: str, source: str) -> int:
    try:
        return validate(pick(values, key), TrainSettings, key).on(source).processes
    except LabbookError:  # no training
        return 1
