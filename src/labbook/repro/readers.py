"""Several threads may read one file: DVC's lock of files counts processes."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import dvc.rwlock

__all__ = ["count_readers", "forget_broken_lock"]


def count_readers() -> None:
    """Let the last of our stages that read a file release it, not the first."""
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


def forget_broken_lock(folder: str) -> None:
    """Remove what a process that was killed in the middle of a write left of DVC's lock of files, as no run could read it.

    The caller holds DVC's lock on the repository, without which nobody writes the file.
    """
    path = Path(folder) / "rwlock"
    if path.is_file():
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink()
