"""Report stage: the page, the tables under results/, and one table of all learning curves for DVC's plots."""

from pathlib import Path

from labbook.core.files import write_text
from labbook.core.stage import run
from labbook.params.project import read_project
from labbook.report.figures import curve_points, overview, standalone
from labbook.report.page import write_page
from labbook.report.records import Record, gather, gather_pairs, gather_sweeps, of_overview
from labbook.report.tables import write_results


def main() -> None:
    project = read_project()
    source = project.data.source
    entries, sweeps, pairs = gather(project), gather_sweeps(project), gather_pairs(project)
    records = [entry for entry in entries if isinstance(entry, Record)]
    write_page(source, entries, sweeps, pairs, Path("reports/index.html"))
    write_results(source, entries, sweeps, pairs)
    write_text(Path("results") / f"{source}.svg", standalone(overview(of_overview(records))))
    curves = curve_points(records).to_csv(sep="\t", index=False, lineterminator="\n")
    write_text(Path("plots/all/history.tsv"), curves)


if __name__ == "__main__":
    run(main)
