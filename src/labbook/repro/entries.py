"""Entries of dvc.lock, written together: DVC reads and writes the whole file, thousands of lines, for each of them."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.dvcfile import ProjectFile
from dvc.stage import PipelineStage, Stage
from dvc.utils.serialize import modify_yaml

__all__ = ["LateEntries", "modify_whole"]


SECONDS = 30  # at least, from one time of writing to the next


class LateEntries:
    """What stages that ran have to say in lock files, written when a stage ends, or none does for long.

    A process that is killed loses the entries of its last minute: what those stages made comes back from DVC's run cache, or
    is made again.
    """

    def __init__(self, write_now: Callable[..., None]) -> None:
        self._write_now = write_now  # DVC's, of a project file and its stages
        self._written = time.monotonic()
        self._waiting: dict[str, tuple[ProjectFile, dict[str, PipelineStage]]] = {}
        self._known: dict[str, set[str]] = {}  # names that stood in the lock file of a project file before

    def add(self, file: ProjectFile, stages: Iterable[PipelineStage], **options: Any) -> None:
        """Keep the entries of stages for later; `options` other than those of `dvc repro` are written at once."""
        if options != {"update_pipeline": False, "update_lock": True}:
            self._write_now(file, stages, **options)
            return
        _, waiting = self._waiting.setdefault(file.path, (file, {}))
        waiting.update((stage.name, stage) for stage in stages)
        if time.monotonic() > self._written + SECONDS:
            self.write()

    def write(self) -> None:
        """Write what waits. The caller holds DVC's lock on the repository."""
        for path, (file, stages) in self._waiting.items():
            if path not in self._known:
                self._known[path] = set(file.lockfile_contents.get("stages", {}))
            self._write_now(file, list(stages.values()), update_pipeline=False)
        self._waiting.clear()
        self._written = time.monotonic()

    def sort(self, steps: Iterable[Stage]) -> None:
        """Let entries that were added stand in the order of `steps`, as a sequential run adds them."""
        added: dict[str, list[PipelineStage]] = {}
        for stage in steps:
            if isinstance(stage, PipelineStage) and stage.name not in self._known.get(stage.path, {stage.name}):
                added.setdefault(stage.path, []).append(stage)
        for stages in added.values():
            with modify_whole(stages[0].dvcfile._lockfile.path) as data:
                entries = data["stages"]
                entries.update({stage.name: entries.pop(stage.name) for stage in stages if stage.name in entries})


@contextmanager
def modify_whole(path: str, fs: Any = None) -> Iterator[dict[str, Any]]:
    """Change a YAML file as DVC's `modify_yaml` does, but aside: whoever is killed meanwhile leaves the file as it was."""
    new = f"{path}.new"
    if Path(path).exists():
        shutil.copy(path, new)
    with modify_yaml(new, fs=fs) as data:
        yield data
    Path(new).replace(path)
