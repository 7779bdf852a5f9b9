"""Figures stage: learning curves, sweeps, pairs and comparisons, each as PDF for print, and the picture beside the results."""

from pathlib import Path

from labbook.core.stage import run
from labbook.figures import save, style
from labbook.figures.curves import KINDS, draw_all, draw_overview
from labbook.params.project import read_project
from labbook.report.records import Record, SweepRecord, gather, gather_sweeps, of_overview


def main() -> None:
    project, folder = read_project(), Path("figures")
    records = [entry for entry in gather(project) if isinstance(entry, Record)]
    sweeps = [entry for entry in gather_sweeps(project) if isinstance(entry, SweepRecord)]
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)  # DVC asks for it even where there is nothing to draw yet
    with style():
        for kind, name, figure in draw_all(project, records, sweeps):
            save(figure, folder / kind / f"{name}.pdf")
        save(draw_overview(of_overview(records)), Path("results") / f"{project.data.source}.svg")


if __name__ == "__main__":
    run(main)
