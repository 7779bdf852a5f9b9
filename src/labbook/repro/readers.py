"""Make DVC's file lock safe for several reading threads; it counts processes only."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import dvc.rwlock

__all__ = ["count_readers", "remove_broken_lock"]


def count_readers() -> None:
    """Patch DVC in this process so that the last stage that reads a file releases it, not the first."""
    usual_acquire, usual_release = dvc.rwlock._acquire_read, dvc.rwlock._release_read
    readers: Counter[str] = Counter()

    def acquire(lock: Any, info: Any, paths: list[str]) -> list[str]:
        usual_acquire(lock, info, paths)
        readers.update(paths)
        return paths

    def release(lock: Any, info: Any, paths: list[str]) -> None:
        if info["pid"] == os.getpid():
            readers.subtract(paths)
            paths = [path for path in dict.fromkeys(paths) if not readers[path]]
        usual_release(lock, info, paths)

    dvc.rwlock._acquire_read, dvc.rwlock._release_read = acquire, release


def remove_broken_lock(folder: str) -> None:
    """Remove DVC's file lock if it is truncated because a process was killed while writing it; no run could read it.

    The caller holds DVC's lock on the repository, so no other process writes the file.
    """
    path = Path(folder) / "rwlock"
    if path.is_file():
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink()
