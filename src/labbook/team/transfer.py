"""Push and pull: all that `dvc.lock` and the run-cache speak of, hashed before it is sent and after it has come.

`dvc push --run-cache` sends the run-cache, but not the objects of its earlier runs; it takes an object that is there with
half its bytes, or a directory of which one file is missing, for whole; and it sends a damaged object as it is.
"""

import logging
from collections.abc import Iterable

from dvc.exceptions import DvcException
from dvc.logger import set_loggers_level
from dvc.repo import Repo, lock_repo

from labbook.errors import LabbookError
from labbook.team.store import cache_of, listed, needed, parse, remote_of, speaking_to

__all__ = ["pull", "push"]

DOCTOR = "`python -m labbook.doctor --mend` looks for a good copy."
ASIDE = "`python -m labbook.doctor --mend` sets them aside; then pull again"
SHOWN = 10  # problems


def push(repo: Repo, name: str | None) -> str:
    """Send objects and run-cache to a remote, and say what was sent.

    What an interrupted push left out is sent again. A directory follows its files and a run its outputs, so that what is
    there is whole at any moment.

    Raises:
        LabbookError: something is damaged here or could not be sent. The rest was sent, and stays.
    """
    cache, remote = cache_of(repo), remote_of(repo, name)
    with speaking_to(remote.name), lock_repo(repo):
        runs = cache.read_entries(cache.entries())
        entries = {name: entry for name, data in runs.items() if (entry := parse(name, data))}
        makers = needed(repo, entries.values(), cache)
        here, there = cache.sizes(), remote.sizes()
        missing = [oid for oid in makers if oid in here and there.get(oid) != here[oid]]
        damaged = cache.damaged(missing)
        problems = [f"{oid} of {makers[oid]}: damaged in the cache, not sent. {DOCTOR}" for oid in sorted(damaged)]
        whole = set(there) - set(missing)
        for oids in ([oid for oid in missing if not oid.endswith(".dir")], [oid for oid in missing if oid.endswith(".dir")]):
            # A directory that is there without one of its files would be taken for whole.
            group = [oid for oid in oids if oid not in damaged and listed(oid, cache) <= whole]
            failed = remote.put(cache.files, {oid: cache.objects.oid_to_path(oid) for oid in group})
            problems += [f"{oid} of {makers[oid]}: not sent: {_reason(error)}" for oid, error in failed.items()]
            whole |= set(group) - failed.keys()
        known = remote.entries()
        new = {
            name: runs[name]
            for name, entry in entries.items()
            if known.get(name) != len(runs[name]) and all(out.get("md5") in whole for out in entry.get("outs", ()))
        }
        failed = remote.put_entries(new)
        problems += [f"{name} of the run-cache: not sent: {_reason(error)}" for name, error in failed.items()]
    sent = len(whole.intersection(missing))
    _raise(problems, f"{remote.name}: {sent} objects were sent and stay there. Push again for the rest.")
    return f"{remote.name}: {sent} objects and {len(new)} runs sent{_lost(oid for oid in makers if oid not in whole)}"


def pull(repo: Repo, name: str | None) -> str:
    """Fetch the run-cache and what `dvc.lock` names, check it out, and say what came.

    The objects of other runs come when they are needed: `python -m labbook.repro --pull`.

    Raises:
        LabbookError: something is damaged, here or there, or could not be fetched. The rest was fetched.
    """
    cache, remote = cache_of(repo), remote_of(repo, name)
    with speaking_to(remote.name), lock_repo(repo):
        repo.config["remote"][remote.label]["verify"] = True  # hash what comes, whatever the configuration says
        here = cache.sizes()
        makers = needed(repo, (), cache, remote)
        problems = [
            f"{oid} of {makers[oid]}: damaged in the cache, not checked out. {DOCTOR}"
            for oid in sorted(cache.damaged(oid for oid in makers if oid in here))
        ]
        _raise(problems, "Nothing was pulled.")
        try:
            with set_loggers_level(logging.ERROR):  # its warnings name each object that nobody has: we count them
                repo.fetch(remote=remote.label)
        except (DvcException, OSError) as error:
            problems += [_reason(error)]
        there, now = remote.sizes(), cache.sizes()
        problems += [
            f"{oid} of {makers[oid]}: not fetched, or what came was damaged"
            for oid in makers
            if oid in there and oid not in now
        ]
        runs = remote.read_entries(remote.entries().keys() - cache.entries().keys())
        good = {name: data for name, data in runs.items() if parse(name, data)}
        problems += [f"{name} of the run-cache: damaged there, not fetched" for name in sorted(runs.keys() - good.keys())]
        problems += [f"{name} of the run-cache: not fetched: {_reason(e)}" for name, e in cache.put_entries(good).items()]
        _raise(problems, f"Pull again; `python -m labbook.doctor --remote {remote.label}` hashes all that is there.")
        try:
            with set_loggers_level(logging.ERROR):
                repo.checkout(allow_missing=True)
        except (DvcException, OSError) as error:
            reason = _reason(error).replace("Use `--force` to force.", f"`dvc commit` keeps them, {ASIDE}:")
            raise LabbookError(f"all was fetched, but not all checked out: {reason}") from error
    came = len(now.keys() - here.keys())
    return f"{remote.name}: {came} objects and {len(good)} runs fetched{_lost(oid for oid in makers if oid not in now)}"


def _lost(oids: Iterable[str]) -> str:
    count = len(list(oids))
    return f"; {count} objects are neither here nor there, `dvc repro` makes those that it needs" if count else ""


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _raise(problems: list[str], ending: str) -> None:
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise LabbookError("\n".join([*problems[:SHOWN], *more, ending]))
