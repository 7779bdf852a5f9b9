"""Entries of dvc.lock, written together: DVC reads and writes the whole file, 9,500 lines, for each of them."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from dvc.dvcfile import ProjectFile
from dvc.stage import PipelineStage
from dvc.utils.serialize import modify_yaml

__all__ = ["LateEntries", "sort_entries"]


class LateEntries:
    """What stages that ran have to say in lock files, written once `seconds` have passed since the last time.

    A process that is killed loses the entries of its last seconds: what those stages made comes back from DVC's run cache, or
    is made again.
    """

    def __init__(self, write_now: Callable[..., None], seconds: float = 30) -> None:
        self._write_now = write_now  # DVC's, of a project file and its stages
        self._seconds = seconds
        self._written = time.monotonic()
        self._waiting: dict[str, tuple[ProjectFile, dict[str, PipelineStage]]] = {}

    def add(self, file: ProjectFile, stages: Iterable[PipelineStage], **options: Any) -> None:
        """Keep the entries of stages for later; `options` other than those of `dvc repro` are written at once."""
        if options != {"update_pipeline": False, "update_lock": True}:
            self._write_now(file, stages, **options)
            return
        _, waiting = self._waiting.setdefault(file.path, (file, {}))
        waiting.update((stage.name, stage) for stage in stages)
        if time.monotonic() > self._written + self._seconds:
            self.write()

    def write(self) -> None:
        """Write what waits. The caller holds DVC's lock on the repository."""
        for file, stages in self._waiting.values():
            self._write_now(file, list(stages.values()), update_pipeline=False)
        self._waiting.clear()
        self._written = time.monotonic()


def sort_entries(stages: Iterable[PipelineStage]) -> None:
    """Move the entries of `stages` to the end of their lock files, in the order given."""
    names: dict[str, list[str]] = {}
    for stage in stages:
        names.setdefault(stage.dvcfile._lockfile.path, []).append(stage.name)
    for path, moved in names.items():
        with modify_yaml(path) as data:
            entries = data["stages"]
            entries.update({name: entries.pop(name) for name in moved if name in entries})
