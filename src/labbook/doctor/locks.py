"""Check for stale locks and files left by killed runs.

DVC's file lock (`.dvc/tmp/rwlock`) identifies processes by PID. DVC drops the entry of a dead process, but not if another
program has reused its PID, and a truncated lock file stops every run. With `core.hardlink_lock`, the repository lock of a
killed process stays for a year. https://dvc.org/doc/user-guide/troubleshooting#lock-issue
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

__all__ = ["check_leftovers", "check_locks", "running_processes"]

MAX_AGE = 24 * 3600  # seconds after which a temporary file is considered abandoned


def check_locks(repo: Repo) -> Iterator[Finding]:
    """Check for locks that no process holds."""
    path = Path(repo.tmp_dir) / RWLOCK_FILE
    holders = _read_holders(path)
    if holders is None:
        yield Finding(f"{path}: truncated; it stops every run", "--repair removes it.", lambda: _remove(path))
    elif stale := sorted({info["pid"] for info in holders if not _is_dvc(info["pid"])}):
        yield Finding(
            f"{path}: held by processes other than DVC: {', '.join(map(str, stale))}",
            "--repair removes the entries.",
            lambda: _remove_entries(path, set(stale)),
            is_problem=any(map(psutil.pid_exists, stale)),  # DVC drops entries of dead processes itself
        )
    for name in ("lock", "rwlock.lock") if repo.config["core"].get("hardlink_lock") else ():
        if (Path(repo.tmp_dir) / name).exists():
            message = "a DVC run is in progress or was killed (core.hardlink_lock does not record which)"
            yield Finding(message, f"If DVC runs on no machine, remove {Path(repo.tmp_dir) / name}.")


def running_processes(repo: Repo) -> set[int]:
    """Return the PIDs of DVC processes that run stages of this repository."""
    return {info["pid"] for info in _read_holders(Path(repo.tmp_dir) / RWLOCK_FILE) or () if _is_dvc(info["pid"])}


def check_leftovers(folder: Path, temporary: list[str]) -> Iterator[Finding]:
    """Report unfinished trainings in `folder`, and abandoned temporary files in the cache."""
    trainings = sorted(path.parent.name for path in folder.glob(".checkpoints/*/*.pt"))
    if trainings:
        yield Finding(f"unfinished trainings: {', '.join(trainings)}", "The next run resumes them.", is_problem=False)
    incomplete = [path for path in map(Path, temporary) if _is_old(path)]
    if incomplete:
        size = sum(path.stat().st_size for path in incomplete) / 1e6
        yield Finding(
            f"{len(incomplete)} incomplete files ({size:.1f} MB) of interrupted copies in the cache, such as {incomplete[0]}",
            "--repair removes them.",
            lambda: "; ".join(_remove(path) for path in incomplete),
            is_problem=False,
        )


def _read_holders(path: Path) -> list[dict[str, Any]] | None:
    """Return the holders of file locks; `None` if the lock file cannot be parsed."""
    try:
        locks = json.loads(path.read_text(encoding="utf-8"))
        readers = [info for infos in locks.get("read", {}).values() for info in infos]
        return [*readers, *locks.get("write", {}).values()]
    except FileNotFoundError:
        return []
    except (ValueError, AttributeError):
        return None


def _is_dvc(pid: int) -> bool:
    """Return whether a process exists and is DVC or labbook, not another program with the same PID."""
    try:
        line = " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True  # it belongs to another user: leave it alone
    return "dvc" in line or "labbook" in line


def _remove_entries(path: Path, stale: set[int]) -> str:
    locks = json.loads(path.read_text(encoding="utf-8"))
    read = {name: [info for info in infos if info["pid"] not in stale] for name, infos in locks.get("read", {}).items()}
    remaining = {
        "write": {name: info for name, info in locks.get("write", {}).items() if info["pid"] not in stale},
        "read": {name: infos for name, infos in read.items() if infos},
    }
    path.write_text(json.dumps(remaining), encoding="utf-8")
    return f"{path}: removed the entries of {', '.join(map(str, sorted(stale)))}"


def _remove(path: Path) -> str:
    path.unlink(missing_ok=True)
    return f"removed {path}"


def _is_old(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > MAX_AGE
    return False
