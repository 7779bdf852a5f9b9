"""`dvc repro` with stages side by side: python -m labbook.repro [--jobs N] [arguments of dvc repro]."""

import argparse
import io
import os
import shutil
import sys
from typing import Any

import dvc.dvcfile
import dvc.repo.reproduce
from dvc.cli import main
from dvc.dvcfile import ProjectFile
from dvc.stage import PipelineStage, Stage
from networkx import DiGraph

from labbook.core.errors import LabbookError
from labbook.core.reading import read
from labbook.core.settings import read_runtime
from labbook.repro.entries import LateEntries, modify_whole
from labbook.repro.parameters import keep_parsed_files
from labbook.repro.readers import count_readers
from labbook.repro.side_by_side import SideBySide
from labbook.team.repository import check_host_keys

MEMORY_OF_A_JOB = 8 << 30  # bytes; tiny_wide took 3.4 GB on a tenth of Tiny ImageNet


def default_jobs() -> int:
    """Give every job its threads, and memory enough; an accelerator takes one job at a time."""
    try:
        runtime = read_runtime(read())
    except LabbookError:
        return 1  # the check stage tells what is wrong
    if runtime.device != "cpu" and (sys.platform == "darwin" or shutil.which("nvidia-smi")):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores // runtime.threads, memory // MEMORY_OF_A_JOB))


def install(jobs: int) -> None:
    """Let `dvc repro` in this process run `jobs` stages at a time, and write lock files now and then, and whole."""
    entries = LateEntries(ProjectFile.dump_stages)
    side_by_side = SideBySide(jobs, entries.write)
    in_order = dvc.repo.reproduce._reproduce

    def reproduce(steps: list[Stage], graph: DiGraph | None = None, **options: Any) -> list[Stage]:
        alone = graph is None or not steps or options.get("dry") or options.get("interactive")  # nothing to run side by side
        try:
            return (in_order if alone else side_by_side.reproduce)(steps, graph=graph, **options)
        finally:
            entries.write()
            entries.sort(steps)

    def dump_stages(file: ProjectFile, stages: list[PipelineStage], **options: Any) -> None:
        entries.add(file, stages, **options)

    count_readers()
    keep_parsed_files()
    dvc.dvcfile.modify_yaml = modify_whole
    ProjectFile.dump_stages = dump_stages
    dvc.repo.reproduce._reproduce = reproduce


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m labbook.repro", allow_abbrev=False, epilog="All other arguments are those of dvc repro."
    )
    parser.add_argument(
        "-j", "--jobs", type=int, metavar="N", help="how many stages at a time; default: as many as the cores hold"
    )
    arguments, others = parser.parse_known_args()
    if arguments.jobs is not None and arguments.jobs < 1:
        parser.error(f"--jobs: {arguments.jobs} is less than 1")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # whatever a command prints
    check_host_keys()  # where --pull fetches over SSH
    install(arguments.jobs or default_jobs())
    sys.exit(main(["--wait-for-lock", "repro", *others]))
