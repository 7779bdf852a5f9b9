"""Generate the tables and the figure in `results/`, and the table in README.md, from the ledger."""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from labbook.config.project import Project, parse_project
from labbook.config.reading import PARAMS, read
from labbook.io import read_bytes, write_text
from labbook.plots import save, style
from labbook.plots.results import Result, draw_results
from labbook.report.gather import gather_all, gather_timing
from labbook.report.readme import fill
from labbook.report.records import Earlier, Gathered, Record, assignment_letter
from labbook.report.tables import results_csv, results_markdown, results_table
from labbook.report.timing import timing_csv
from labbook.report.verdict import comparable
from labbook.statistics import summarize_seeds

__all__ = ["add_arguments", "draw", "gather_ledger", "main", "tables"]

FOLDER, README = Path("results"), Path("README.md")
FIGURE = FOLDER / "official.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the help text of `labbook results`, which has no arguments."""
    parser.epilog = "Experiments without an entry in results/official/ have the rows of results/earlier.csv."


def main(arguments: argparse.Namespace) -> None:
    """Rewrite every generated file.

    Raises:
        LabbookError: an entry cannot be read, or a file cannot be written.
    """
    project, gathered = gather_ledger()
    for path, text in tables(project, gathered).items():
        write_text(path, text)
        print(path)
    with style():
        save(draw(gathered), FIGURE)
    print(FIGURE)


def draw(gathered: Gathered) -> Figure:
    """Draw the results that can be compared with a reported number, one panel per assignment."""
    panels: dict[str, list[Result]] = {}
    for entry in gathered.entries:
        reported = comparable(entry) if isinstance(entry, Record) else entry.spec.reported
        if reported.test is None or reported.kind == "other_data" or not isinstance(entry, Record | Earlier):
            continue
        result = Result(
            entry.name,
            reported.test,
            entry.test_accuracy,
            interval=_interval(entry) if isinstance(entry, Record) else None,
            is_bound=reported.kind == "over",
            is_earlier=isinstance(entry, Earlier),
        )
        panels.setdefault(f"Assignment {assignment_letter(entry.spec.assignment)}", []).append(result)
    return draw_results(panels)


def _interval(record: Record) -> tuple[float, float] | None:
    """Return the prediction interval of one more run; `None` for a single run."""
    accuracies = record.values("test_accuracy")
    if len(accuracies) < 2:
        return None
    summary = summarize_seeds(accuracies)
    return summary["run_low"], summary["run_high"]


def gather_ledger(root: Path = Path(), *, check: bool = True) -> tuple[Project, Gathered]:
    """Read the results on official data, regardless of `data.source`.

    Args:
        root: root folder of the project.
        check: whether to reject edited ledger entries.

    Raises:
        LabbookError: `params.yaml` or an entry cannot be read.
    """
    values = {**read(root / PARAMS), "data": {"source": "official"}}
    project = parse_project(values)
    return project, gather_all(values, project, root, check=check)


def tables(project: Project, gathered: Gathered, root: Path = Path()) -> dict[Path, str]:
    """Return the text of each generated file, by path relative to `root`; in README.md only the table changes.

    Raises:
        DataError: README.md is missing or lacks a marker.
    """
    readme = read_bytes(root / README, "Restore it with `git checkout`.").decode()
    return {
        FOLDER / "official.csv": results_csv(gathered),
        FOLDER / "official.md": results_markdown(gathered),
        FOLDER / "official-timing.csv": timing_csv(project, gather_timing(project, root)),
        README: fill(readme, results_table("official", gathered.entries)),
    }
