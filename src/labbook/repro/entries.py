"""Write entries of dvc.lock in batches: DVC reads and writes the whole file, thousands of lines, for each entry."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from dvc.dvcfile import ProjectFile
from dvc.stage import PipelineStage, Stage
from dvc.utils import relpath
from dvc.utils.serialize import modify_yaml

from labbook.io import write_json

__all__ = ["DeferredEntries", "modify_atomically"]


SECONDS = 30  # minimum interval between writes
SHARE = 0.1  # maximum fraction of time spent on writing: long files are written less often


class DeferredEntries:
    """Entries of lock files that are not written yet. They are written when a stage ends, or when none has ended for a while.

    A process that is killed loses the entries of its last minute or few minutes; their stages are restored from DVC's run
    cache or run again.
    """

    def __init__(self, write_now: Callable[..., None]) -> None:
        self._write_now = write_now  # DVC's function, called with a project file and its stages
        self._next = time.monotonic() + SECONDS
        self._waiting: dict[str, tuple[ProjectFile, dict[str, PipelineStage]]] = {}
        self._settled: dict[str, set[str]] = {}  # by project file: entries of its lock file that keep their position

    def add(self, file: ProjectFile, stages: Iterable[PipelineStage], **options: Any) -> None:
        """Defer the entries of stages; with other `options` than those of `dvc repro`, write them immediately."""
        if options != {"update_pipeline": False, "update_lock": True}:
            self._write_now(file, stages, **options)
            return
        _, waiting = self._waiting.setdefault(file.path, (file, {}))
        waiting.update((stage.name, stage) for stage in stages)
        if time.monotonic() > self._next:
            self.write()

    def write(self) -> None:
        """Write the deferred entries. The caller holds DVC's lock on the repository."""
        started = time.monotonic()
        for file, stages in self._waiting.values():
            if new := stages.keys() - self._settled_in(file):
                _note(file, new)
            self._write_now(file, list(stages.values()), update_pipeline=False)
        self._waiting.clear()
        ended = time.monotonic()
        self._next = ended + max(SECONDS, (ended - started) / SHARE)

    def settle(self, steps: Iterable[Stage], *, ended_well: bool) -> None:
        """Sort the added entries in the order of `steps`, as a sequential run adds them.

        Entries that an unfinished run added are sorted with them.
        """
        names: dict[str, list[str]] = {}
        files: dict[str, ProjectFile] = {}
        for stage in steps:
            if isinstance(stage, PipelineStage):
                names.setdefault(stage.path, []).append(stage.name)
                files.setdefault(stage.path, stage.dvcfile)
        for path, file in files.items():
            noted = _noted(file)
            if not noted or not Path(file._lockfile.path).exists():
                continue
            settled = self._settled_in(file)
            with modify_atomically(file._lockfile.path) as data:
                entries = data["stages"]
                entries.update({name: entries.pop(name) for name in names[path] if name in entries and name not in settled})
            if ended_well and noted.issubset(names[path]):
                _forget(file)

    def _settled_in(self, file: ProjectFile) -> set[str]:
        if file.path not in self._settled:
            there = list(file.lockfile_contents.get("stages", {}))
            self._settled[file.path] = set(there) - set(takewhile(_noted(file).__contains__, reversed(there)))
        return self._settled[file.path]


def _note(file: ProjectFile, names: Iterable[str]) -> None:
    """Record which entries are new before writing them, because the run may be killed before they are sorted."""
    write_json(_note_of(file), sorted(_noted(file).union(names)))


def _noted(file: ProjectFile) -> set[str]:
    path = _note_of(file)
    return set(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else set()


def _forget(file: ProjectFile) -> None:
    _note_of(file).unlink()


def _note_of(file: ProjectFile) -> Path:
    return Path(file.repo.tmp_dir) / "unsettled" / f"{relpath(file.path, file.repo.root_dir).replace(os.sep, '-')}.json"


@contextmanager
def modify_atomically(path: str, fs: Any = None) -> Iterator[dict[str, Any]]:
    """Change a YAML file as DVC's `modify_yaml` does, but atomically."""
    new = f"{path}.new"
    if Path(path).exists():
        shutil.copy(path, new)
    with modify_yaml(new, fs=fs) as data:
        yield data
    Path(new).replace(path)
