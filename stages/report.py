"""Report stage: the site, the tables under results/, and one table of all learning curves for DVC's plots."""

from pathlib import Path

from labbook.core.files import write_text
from labbook.core.stage import run
from labbook.params.project import read_project
from labbook.report.records import gather_all
from labbook.report.site import write_site
from labbook.report.tables import curve_points, write_results


def main() -> None:
    gathered = gather_all(read_project())
    write_site(gathered)
    write_results(gathered)
    curves = curve_points(gathered.records).to_csv(sep="\t", index=False, lineterminator="\n")
    write_text(Path("plots/all/history.tsv"), curves)


if __name__ == "__main__":
    run(main)
