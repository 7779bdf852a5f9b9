"""`dvc repro` with parallel stages: labbook repro [-j N] [arguments of dvc repro]."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import dvc.cli
import dvc.dvcfile
import dvc.repo.reproduce
from dvc.dvcfile import ProjectFile
from dvc.exceptions import DvcException
from dvc.stage import PipelineStage, Stage
from networkx import DiGraph

from labbook.__main__ import main as labbook
from labbook.errors import LabbookError
from labbook.repro.entries import DeferredEntries, modify_atomically
from labbook.repro.machine import capacity
from labbook.repro.needs import read_needs
from labbook.repro.parallel import OpenWorkers, ParallelRepro
from labbook.repro.parameters import cache_parsed_files
from labbook.repro.readers import count_readers
from labbook.team.repository import check_host_keys
from labbook.training.parallel import AT_ONCE


def install(jobs: int, gpus: Sequence[str], here: int | None = None, open_workers: OpenWorkers | None = None) -> None:
    """Patch DVC in this process: run up to `jobs` stages in parallel, and write lock files less often and atomically.

    The arguments are those of `ParallelRepro`.
    """
    entries = DeferredEntries(ProjectFile.dump_stages)
    parallel = ParallelRepro(jobs, gpus, entries.write, here, open_workers)
    in_order = dvc.repo.reproduce._reproduce

    def reproduce(steps: list[Stage], graph: DiGraph | None = None, **options: Any) -> list[Stage]:
        try:
            return settled(steps, graph, **options)
        except LabbookError as error:
            raise DvcException(str(error)) from None  # otherwise DVC calls it unexpected and refers to its own support

    def settled(steps: list[Stage], graph: DiGraph | None, **options: Any) -> list[Stage]:
        alone = graph is None or not steps or options.get("dry") or options.get("interactive")  # nothing to run in parallel
        if alone and not gpus:
            widest = max((needs.cores for needs in read_needs(steps).values()), default=1)
            os.environ[AT_ONCE] = str(max(1, jobs // widest))
        ended_well = False
        try:
            ran: list[Stage] = (in_order if alone else parallel.reproduce)(steps, graph=graph, **options)
            ended_well = True
            return ran
        finally:
            entries.write()
            entries.settle(steps, ended_well=ended_well)

    def dump_stages(file: ProjectFile, stages: list[PipelineStage], **options: Any) -> None:
        entries.add(file, stages, **options)

    count_readers()
    cache_parsed_files()
    dvc.dvcfile.modify_yaml = modify_atomically
    ProjectFile.dump_stages = dump_stages
    dvc.repo.reproduce._reproduce = reproduce


def add_arguments(parser: argparse.ArgumentParser, command: str = "repro") -> None:
    """Add the arguments of a DVC command, `repro` or `exp run`, that runs stages in parallel."""
    parser.epilog = (
        f"All other arguments are passed to dvc {command}; see dvc {command} --help. "
        "If the command of a stage calls DVC, it needs dvc --wait-for-lock, because another stage may hold the lock."
    )
    parser.add_argument(
        "-j", "--jobs", type=int, metavar="N", help="maximum number of parallel stages; default: by cores, memory and GPUs"
    )
    parser.add_argument(
        "--cluster",
        type=Path,
        metavar="FILE",
        help="run stages as cluster jobs, configured in FILE; see docs/cluster.md",
    )
    parser.set_defaults(dvc_command=command.split(), error=parser.error)


def main(arguments: argparse.Namespace) -> NoReturn:
    """Run a DVC command with parallel stages."""
    if arguments.jobs is not None and arguments.jobs < 1:
        arguments.error(f"--jobs: expected at least 1, got {arguments.jobs}")
    if arguments.cluster and not arguments.jobs:
        arguments.error("--cluster: requires --jobs, the maximum number of parallel stages on all machines")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a command may print any character
    check_host_keys()  # --pull may fetch over SSH
    try:
        held, shared = capacity()
    except LabbookError:
        held, shared = arguments.jobs or 1, []  # the stages report the error
    if arguments.cluster:
        install(arguments.jobs, shared, held, _workers(arguments.cluster))
    else:
        install(arguments.jobs or held, shared)
    if not arguments.cluster and arguments.jobs and arguments.jobs > held:
        print(
            f"--jobs {arguments.jobs}: this machine has room for {held}; more may be slower or exceed its memory",
            file=sys.stderr,
        )
    sys.exit(dvc.cli.main(["--wait-for-lock", *arguments.dvc_command, *arguments.forwarded]))


def _workers(file: Path) -> OpenWorkers:
    from labbook.cluster.settings import read_cluster
    from labbook.cluster.workers import open_workers

    return partial(open_workers, read_cluster(file))


if __name__ == "__main__":
    labbook(["repro", *sys.argv[1:]])
