"""Data structures of the report: one record per experiment and sweep of `params.yaml`."""

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from labbook.config.project import Experiment
from labbook.config.sweep import Sweep
from labbook.errors import DataError
from labbook.evaluation.ledger import read_arrays
from labbook.evaluation.predictions import recompute_confusion
from labbook.io import read_bytes
from labbook.plots.curves import Curves
from labbook.report.assignments import OVERVIEW

__all__ = [
    "Earlier",
    "Gathered",
    "Pending",
    "PendingSweep",
    "Record",
    "SweepRecord",
    "assignment_letter",
    "overview_records",
    "parse_table",
    "read_confusion",
    "read_predictions",
]  # fmt: skip

DIGITS = 6  # decimals of a metric


@dataclass(frozen=True)
class Record:
    """An experiment that was run.

    Its result is the mean over its seeds. Results that cannot be averaged, such as charts and confusion counts, come from the
    first seed.

    Attributes:
        name: name of the experiment.
        spec: its block in `params.yaml`.
        official: its settings on official data.
        origins: the block of `params.yaml` that sets each dotted key of its settings.
        card: output of the evaluate stage, with a summary of the training, metrics of each seed, mistakes and layers.
        histories: one table per seed, one row per validation.
        predictions: arrays of a ledger entry, by name; otherwise empty, see `read_predictions`.
        has_pictures: whether the pictures of this run exist on this machine; a ledger entry may come from another one.
    """

    name: str
    spec: Experiment
    official: Mapping[str, Any]
    origins: Mapping[str, str]
    card: Mapping[str, Any]
    histories: Mapping[int, pd.DataFrame]
    predictions: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    has_pictures: bool = True

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of the training."""
        return self.card["settings"]  # type: ignore[no-any-return]

    @property
    def seeds(self) -> list[dict[str, Any]]:
        """Return the summary of each seed, with its test metrics below `test`."""
        return self.card["seeds"]  # type: ignore[no-any-return]

    @property
    def history(self) -> pd.DataFrame:
        """Return the history of the first seed."""
        return self.histories[self.seeds[0]["seed"]]

    @property
    def selected(self) -> dict[str, float]:
        """Return the row of `history` whose weights were selected."""
        row = self.history.iloc[self.seeds[0]["kept"]["row"]]
        return {str(column): value for column, value in row.to_dict().items()}

    @cached_property
    def curves(self) -> Curves:
        """Return the learning curves of the first seed."""
        first = self.seeds[0]
        selected = None if self.settings["select"] == "last" else int(first["kept"]["row"])
        return Curves(self.name, self.history, selected, first.get("watched", ()))

    @property
    def test_accuracy(self) -> float:
        """Return the mean test accuracy."""
        return _mean(self.values("test_accuracy"))

    def values(self, metric: str) -> list[float]:
        """Return a metric of each seed, from its summary or test metrics; empty if a seed lacks it."""
        values = [{**seed, **seed["test"]}.get(metric) for seed in self.seeds]
        known = [value for value in values if value is not None]
        return known if len(known) == len(values) else []

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric over the seeds, to six decimals."""
        values = self.values(metric)
        return _mean(values) if values else None

    def deviation(self, metric: str) -> float | None:
        """Return the standard deviation (n - 1) of a metric over the seeds, to six decimals; `None` for one seed."""
        values = self.values(metric)
        return round(statistics.stdev(values), DIGITS) if len(values) > 1 else None


@dataclass(frozen=True)
class Pending:
    """An experiment that has not been run on this data source."""

    name: str
    spec: Experiment


@dataclass(frozen=True)
class Earlier(Pending):
    """An experiment without a ledger entry that was run once by an earlier version of the code.

    Attributes:
        row: its row of `results/earlier.csv`, by column; empty cells are `None`.
    """

    row: Mapping[str, Any]

    @property
    def test_accuracy(self) -> float:
        """Return the test accuracy of that run."""
        return float(self.row["test_accuracy"])


@dataclass(frozen=True)
class SweepRecord:
    """A sweep that was run.

    Attributes:
        name: name of the sweep.
        spec: its block in `params.yaml`.
        epochs: number of epochs of each training.
        rows: one row per value.
    """

    name: str
    spec: Sweep
    epochs: int
    rows: pd.DataFrame


@dataclass(frozen=True)
class PendingSweep:
    """A sweep that has not been run on this data source."""

    name: str
    spec: Sweep


@dataclass(frozen=True)
class Gathered:
    """All results of one data source, in the order of `params.yaml`.

    Attributes:
        source: data source, `embedded` or `official`.
        entries: the experiments.
        sweeps: the sweeps.
        explained: quality of attributions, by experiment.
    """

    source: str
    entries: Sequence[Record | Pending]
    sweeps: Sequence[SweepRecord | PendingSweep] = ()
    explained: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """Return the experiments that were run."""
        return [entry for entry in self.entries if isinstance(entry, Record)]

    @property
    def by_name(self) -> dict[str, Record]:
        """Return the experiments that were run, by name."""
        return {record.name: record for record in self.records}


def read_confusion(record: Record, root: Path = Path()) -> pd.DataFrame:
    """Return the confusion counts of the first seed: one row per actual class, one column per predicted class.

    They are counted from the predictions, or read from `plots/confusion/` if the record has none.

    Raises:
        DataError: the file is missing or damaged, or its classes are not those of the card.
    """
    classes = list(record.card["metrics"]["test_accuracy_per_class"])
    if record.predictions:
        return pd.DataFrame(recompute_confusion(record.predictions, 0, classes), index=classes, columns=classes)
    path, fix = root / f"plots/confusion/{record.name}.csv", f"Run `dvc repro evaluate@{record.name}`."
    counts = parse_table(read_bytes(path, fix), path, ("actual", "predicted", "count"), fix, separator=",")
    if list(dict.fromkeys(counts["actual"])) != classes or len(counts) != len(classes) ** 2:
        raise DataError(f"{path}: damaged, or from a different run than its card, which has {len(classes)} classes. {fix}")
    return pd.DataFrame(counts["count"].to_numpy().reshape(len(classes), -1), index=classes, columns=classes)


def read_predictions(record: Record, root: Path = Path()) -> Mapping[str, NDArray[Any]]:
    """Return the predictions of all seeds by array name, from the ledger or from the output of the evaluate stage.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = root / f"models/cards/{record.name}/predictions.npz"
    return record.predictions or read_arrays(path, f"Run `dvc repro evaluate@{record.name}`.")


def assignment_letter(assignment: str) -> str:
    """Return the letter of an assignment's page, such as A for `A_principles`."""
    return assignment[0]


def overview_records(records: Sequence[Record]) -> list[Record]:
    """Return the records whose test curves are drawn in one figure."""
    members = [record for record in records if assignment_letter(record.spec.assignment) == OVERVIEW]
    return [record for record in members if record.history["test_accuracy"].notna().any()]


def parse_table(content: bytes, path: Path, columns: Sequence[str], fix: str, separator: str = "\t") -> pd.DataFrame:
    """Parse a table that must have at least `columns`; `fix` is the advice in the error message.

    Raises:
        DataError: the content is not a table, is empty, or lacks a column.
    """
    text = dict.fromkeys(("actual", "predicted"), "str")  # names of classes, which may be digits
    try:
        table = pd.read_csv(io.BytesIO(content), sep=separator, dtype=text, keep_default_na=separator == "\t")
    except ValueError as error:
        raise DataError(f"{path}: damaged, not a table ({error}). {fix}") from error
    missing = [column for column in columns if column not in table]
    if missing or table.empty:
        raise DataError(f"{path}: damaged, no {', '.join(missing) or 'rows'} found. {fix}")
    return table


def _mean(values: Sequence[float]) -> float:
    return round(math.fsum(values) / len(values), DIGITS)
