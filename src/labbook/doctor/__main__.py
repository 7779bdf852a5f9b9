"""Look whether all is well: labbook doctor [--mend] [--remote NAME]; exit status 0, or 1 when something is wrong."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from dvc.repo import Repo, lock_repo

from labbook.__main__ import main as labbook
from labbook.doctor import configuration, environment, locks
from labbook.doctor.finding import Finding
from labbook.doctor.objects import Objects
from labbook.errors import LabbookError
from labbook.team.repository import open_repository
from labbook.team.store import cache_of, speaking_to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labbook doctor`."""
    parser.epilog = "See docs/teams.md."
    parser.add_argument(
        "--mend", action="store_true", help="put good copies in the place of damaged ones; nothing good is deleted"
    )
    parser.add_argument("--remote", help="read and hash all that this remote holds of ours, not only names and sizes")


def main(given: argparse.Namespace) -> None:
    """Tell what is wrong, and mend it where that is asked for."""
    started = time.monotonic()
    print(environment.describe(), flush=True)
    wrong = _tell((*environment.find_environment(), *environment.find_params(), *environment.find_root()), mend=False)
    repo = open_repository()
    wrong += _tell(_of_repository(repo), mend=given.mend)
    busy = locks.at_work(repo)
    if busy and given.mend:
        raise LabbookError(f"stages run here (process {', '.join(map(str, busy))}). Mend when they have ended.")
    remote, found = configuration.reach(repo, given.remote)
    wrong += _tell(found, mend=False)
    with speaking_to(remote.name if remote else "DVC"), lock_repo(repo) if given.mend else nullcontext():
        objects = Objects(repo, remote, hash_remote=given.remote is not None)
        wrong += _tell(objects.findings(), mend=given.mend)
    print(f"hashed: {objects.told}, in {time.monotonic() - started:.1f} s")
    if wrong:
        sys.exit(f"{wrong} findings are left" if given.mend else f"{wrong} findings; `make doctor MEND=1` mends what it can")
    print("all is well")


def _of_repository(repo: Repo) -> Iterator[Finding]:
    cache = cache_of(repo)
    yield from configuration.find_remotes(repo)
    yield from configuration.find_cache(repo)
    yield from locks.find_locks(repo)
    yield from locks.find_leftovers(Path(repo.root_dir), cache.leftovers())
    yield from environment.find_disk({"workspace": Path(repo.root_dir), "cache": Path(cache.objects.path)})


def _tell(findings: Iterator[Finding] | tuple[Finding, ...] | list[Finding], *, mend: bool) -> int:
    """Print findings and mend them, each when it was told; give how many are wrong and stay so."""
    left = 0
    for finding in findings:
        print(f"{'wrong' if finding.wrong else 'note '}: {finding}", flush=True)
        if mend and finding.mend:
            try:
                print(f"mended: {finding.mend()}", flush=True)
                continue
            except (LabbookError, OSError) as error:  # such as another user's file
                print(f"not mended: {error}", flush=True)
        left += finding.wrong
    return left


if __name__ == "__main__":
    labbook(["doctor", *sys.argv[1:]])
