"""Push and pull everything to which `dvc.lock` and the run cache refer, hashed before a push and after a pull.

`dvc push --run-cache` pushes the run cache without the objects of earlier runs, treats truncated objects and directories with
missing files on the remote as complete, and pushes damaged objects.
"""

import logging
from collections.abc import Iterable

from dvc.exceptions import DvcException
from dvc.logger import set_loggers_level
from dvc.repo import Repo, lock_repo

from labbook.errors import LabbookError
from labbook.team.store import files_of, open_cache, open_remote, parse_entry, referenced_objects, translate_errors

__all__ = ["pull", "push"]

DOCTOR = "Run `labbook doctor --repair` to restore it from an intact copy."
ASIDE = "`labbook doctor --repair` sets them aside; then pull again"
SHOWN = 10  # maximum number of problems in a message


def push(repo: Repo, name: str | None) -> str:
    """Push objects and run cache to a remote, and return a summary.

    Truncated objects of an interrupted push are pushed again. Directories follow their files, and run-cache entries follow
    their outputs, so that the remote is consistent at any time.

    Raises:
        LabbookError: an object is damaged or could not be pushed; the others were pushed.
    """
    cache, remote = open_cache(repo), open_remote(repo, name)
    with translate_errors(remote.name), lock_repo(repo):
        runs = cache.read_entries(cache.entries())
        entries = {name: entry for name, data in runs.items() if (entry := parse_entry(name, data))}
        makers = referenced_objects(repo, entries.values(), cache)
        here, there = cache.sizes(), remote.sizes()
        missing = [oid for oid in makers if oid in here and there.get(oid) != here[oid]]
        damaged = cache.damaged(missing)
        problems = [f"{oid} of {makers[oid]}: damaged in the cache, not pushed. {DOCTOR}" for oid in sorted(damaged)]
        whole = set(there) - set(missing)
        for oids in ([oid for oid in missing if not oid.endswith(".dir")], [oid for oid in missing if oid.endswith(".dir")]):
            # DVC would treat a directory on the remote without one of its files as complete.
            group = [oid for oid in oids if oid not in damaged and files_of(oid, cache) <= whole]
            failed = remote.put(cache.files, {oid: cache.objects.oid_to_path(oid) for oid in group})
            problems += [f"{oid} of {makers[oid]}: not pushed: {_reason(error)}" for oid, error in failed.items()]
            whole |= set(group) - failed.keys()
        known = remote.entries()
        new = {
            name: runs[name]
            for name, entry in entries.items()
            if known.get(name) != len(runs[name]) and all(out.get("md5") in whole for out in entry.get("outs", ()))
        }
        failed = remote.put_entries(new)
        problems += [f"{name} of the run cache: not pushed: {_reason(error)}" for name, error in failed.items()]
    sent = len(whole.intersection(missing))
    _raise(problems, f"{remote.name}: {sent} objects were pushed. Push again for the rest.")
    return f"{remote.name}: {sent} objects and {len(new)} runs pushed{_lost(oid for oid in makers if oid not in whole)}"


def pull(repo: Repo, name: str | None) -> str:
    """Fetch the run cache and the objects of `dvc.lock`, check them out, and return a summary.

    Objects of other runs are fetched when a stage needs them, by `labbook repro --pull`.

    Raises:
        LabbookError: an object is damaged or could not be fetched; the others were fetched.
    """
    cache, remote = open_cache(repo), open_remote(repo, name)
    with translate_errors(remote.name), lock_repo(repo):
        repo.config["remote"][remote.label]["verify"] = True  # hash downloads, regardless of the configuration
        here = cache.sizes()
        makers = referenced_objects(repo, (), cache, remote)
        problems = [
            f"{oid} of {makers[oid]}: damaged in the cache, not checked out. {DOCTOR}"
            for oid in sorted(cache.damaged(oid for oid in makers if oid in here))
        ]
        _raise(problems, "Nothing was pulled.")
        try:
            with set_loggers_level(logging.ERROR):  # it warns about each missing object; we count them
                repo.fetch(remote=remote.label)
        except (DvcException, OSError) as error:
            problems += [_reason(error)]
        there, now = remote.sizes(), cache.sizes()
        problems += [
            f"{oid} of {makers[oid]}: not fetched, or damaged in transit" for oid in makers if oid in there and oid not in now
        ]
        runs = remote.read_entries(remote.entries().keys() - cache.entries().keys())
        good = {name: data for name, data in runs.items() if parse_entry(name, data)}
        problems += [
            f"{name} of the run cache: damaged on the remote, not fetched" for name in sorted(runs.keys() - good.keys())
        ]
        problems += [f"{name} of the run cache: not fetched: {_reason(e)}" for name, e in cache.put_entries(good).items()]
        _raise(problems, f"Pull again. `labbook doctor --remote {remote.label}` checks all objects on the remote.")
        try:
            with set_loggers_level(logging.ERROR):
                repo.checkout(allow_missing=True)
        except (DvcException, OSError) as error:
            reason = _reason(error).replace("Use `--force` to force.", f"`dvc commit` keeps them, {ASIDE}:")
            raise LabbookError(f"all objects were fetched, but not all checked out: {reason}") from error
    came = len(now.keys() - here.keys())
    return f"{remote.name}: {came} objects and {len(good)} runs fetched{_lost(oid for oid in makers if oid not in now)}"


def _lost(oids: Iterable[str]) -> str:
    count = len(list(oids))
    return (
        f"; {count} objects are neither in the cache nor on the remote; `dvc repro` produces those that it needs"
        if count
        else ""
    )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _raise(problems: list[str], ending: str) -> None:
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise LabbookError("\n".join([*problems[:SHOWN], *more, ending]))
