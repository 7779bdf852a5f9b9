"""Data of the comparison page: the results of each experiment, and statistical tests of each pair with the same test set."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.evaluation.ledger import read_arrays
from labbook.report import charts
from labbook.report.differences import difference_of
from labbook.report.pictures import Picture
from labbook.report.records import Gathered, Record, assignment_letter
from labbook.statistics import mcnemar_exact

__all__ = ["compare_data", "compare_pairs", "flatten_settings"]


def compare_data(
    gathered: Gathered, rows: Mapping[str, dict[str, Any]], pictures: Mapping[str, Mapping[str, Picture]]
) -> dict[str, Any]:
    """Return the data of each experiment, by name.

    Args:
        gathered: all results.
        rows: rows of the table of results, by experiment.
        pictures: pictures, by experiment and kind.
    """
    return {
        record.name: {
            "title": record.spec.title,
            "assignment": assignment_letter(record.spec.assignment),
            "metrics": _metrics(record, rows[record.name], official=gathered.source == "official"),
            "classes": record.card["metrics"]["test_accuracy_per_class"],
            "settings": dict(flatten_settings(record.settings)),
            "learning": charts.learning_curves(record),
            "attribution_quality": (gathered.explained.get(record.name) or {}).get("methods", {}),
            "pictures": {
                kind: {"path": picture.path, "width": picture.width, "height": picture.height, "alt": picture.alt}
                for kind, picture in pictures[record.name].items()
            },
        }
        for record in gathered.records
    }


def compare_pairs(records: Sequence[Record], root: Path = Path()) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the statistical tests of each pair of experiments with the same test set, by first and second name.

    `difference` is the difference of the mean test accuracies with its 95% interval, if both have several seeds. `mcnemar` is
    McNemar's exact test of the predictions of the first seeds, if both have predictions.

    Raises:
        DataError: predictions are damaged.
    """
    first_seeds = {record.name: _first_seed(record, root) for record in records}
    pairs: dict[str, dict[str, dict[str, Any]]] = {record.name: {} for record in records}
    for first, second in combinations(records, 2):
        if first.card["digest"] == second.card["digest"]:
            tests = {
                "difference": _difference(first, second),
                "mcnemar": _mcnemar(first_seeds[first.name], first_seeds[second.name]),
            }
            pairs[first.name][second.name] = {key: value for key, value in tests.items() if value}
    return pairs


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield settings with dotted keys, as in `dvc exp run -S`; skip empty ones."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten_settings(value, f"{prefix}{key}.")
        elif value not in ([], {}, None):
            yield f"{prefix}{key}", json.dumps(value).replace('"', "")


def _metrics(record: Record, row: Mapping[str, Any], *, official: bool) -> dict[str, Any]:
    return {
        "Test accuracy": record.test_accuracy,
        "Standard deviation over seeds": record.deviation("test_accuracy"),
        "Seeds": len(record.seeds),
        "Chance": row["chance"],
        **({"Reported": row["reported_test_accuracy"]} if official else {}),
        "Train accuracy": row["train_accuracy"],
        "Validation accuracy": row["val_accuracy"],
        "Test loss": row["test_loss"],
        "Calibration error": row["test_ece"],
        "Mean intersection over union": row["test_miou"],
        "Parameters": row["parameters"],
        "Epochs": row["epochs"],
    }


def _difference(first: Record, second: Record) -> dict[str, Any] | None:
    paired = list(first.histories) == list(second.histories)
    measured = difference_of(first.values("test_accuracy"), second.values("test_accuracy"), paired=paired)
    return {"mean": measured.mean, "low": measured.low, "high": measured.high, "paired": paired} if measured else None


def _mcnemar(first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None) -> dict[str, Any] | None:
    """Count the samples that exactly one of two classifiers gets right, and test whether both are equally accurate."""
    if first is None or second is None:
        return None
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return {"first": only_first, "second": only_second, "p": float(f"{mcnemar_exact(only_first, only_second):.4g}")}


def _first_seed(record: Record, root: Path) -> NDArray[np.bool_] | None:
    """Return for each test sample whether the first seed classifies it correctly; `None` for segmentation."""
    predictions = record.predictions or _read_predictions(record.name, root)
    if not {"labels", "predicted"} <= predictions.keys():
        return None
    correct: NDArray[np.bool_] = predictions["predicted"][0] == predictions["labels"]
    return correct


def _read_predictions(name: str, root: Path) -> Mapping[str, NDArray[Any]]:
    """Read the predictions of the evaluate stage, if they exist."""
    path = root / f"models/cards/{name}/predictions.npz"
    return read_arrays(path, f"Run `dvc repro evaluate@{name}`.") if path.is_file() else {}
