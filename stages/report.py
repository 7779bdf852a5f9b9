"""Report stage: write the site, the tables of results, figures for print, and all learning curves in one table."""

import _here  # noqa: F401

from pathlib import Path

from labbook.config.project import parse_project
from labbook.config.reading import read
from labbook.io import write_text
from labbook.report.figures import write_figures
from labbook.report.gather import gather_all, gather_timing
from labbook.report.site import write_site
from labbook.report.tables import curve_points, write_results
from labbook.report.timing import write_timing
from labbook.stage import run


def main() -> None:
    values = read()
    project = parse_project(values)
    gathered = gather_all(values, project)
    write_site(gathered)
    write_results(gathered)
    write_figures(gathered)
    curves = curve_points(gathered.records).to_csv(sep="\t", index=False, lineterminator="\n")
    write_text(Path("reports/history.tsv"), curves)
    write_timing(project, gather_timing(project))


if __name__ == "__main__":
    run(main)
