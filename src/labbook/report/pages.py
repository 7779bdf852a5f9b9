"""The content of each page of the site, which the templates lay out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labbook.report import charts
from labbook.report.answers import answer, format_accuracy, threshold
from labbook.report.assignments import ASSIGNMENTS, COMPARISONS, DETAILED, PAIRS, Pair
from labbook.report.compare import flatten_settings
from labbook.report.pictures import Picture
from labbook.report.principles import count_outcomes, describe_boundary, describe_pair
from labbook.report.records import Gathered, Record, SweepRecord, assignment_letter, overview_records, read_confusion
from labbook.report.tables import describe_environment, results_table, sweep_table
from labbook.report.verdict import compare_epochs, describe_reported, judge_record
from labbook.statistics import summarize_seeds

__all__ = ["assignment_page", "experiment_page", "front_page", "result_rows"]

Rows = Mapping[str, dict[str, Any]]  # rows of the table of results, by experiment; empty cells are `None`

MAX_CONFUSIONS = 10  # maximum number of pairs of classes in the table of the most frequent confusions
UNITS = {"toy2d": "points", "segmentation": "pixels"}  # what each task classifies, if not images
UNKNOWN = "–"
POSITIONS = {"consistent": "inside", "ours is higher": "below", "ours is lower": "above"}  # position of the reported accuracy


def result_rows(gathered: Gathered) -> Rows:
    """Return the row of each experiment in the table of results."""
    table = results_table(gathered.source, gathered.entries)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return {str(row["experiment"]): {str(column): value for column, value in row.items()} for row in rows}


def front_page(gathered: Gathered, rows: Rows) -> dict[str, Any]:
    """Return the content of the front page: data, environment and all results."""
    records = gathered.records
    return {
        "run": describe_environment(records),
        "datasets": _datasets(records),
        "entries": [(entry, rows[entry.name]) for entry in gathered.entries],
        "verdicts": sorted({str(row["verdict"]).partition(" (")[0] for row in rows.values() if row["verdict"]}),
        "sparklines": {record.name: charts.sparkline(record) for record in records},
    }


def assignment_page(gathered: Gathered, rows: Rows, letter: str, root: Path = Path()) -> dict[str, Any]:
    """Return the content of an assignment's page: answers, experiments, sweeps and pairs.

    Raises:
        DataError: confusion counts are missing or damaged.
    """
    by_name = gathered.by_name
    records = [record for record in gathered.records if assignment_letter(record.spec.assignment) == letter]
    overview, detailed = overview_records(records), by_name.get(DETAILED.get(letter, ""))
    return {
        "letter": letter,
        "title": ASSIGNMENTS[letter],
        "answers": answer(letter, gathered.records),
        "goal": threshold(gathered.source),
        "errors": charts.error_curves(overview) if overview else None,
        "comparisons": [
            (charts.comparison_curves([by_name[pair.first], by_name[pair.second]]), pair.caption)
            for pair in COMPARISONS
            if pair.assignment == letter and {pair.first, pair.second} <= by_name.keys()
        ],
        "sweeps": [
            (sweep, *((charts.sweep_curve(sweep), sweep_table(sweep)) if isinstance(sweep, SweepRecord) else (None, None)))
            for sweep in gathered.sweeps
            if assignment_letter(sweep.spec.assignment) == letter
        ],
        "pairs": [_pair(pair, by_name) for pair in PAIRS if pair.assignment == letter and _known(pair, gathered)],
        "outcomes": count_outcomes(records),
        "entries": [
            (entry, rows[entry.name]) for entry in gathered.entries if assignment_letter(entry.spec.assignment) == letter
        ],
        "sparklines": {record.name: charts.sparkline(record) for record in records},
        "detailed": detailed,
        "confusion": read_confusion(detailed, root) if detailed else None,
    }


def experiment_page(
    gathered: Gathered, rows: Rows, record: Record, pictures: Mapping[str, Picture], root: Path = Path()
) -> dict[str, Any]:
    """Return the content of an experiment's page.

    Args:
        gathered: all results.
        rows: rows of the table of results, by experiment.
        record: the experiment.
        pictures: its pictures, by kind.
        root: root folder of the project.

    Raises:
        DataError: its confusion counts are missing or damaged.
    """
    counts = read_confusion(record, root)
    metrics = record.card["metrics"]
    return {
        "record": record,
        "letter": assignment_letter(record.spec.assignment),
        "row": rows[record.name],
        "accuracy": format_accuracy(record),
        "reported": describe_reported(record.spec.reported),
        "learning": charts.learning_curves(record),
        "watched": charts.watched_values(record),
        "history": _printable(record.history),
        "confusion": counts,
        "confusions": _confusions(counts),
        "unit": UNITS.get(record.settings["task"], "images"),
        "classes": _classes(counts, metrics, record.spec.reported.per_class if _official(gathered) else None),
        "reliability": charts.reliability(record),
        "boundary": describe_boundary(metrics) if "boundary_pieces" in metrics else None,
        "pictures": pictures,
        "explained": gathered.explained.get(record.name),
        "seeds": _seeds(record, official=_official(gathered)),
        "epochs": compare_epochs(record) if _official(gathered) else [],
        "settings": _settings(record),
        "override": _learning_rate(record),
        "layers": record.card["layers"],
        "neighbours": _neighbours(gathered.records, record),
    }


def _official(gathered: Gathered) -> bool:
    return gathered.source == "official"


def _known(pair: Pair, gathered: Gathered) -> bool:
    """Return whether `params.yaml` has both experiments of a pair."""
    return {pair.first, pair.second} <= {entry.name for entry in gathered.entries}


def _datasets(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one row per dataset: image shape, number of classes and the sizes of its largest splits."""
    datasets: dict[str, dict[str, Any]] = {}
    for record in records:
        card = record.card
        entry = datasets.setdefault(card["dataset"], {**card["samples"], "name": card["dataset"], "experiments": 0})
        entry |= {key: max(entry[key], card["samples"][key]) for key in ("train", "val")}
        entry |= {"classes": len(card["classes"]), "shape": card["image_shape"], "experiments": entry["experiments"] + 1}
    return list(datasets.values())


def _pair(pair: Pair, by_name: Mapping[str, Record]) -> dict[str, Any]:
    members = [by_name[name] for name in (pair.first, pair.second) if name in by_name]
    experiment_charts = [[*charts.learning_curves(record), *charts.watched_values(record)] for record in members]
    return {
        "pair": pair,
        "description": describe_pair(members) if len(members) == 2 else None,
        "members": members,
        "charts": charts.pair_charts(*experiment_charts) if len(experiment_charts) == 2 else [],
    }


def _seeds(record: Record, *, official: bool) -> dict[str, Any] | None:
    """Return the test metrics by seed and their summary, for an experiment with several seeds."""
    if len(record.seeds) < 2:
        return None
    accuracy = summarize_seeds(record.values("test_accuracy"))
    return {
        "accuracy": accuracy,
        "loss": summarize_seeds(record.values("test_loss")),
        "rows": record.seeds,
        "reported": POSITIONS.get(judge_record(record).label) if official else None,
    }


def _confusions(counts: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the most frequently confused pairs of classes, with their share of the actual class."""
    values, classes = counts.to_numpy(), list(counts.index)
    mistakes = np.where(np.eye(len(values), dtype=bool), 0, values)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MAX_CONFUSIONS]
    cells = [divmod(int(index), len(values)) for index in order]
    return [
        {
            "actual": classes[row],
            "predicted": classes[column],
            "count": int(mistakes[row, column]),
            "share": mistakes[row, column] / values[row].sum(),
        }
        for row, column in cells
        if mistakes[row, column]
    ]


def _classes(counts: pd.DataFrame, metrics: dict[str, Any], reported: dict[str, float] | None) -> list[dict[str, Any]]:
    """Return the metrics of each class; its accuracy is its recall."""
    values = counts.to_numpy()
    predicted = values.sum(axis=0)
    return [
        {
            "name": name,
            "samples": int(values[index].sum()),
            "accuracy": metrics["test_accuracy_per_class"][name],
            "precision": values[index, index] / predicted[index] if predicted[index] else None,
            "iou": metrics.get("test_iou_per_class", {}).get(name),
            "reported": (reported or {}).get(name),
        }
        for index, name in enumerate(counts.index)
    ]


def _printable(history: pd.DataFrame) -> pd.DataFrame:
    """Return the non-empty columns with formatted numbers."""
    columns = history.drop(columns="seed").dropna(axis="columns", how="all")
    return pd.DataFrame(
        {name: ["" if pd.isna(value) else f"{value:.6g}" for value in column] for name, column in columns.items()}
    )


def _settings(record: Record) -> list[tuple[str, str, str]]:
    """Return each setting of the run, and its value on official data."""
    run, official = dict(flatten_settings(record.settings)), dict(flatten_settings(record.official))
    keys = dict.fromkeys([*run, *official])
    return [(key, run.get(key, UNKNOWN), official.get(key, UNKNOWN)) for key in keys]


def _learning_rate(record: Record) -> str | None:
    """Return the `dvc exp run -S` override of this experiment's learning rate; `None` if the rate is not set.

    A plus sign adds a key that the experiment's block does not have.
    """
    rate = record.settings["optimizer"].get("lr")
    if rate is None:
        return None
    origin = record.origins.get("optimizer.lr", record.origins.get("optimizer", ""))
    block = f"experiments.{record.name}.train" + (".embedded" if origin.endswith(".embedded") else "")
    return f"{'' if origin == block else '+'}{block}.optimizer.lr={rate}"


def _neighbours(records: Sequence[Record], record: Record) -> tuple[Record | None, Record | None]:
    index = [other.name for other in records].index(record.name)
    return (records[index - 1] if index else None, records[index + 1] if index + 1 < len(records) else None)
