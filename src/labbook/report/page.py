"""The report's page: one self-contained HTML file, which opens from disk and offline.

It needs no other file, and holds nothing that differs between two runs of the same commit. Seconds and dates do differ: they
stand in `timing.js` beside it, and the page shows them where it finds that file.
"""

import base64
from pathlib import Path

import jinja2
from markupsafe import Markup

from labbook.files import read_bytes, write_text
from labbook.report.answers import answer_b, best_of_last_three, threshold
from labbook.report.figures import learning_curves, overview, sweep_curve
from labbook.report.records import Record, SweepRecord, with_test_curve
from labbook.report.tables import environment_of, results_table, sweep_table
from labbook.report.verdict import TOLERANCE, tell_reported

__all__ = ["write_page"]

ASSIGNMENTS = {
    "A": "Depth versus width on MNIST",
    "B": "Variations of a small CNN on MNIST",
    "C": "Wide against deep on CIFAR-10 and Tiny ImageNet",
    "D": "CNNs on CIFAR-10, and transfer learning",
    "E": "Layers from scratch, and segmentation",
}


def write_page(source: str, records: list[Record], sweeps: list[SweepRecord], path: Path) -> None:
    """Write the page.

    Args:
        source: of the data, `embedded` or `official`.
        records: the experiments, in the order of `params.yaml`.
        sweeps: likewise.
        path: where it goes.

    Raises:
        DataError: a picture is missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labbook.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    detail = best_of_last_three(records)
    watched = [record for record in with_test_curve(records) if record.asked.assignment == "B"]
    html = environment.get_template("index.html").render(
        source=source,
        official=source == "official",
        reported=tell_reported,
        run=environment_of(records),
        tolerance=TOLERANCE,
        sections=[
            {
                "letter": letter,
                "title": title,
                "records": [record for record in records if record.asked.assignment == letter],
                "sweeps": [sweep for sweep in sweeps if sweep.asked.assignment == letter],
            }
            for letter, title in ASSIGNMENTS.items()
        ],
        rows={row["experiment"]: row for row in results_table(records).to_dict("records")},
        curves={record.name: Markup(learning_curves(record)) for record in records},
        sweep_curves={sweep.name: Markup(sweep_curve(sweep)) for sweep in sweeps},
        sweep_tables={sweep.name: sweep_table(sweep) for sweep in sweeps},
        overview=Markup(overview(watched)) if watched else None,
        goal=threshold(source),
        answers=answer_b(records),
        detail=detail,
        confusion=_confusion(detail) if detail else None,
        mistakes=_data_address(Path(detail.card["metrics"]["samples"])) if detail else None,
    )
    write_text(path, html)


def _confusion(record: Record) -> dict[str, dict[str, int]]:
    """Read confusion counts as actual class → predicted class → count."""
    path = Path(record.card["metrics"]["confusion"])
    lines = read_bytes(path, f"Run `dvc repro evaluate@{record.name}`.").decode().splitlines()[1:]
    counts: dict[str, dict[str, int]] = {}
    for line in lines:
        actual, predicted, count = line.rsplit(",", 2)
        counts.setdefault(actual, {})[predicted] = int(count)
    return counts


def _data_address(path: Path) -> str:
    data = read_bytes(path, "Run `dvc repro` for the evaluate stages.")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
