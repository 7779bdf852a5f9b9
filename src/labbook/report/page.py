"""The report's page: one self-contained HTML file, which opens from disk and offline.

It needs no other file, and holds nothing that differs between two runs of the same commit. Seconds and dates do differ: they
stand in `timing.js` beside it, and the page shows them where it finds that file. It links to `exercises.html` beside it.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from labbook.core.files import read_bytes, write_text
from labbook.report.answers import answer_b, answer_c, answer_d, best_of_last_three, threshold
from labbook.report.figures import learning_curves, overview, pair_curves, side_by_side, sweep_curve
from labbook.report.principles import count_seen, tell_boundary, tell_pair
from labbook.report.records import PairRecord, Pending, PendingPair, PendingSweep, Record, SweepRecord, of_overview
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

FLIPS = ("cifar10_cnn", "cifar10_cnn_plus_flip")  # without and with augmentation


def write_page(
    source: str,
    entries: Sequence[Record | Pending],
    sweeps: Sequence[SweepRecord | PendingSweep],
    pairs: Sequence[PairRecord | PendingPair],
    path: Path,
) -> None:
    """Write the page.

    Args:
        source: of the data, `embedded` or `official`.
        entries: the experiments, in the order of `params.yaml`.
        sweeps: likewise.
        pairs: likewise.
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
    records = [entry for entry in entries if isinstance(entry, Record)]
    swept = [sweep for sweep in sweeps if isinstance(sweep, SweepRecord)]
    detail = best_of_last_three(records)
    watched = of_overview(records)
    started = [pair for pair in pairs if isinstance(pair, PairRecord)]
    paired = {
        pair.name: [record for record in records if record.name in (pair.asked.first, pair.asked.second)] for pair in pairs
    }
    in_pairs = {record.name: record for members in paired.values() for record in members}
    flips = [record for record in records if record.name in FLIPS]
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
                "entries": [entry for entry in entries if entry.asked.assignment == letter],
                "records": [record for record in records if record.asked.assignment == letter and record.name not in in_pairs],
                "pairs": [pair for pair in pairs if pair.asked.assignment == letter],
                "sweeps": [sweep for sweep in sweeps if sweep.asked.assignment == letter],
            }
            for letter, title in ASSIGNMENTS.items()
        ],
        rows=_rows(results_table(source, entries)),
        curves={record.name: Markup(learning_curves(record)) for record in records if record.name not in in_pairs},
        paired=paired,
        pair_curves={name: Markup(pair_curves(members)) for name, members in paired.items() if len(members) == 2},
        told={pair.name: tell_pair(pair) for pair in started},
        seen=count_seen(started),
        boundaries={name: tell_boundary(record.card["metrics"]) for name, record in in_pairs.items()},
        regions={name: _data_address(Path(record.card["metrics"]["samples"])) for name, record in in_pairs.items()},
        sweep_curves={sweep.name: Markup(sweep_curve(sweep)) for sweep in swept},
        sweep_tables={sweep.name: sweep_table(sweep) for sweep in swept},
        overview=Markup(overview(watched)) if watched else None,
        goal=threshold(source),
        answers={"B": answer_b(records), "C": answer_c(records), "D": answer_d(records)},
        augmented=Markup(side_by_side(flips)) if len(flips) == len(FLIPS) else None,
        detail=detail,
        confusion=_confusion(detail) if detail else None,
        mistakes=_data_address(Path(detail.card["metrics"]["samples"])) if detail else None,
        segmented={
            record.name: _data_address(Path(record.card["metrics"]["samples"]))
            for record in records
            if record.asked.task == "segmentation"
        },
    )
    write_text(path, html)


def _rows(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Give each experiment's row, `None` for what it has not."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return {str(row["experiment"]): {str(column): value for column, value in row.items()} for row in rows}


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
