"""Timing stage: seconds, dates and machines, apart from the report so that it stays the same from run to run."""

from pathlib import Path

from labbook.core.stage import run
from labbook.params.project import read_project
from labbook.report.records import gather_timing
from labbook.report.timing import write_timing


def main() -> None:
    project = read_project()
    write_timing(project, gather_timing(project), Path("reports/timing.js"), Path("results"))


if __name__ == "__main__":
    run(main)
