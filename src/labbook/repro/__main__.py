"""`dvc repro` with stages side by side: labbook repro [-j N] [arguments of dvc repro]."""

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
from labbook.repro.entries import LateEntries, modify_whole
from labbook.repro.machine import room
from labbook.repro.needs import read_needs
from labbook.repro.parameters import keep_parsed_files
from labbook.repro.readers import count_readers
from labbook.repro.side_by_side import AtWork, SideBySide
from labbook.team.repository import check_host_keys
from labbook.training.parallel import AT_ONCE


def install(jobs: int, gpus: Sequence[str], here: int | None = None, at_work: AtWork | None = None) -> None:
    """Let `dvc repro` in this process run `jobs` stages at a time, and write lock files now and then, and whole.

    The arguments are those of `SideBySide`.
    """
    entries = LateEntries(ProjectFile.dump_stages)
    side_by_side = SideBySide(jobs, gpus, entries.write, here, at_work)
    in_order = dvc.repo.reproduce._reproduce

    def reproduce(steps: list[Stage], graph: DiGraph | None = None, **options: Any) -> list[Stage]:
        try:
            return settled(steps, graph, **options)
        except LabbookError as error:
            raise DvcException(str(error)) from None  # else DVC calls it unexpected, and sends people to its own support

    def settled(steps: list[Stage], graph: DiGraph | None, **options: Any) -> list[Stage]:
        alone = graph is None or not steps or options.get("dry") or options.get("interactive")  # nothing to run side by side
        if alone and not gpus:
            widest = max((needs.cores for needs in read_needs(steps).values()), default=1)
            os.environ[AT_ONCE] = str(max(1, jobs // widest))
        ended_well = False
        try:
            ran: list[Stage] = (in_order if alone else side_by_side.reproduce)(steps, graph=graph, **options)
            ended_well = True
            return ran
        finally:
            entries.write()
            entries.settle(steps, ended_well=ended_well)

    def dump_stages(file: ProjectFile, stages: list[PipelineStage], **options: Any) -> None:
        entries.add(file, stages, **options)

    count_readers()
    keep_parsed_files()
    dvc.dvcfile.modify_yaml = modify_whole
    ProjectFile.dump_stages = dump_stages
    dvc.repo.reproduce._reproduce = reproduce


def add_arguments(parser: argparse.ArgumentParser, command: str = "repro") -> None:
    """Add the arguments of a command of DVC's, `repro` or `exp run`, that runs stages side by side."""
    parser.epilog = (
        f"All other arguments are those of dvc {command}: see dvc {command} --help. "
        "A stage whose own command calls DVC says dvc --wait-for-lock there, as another stage may hold the lock for a moment."
    )
    parser.add_argument(
        "-j", "--jobs", type=int, metavar="N", help="how many stages at a time; default: as many as cores, memory and GPUs hold"
    )
    parser.add_argument(
        "--cluster",
        type=Path,
        metavar="FILE",
        help="let workers run trainings and what reads them, as FILE says: docs/cluster.md",
    )
    parser.set_defaults(dvc_command=command.split(), error=parser.error)


def main(arguments: argparse.Namespace) -> NoReturn:
    """Let one of DVC's commands run stages side by side."""
    if arguments.jobs is not None and arguments.jobs < 1:
        arguments.error(f"--jobs: {arguments.jobs} is less than 1")
    if arguments.cluster and not arguments.jobs:
        arguments.error("--cluster: say with --jobs how many stages are at work at a time, on all machines")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # whatever a command prints
    check_host_keys()  # where --pull fetches over SSH
    try:
        held, shared = room()
    except LabbookError:
        held, shared = arguments.jobs or 1, []  # `labbook check` and the stages say what is wrong
    if arguments.cluster:
        install(arguments.jobs, shared, held, _workers(arguments.cluster))
    else:
        install(arguments.jobs or held, shared)
    if not arguments.cluster and arguments.jobs and arguments.jobs > held:
        print(
            f"--jobs {arguments.jobs}: this machine holds {held} at a time; more may be slower, or too much for its memory",
            file=sys.stderr,
        )
    sys.exit(dvc.cli.main(["--wait-for-lock", *arguments.dvc_command, *arguments.forwarded]))


def _workers(file: Path) -> AtWork:
    from labbook.cluster.settings import read_cluster
    from labbook.cluster.workers import at_work

    return partial(at_work, read_cluster(file))


if __name__ == "__main__":
    labbook(["repro", *sys.argv[1:]])
