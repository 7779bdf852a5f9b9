"""What each page of the site says: words, tables and charts, which its template lays out."""

import json
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labbook.core.files import read_bytes
from labbook.report import charts
from labbook.report.answers import answer_b, answer_c, answer_d, best_of_last_three, threshold
from labbook.report.assignments import ASSIGNMENTS
from labbook.report.principles import count_seen, tell_boundary, tell_pair
from labbook.report.records import Gathered, PairRecord, PendingPair, Record, SweepRecord, of_overview, read_confusion
from labbook.report.tables import environment_of, results_table, sweep_table
from labbook.report.verdict import TOLERANCE, judge_seeds, tell_reported

__all__ = ["Picture", "assignment_page", "compared", "experiment_page", "front_page", "pictures", "result_rows"]

Rows = Mapping[str, dict[str, Any]]  # of the table of results, by experiment; `None` for what one has not

FLIPS = ("cifar10_cnn", "cifar10_cnn_plus_flip")  # without and with augmentation
INSIDE = ("filters", "activations", "attributions")  # kinds of picture that the explain stage draws
CONFUSED = 10  # pairs of classes that are confused most often, in words


@dataclass(frozen=True)
class Picture:
    """A picture on a page.

    Attributes:
        address: below the site's folder.
        file: that it is a copy of, below the project's root.
        width: in pixels.
        height: in pixels.
        words: for readers who do not see it.
    """

    address: str
    file: Path
    width: int
    height: int
    words: str


def result_rows(gathered: Gathered) -> Rows:
    """Give each experiment's row of the results, `None` for what it has not."""
    table = results_table(gathered.source, gathered.entries)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return {str(row["experiment"]): {str(column): value for column, value in row.items()} for row in rows}


def front_page(gathered: Gathered, rows: Rows) -> dict[str, Any]:
    """Tell what was run, on which data, and all results in one table."""
    records = gathered.records
    return {
        "run": environment_of(records),
        "tolerance": TOLERANCE,
        "datasets": _datasets(records),
        "entries": [(entry, rows[entry.name]) for entry in gathered.entries],
        "verdicts": sorted({str(row["verdict"]).partition(" (")[0] for row in rows.values() if row["verdict"]}),
        "sparklines": {record.name: charts.sparkline(record) for record in records},
    }


def assignment_page(gathered: Gathered, rows: Rows, letter: str) -> dict[str, Any]:
    """Answer an assignment's questions, and show its experiments, sweeps and pairs."""
    records = gathered.records
    own = [record for record in records if record.asked.assignment == letter]
    by_name = {record.name: record for record in records}
    flips = [by_name[name] for name in FLIPS if name in by_name]
    seen = of_overview(own)
    detail = best_of_last_three(own)
    answers = {"B": answer_b, "C": answer_c, "D": answer_d}
    return {
        "letter": letter,
        "title": ASSIGNMENTS[letter],
        "answers": answers[letter](records) if letter in answers else [],
        "goal": threshold(gathered.source),
        "errors": charts.errors(seen) if seen else None,
        "flipped": charts.flipped(flips) if letter == "D" and len(flips) == len(FLIPS) else [],
        "sweeps": [
            (sweep, *((charts.swept(sweep), sweep_table(sweep)) if isinstance(sweep, SweepRecord) else (None, None)))
            for sweep in gathered.sweeps
            if sweep.asked.assignment == letter
        ],
        "pairs": [_pair(pair, by_name) for pair in gathered.pairs if pair.asked.assignment == letter],
        "seen": count_seen([pair for pair in gathered.pairs if isinstance(pair, PairRecord)]),
        "entries": [(entry, rows[entry.name]) for entry in gathered.entries if entry.asked.assignment == letter],
        "sparklines": {record.name: charts.sparkline(record) for record in own},
        "detail": detail,
        "confusion": read_confusion(detail) if detail else None,
        "tolerance": TOLERANCE,
    }


def experiment_page(gathered: Gathered, rows: Rows, record: Record, shown: Mapping[str, Picture]) -> dict[str, Any]:
    """Tell everything of one experiment.

    Args:
        gathered: of the whole run.
        rows: of the results, by experiment.
        record: of the experiment.
        shown: its pictures, by kind.

    Raises:
        DataError: its confusion counts are missing or damaged.
    """
    counts = read_confusion(record)
    metrics = record.card["metrics"]
    seeded = gathered.seeded.get(record.name)
    return {
        "record": record,
        "row": rows[record.name],
        "reported": tell_reported(record.asked.reported),
        "learning": charts.learning(record),
        "watched": charts.watched(record),
        "history": _printable(record.history),
        "confusion": counts,
        "confused": _confused(counts),
        "unit": "points" if record.asked.task == "plane" else "pixels" if record.asked.task == "segmentation" else "images",
        "classes": _classes(counts, metrics, record.asked.reported.test_accuracy_per_class if _official(gathered) else None),
        "reliability": charts.reliability(record),
        "boundary": tell_boundary(metrics) if "boundary_pieces" in metrics else None,
        "pictures": shown,
        "trust": gathered.explained.get(record.name),
        "seeded": seeded,
        "among_seeds": judge_seeds(record.asked.reported, seeded["test_accuracy"]) if seeded and _official(gathered) else None,
        "settings": _settings(record),
        "layers": record.card["layers"],
        "neighbours": _neighbours(gathered.records, record),
    }


def compared(gathered: Gathered, rows: Rows, shown: Mapping[str, Mapping[str, Picture]]) -> dict[str, Any]:
    """Give by experiment what the page that compares two of them shows, as data.

    Args:
        gathered: of the whole run.
        rows: of the results, by experiment.
        shown: pictures by experiment and kind.
    """
    return {
        record.name: {
            "title": record.asked.title,
            "assignment": record.asked.assignment,
            "figures": {
                "Test accuracy": record.test_accuracy,
                "Chance": record.card["metrics"]["chance_accuracy"],
                **({"Reported": rows[record.name]["reported_test_accuracy"]} if _official(gathered) else {}),
                "Train accuracy": rows[record.name]["train_accuracy"],
                "Validation accuracy": rows[record.name]["val_accuracy"],
                "Test loss": rows[record.name]["test_loss"],
                "Calibration error": rows[record.name]["test_calibration_error"],
                "Mean intersection over union": rows[record.name]["test_mean_iou"],
                "Parameters": rows[record.name]["parameters"],
                "Epochs": rows[record.name]["epochs"],
            },
            "classes": record.card["metrics"]["test_accuracy_per_class"],
            "settings": dict(_flat(record.card["settings"])),
            "learning": charts.learning(record),
            "trust": (gathered.explained.get(record.name) or {}).get("methods", {}),
            "pictures": {
                kind: {"address": one.address, "width": one.width, "height": one.height, "words": one.words}
                for kind, one in shown[record.name].items()
            },
        }
        for record in gathered.records
    }


def pictures(gathered: Gathered, record: Record, root: Path = Path()) -> dict[str, Picture]:
    """Find an experiment's pictures, by kind.

    Raises:
        DataError: one is missing.
    """
    files = {"samples": (root / record.card["metrics"]["samples"], f"evaluate@{record.name}")}
    if record.name in gathered.explained:
        files |= {kind: (root / f"plots/{kind}/{record.name}.png", f"explain@{record.name}") for kind in INSIDE}
    words = _words(record)
    return {
        kind: Picture(f"pictures/{kind}/{record.name}.png", file, *_size(file, stage), words[kind])
        for kind, (file, stage) in files.items()
    }


def _words(record: Record) -> dict[str, str]:
    name, metrics = record.name, record.card["metrics"]
    if record.asked.task == "plane":
        samples = f"Regions of both classes by {name}, with the test points: {tell_boundary(metrics)}"
    elif record.asked.task == "segmentation":
        samples = f"Test images of {name}, the actual class of every pixel, and the predicted one"
    else:
        mistakes = [f"{mistake['actual']} taken for {mistake['predicted']}" for mistake in record.card["mistakes"]]
        samples = "Misclassified test images: " + ", ".join(mistakes) if mistakes else "No test image is misclassified"
    return {
        "samples": samples,
        "filters": f"Weights of the first layer of {name}, as pictures",
        "activations": f"Filters of {name} above what they make of one image, and the activations of its last layer",
        "attributions": f"Test images of {name}, and by method how much each pixel counts for what is said of them",
    }


def _size(file: Path, stage: str) -> tuple[int, int]:
    """Read width and height from a PNG, where they stand at a fixed place, so that pages need not move while they load."""
    width, height = struct.unpack(">II", read_bytes(file, f"Run `dvc repro {stage}`.")[16:24])
    return width, height


def _official(gathered: Gathered) -> bool:
    return gathered.source == "official"


def _datasets(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Name each dataset that was used once: its images, its classes, and its largest training split."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        card = record.card
        entry = found.setdefault(card["dataset"], {**card["samples"], "name": card["dataset"], "experiments": 0})
        entry |= {key: max(entry[key], card["samples"][key]) for key in ("train", "val")}
        entry |= {"classes": len(card["classes"]), "shape": card["image_shape"], "experiments": entry["experiments"] + 1}
    return list(found.values())


def _pair(pair: PairRecord | PendingPair, by_name: Mapping[str, Record]) -> dict[str, Any]:
    members = [by_name[name] for name in (pair.asked.first, pair.asked.second) if name in by_name]
    shown = [[*charts.learning(record), *charts.watched(record)] for record in members]
    return {
        "pair": pair,
        "told": tell_pair(pair) if isinstance(pair, PairRecord) else None,
        "members": members,
        "charts": charts.together(*shown) if len(shown) == 2 else [],
    }


def _confused(counts: pd.DataFrame) -> list[dict[str, Any]]:
    """Give the pairs of classes that are confused most often, as shares of the actual class."""
    values, classes = counts.to_numpy(), list(counts.index)
    wrong = np.where(np.eye(len(values), dtype=bool), 0, values)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED]
    places = [divmod(int(place), len(values)) for place in order]
    return [
        {
            "actual": classes[row],
            "predicted": classes[column],
            "count": int(wrong[row, column]),
            "share": wrong[row, column] / values[row].sum(),
        }
        for row, column in places
        if wrong[row, column]
    ]


def _classes(counts: pd.DataFrame, metrics: dict[str, Any], reported: dict[str, float] | None) -> list[dict[str, Any]]:
    """Give the figures of each class: recall is what is called accuracy by class."""
    values = counts.to_numpy()
    predicted = values.sum(axis=0)
    return [
        {
            "name": name,
            "samples": int(values[place].sum()),
            "accuracy": metrics["test_accuracy_per_class"][name],
            "precision": values[place, place] / predicted[place] if predicted[place] else None,
            "iou": metrics.get("test_iou_per_class", {}).get(name),
            "reported": (reported or {}).get(name),
        }
        for place, name in enumerate(counts.index)
    ]


def _printable(history: pd.DataFrame) -> pd.DataFrame:
    """Choose the columns that hold anything, and print their figures."""
    shown = history.dropna(axis="columns", how="all")
    return pd.DataFrame(
        {name: ["" if pd.isna(value) else f"{value:.6g}" for value in column] for name, column in shown.items()}
    )


def _settings(record: Record) -> list[tuple[str, str, str]]:
    """Give each setting of the run, and what it is on official data."""
    asked = record.asked.train.on("official")
    own = dict(_flat(record.card["settings"]))
    official = dict(_flat(asked.model_dump(exclude_none=True, exclude={"processes"} if asked.processes == 1 else None)))
    unsaid = defaultdict(lambda: "–", processes="1")
    return [(key, own.get(key, unsaid[key]), official.get(key, unsaid[key])) for key in dict.fromkeys([*own, *official])]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name settings as `dvc exp run -S` does; what is empty says nothing."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in ([], {}, None):
            yield f"{prefix}{key}", json.dumps(value).replace('"', "")


def _neighbours(records: Sequence[Record], record: Record) -> tuple[Record | None, Record | None]:
    place = [other.name for other in records].index(record.name)
    return (records[place - 1] if place else None, records[place + 1] if place + 1 < len(records) else None)
