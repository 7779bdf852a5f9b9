"""Find and repair problems in this clone: labbook doctor [--repair] [--remote NAME]; exits with 1 if problems are left."""

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
from labbook.team.store import open_cache, translate_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labbook doctor`."""
    parser.epilog = "See docs/teams.md."
    parser.add_argument(
        "--repair", action="store_true", help="replace damaged files with intact copies; intact files are never deleted"
    )
    parser.add_argument("--remote", help="download and hash objects on this remote, instead of comparing names and sizes")


def main(arguments: argparse.Namespace) -> None:
    """Report problems; with `--repair`, also repair them."""
    started = time.monotonic()
    print(environment.describe(), flush=True)
    problems = _report(
        (*environment.check_environment(), *environment.check_params(), *environment.check_data_root()), repair=False
    )
    repo = open_repository()
    problems += _report(_check_repository(repo), repair=arguments.repair)
    busy = locks.running_processes(repo)
    if busy and arguments.repair:
        raise LabbookError(f"stages are running (process {', '.join(map(str, busy))}). Run the repair when they have finished.")
    remote, findings = configuration.connect(repo, arguments.remote)
    problems += _report(findings, repair=False)
    with translate_errors(remote.name if remote else "DVC"), lock_repo(repo) if arguments.repair else nullcontext():
        objects = Objects(repo, remote, hash_remote=arguments.remote is not None)
        problems += _report(objects.findings(), repair=arguments.repair)
    print(f"hashed: {objects.summary}, in {time.monotonic() - started:.1f} s")
    if problems:
        sys.exit(
            f"problems left: {problems}"
            if arguments.repair
            else f"problems: {problems}. `make doctor REPAIR=1` repairs what it can"
        )
    print("no problems found")


def _check_repository(repo: Repo) -> Iterator[Finding]:
    cache = open_cache(repo)
    yield from configuration.check_remotes(repo)
    yield from configuration.check_cache(repo)
    yield from locks.check_locks(repo)
    yield from locks.check_leftovers(Path(repo.root_dir), cache.temporary_files())
    yield from environment.check_disk({"workspace": Path(repo.root_dir), "cache": Path(cache.objects.path)})


def _report(findings: Iterator[Finding] | tuple[Finding, ...] | list[Finding], *, repair: bool) -> int:
    """Print findings, repair them if `repair` is set, and return the number of problems that are left."""
    problems = 0
    for finding in findings:
        print(f"{'problem' if finding.is_problem else 'note'}: {finding}", flush=True)
        if repair and finding.repair:
            try:
                print(f"repaired: {finding.repair()}", flush=True)
                continue
            except (LabbookError, OSError) as error:  # for example, the file belongs to another user
                print(f"not repaired: {error}", flush=True)
        problems += finding.is_problem
    return problems


if __name__ == "__main__":
    labbook(["doctor", *sys.argv[1:]])
