"""Locks whose holder is gone, and what killed runs left behind.

DVC's lock of files (`.dvc/tmp/rwlock`) names processes by their number. DVC forgets a dead one, but not one whose number
another program has now, and a file cut off in the middle stops every run. With `core.hardlink_lock` the lock on the repository
stays for a year when its holder is killed. https://dvc.org/doc/user-guide/troubleshooting#lock-issue
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE

from labbook.doctor.finding import Finding

__all__ = ["at_work", "find_leftovers", "find_locks"]

OLD = 24 * 3600  # seconds after which nobody writes a temporary file any more


def find_locks(repo: Repo) -> Iterator[Finding]:
    """Tell of locks that nobody holds."""
    path = Path(repo.tmp_dir) / RWLOCK_FILE
    held = _held(path)
    if held is None:
        yield Finding(f"{path}: cut off in the middle, every run stops at it", "--mend removes it.", lambda: _remove(path))
    elif gone := sorted({info["pid"] for info in held if not _is_dvc(info["pid"])}):
        yield Finding(
            f"{path}: held by {', '.join(map(str, gone))}, no process of DVC",
            "--mend forgets them.",
            lambda: _forget(path, set(gone)),
            wrong=any(map(psutil.pid_exists, gone)),  # DVC forgets the others itself
        )
    for name in ("lock", "rwlock.lock") if repo.config["core"].get("hardlink_lock") else ():
        if (Path(repo.tmp_dir) / name).exists():
            told = "a run of DVC is at work here, or was killed (core.hardlink_lock does not say which)"
            yield Finding(told, f"When none runs on any machine, remove {Path(repo.tmp_dir) / name}.")


def at_work(repo: Repo) -> set[int]:
    """Give the processes of DVC that run stages here."""
    return {info["pid"] for info in _held(Path(repo.tmp_dir) / RWLOCK_FILE) or () if _is_dvc(info["pid"])}


def find_leftovers(folder: Path, temporary: list[str]) -> Iterator[Finding]:
    """Tell of what killed runs left in `folder` and in its cache: trainings to go on with, and half files."""
    trainings = sorted(path.parent.name for path in folder.glob(".checkpoints/*/*.pt"))
    if trainings:
        yield Finding(f"unfinished: {', '.join(trainings)}", "The next run goes on where each was.", wrong=False)
    halves = [path for path in map(Path, temporary) if _is_old(path)]
    if halves:
        size = sum(path.stat().st_size for path in halves) / 1e6
        yield Finding(
            f"{len(halves)} half-written files ({size:.1f} MB) in the cache, of copies that were killed, such as {halves[0]}",
            "--mend removes them.",
            lambda: "; ".join(_remove(path) for path in halves),
            wrong=False,
        )


def _held(path: Path) -> list[dict[str, Any]] | None:
    """Read who holds files; `None` when that cannot be read."""
    try:
        locks = json.loads(path.read_text(encoding="utf-8"))
        readers = [info for infos in locks.get("read", {}).values() for info in infos]
        return [*readers, *locks.get("write", {}).values()]
    except FileNotFoundError:
        return []
    except (ValueError, AttributeError):
        return None


def _is_dvc(number: int) -> bool:
    """Say whether a process is there and is DVC or ours, not another that has got its number."""
    try:
        line = " ".join(psutil.Process(number).cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True  # somebody else's: let it be
    return "dvc" in line or "labbook" in line


def _forget(path: Path, gone: set[int]) -> str:
    locks = json.loads(path.read_text(encoding="utf-8"))
    read = {name: [info for info in infos if info["pid"] not in gone] for name, infos in locks.get("read", {}).items()}
    kept = {
        "write": {name: info for name, info in locks.get("write", {}).items() if info["pid"] not in gone},
        "read": {name: infos for name, infos in read.items() if infos},
    }
    path.write_text(json.dumps(kept), encoding="utf-8")
    return f"{path}: forgot {', '.join(map(str, sorted(gone)))}"


def _remove(path: Path) -> str:
    path.unlink(missing_ok=True)
    return f"{path} is removed"


def _is_old(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > OLD
    return False
