"""What was measured, as the report reads it: one record per experiment of `params.yaml`, and one per sweep."""

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
from labbook.evaluation.predictions import confusion_of
from labbook.io import read_bytes
from labbook.plots.curves import Curves
from labbook.report.assignments import OVERVIEW

__all__ = [
    "Earlier", "Gathered", "Pending", "PendingSweep", "Record", "SweepRecord",
    "of_overview", "page_of", "parse_table", "read_confusion", "read_predictions",
]  # fmt: skip

DIGITS = 6  # decimals of a metric


@dataclass(frozen=True)
class Record:
    """One experiment that was run.

    Its result is the mean over its seeds. Charts, confusion counts, mistakes and everything else that cannot be averaged
    belong to the first seed.

    Attributes:
        name: of the experiment.
        asked: its block in `params.yaml`.
        official: its settings on official data.
        origins: the block of `params.yaml` that sets each dotted key of its settings.
        card: what the evaluate stage wrote: the summary of the training, the metrics of each seed, mistakes, layers.
        histories: one table per seed, one row per validation.
        predictions: of the test set, by name of the array, where they come from the ledger; see `read_predictions`.
        has_pictures: whether the stages that draw left pictures of this very run here; a ledger entry of another machine has
            none.
    """

    name: str
    asked: Experiment
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
    def kept(self) -> dict[str, float]:
        """Return the row of `history` whose weights were kept."""
        row = self.history.iloc[self.seeds[0]["kept"]["row"]]
        return {str(column): value for column, value in row.to_dict().items()}

    @cached_property
    def curves(self) -> Curves:
        """Return the learning curves of the first seed."""
        first = self.seeds[0]
        kept = None if self.settings["select"] == "last" else int(first["kept"]["row"])
        return Curves(self.name, self.history, kept, first.get("watched", ()))

    @property
    def test_accuracy(self) -> float:
        """Return the mean test accuracy."""
        return _mean(self.values("test_accuracy"))

    def values(self, metric: str) -> list[float]:
        """Return a metric of each seed, from its summary or its test metrics; nothing where a seed lacks it."""
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
    """One experiment that was not yet run on this data source."""

    name: str
    asked: Experiment


@dataclass(frozen=True)
class Earlier(Pending):
    """One experiment that has no entry in the ledger, but a single run by an earlier version of the code.

    Attributes:
        row: of that run in `results/earlier.csv`, by column; what is empty there is `None`.
    """

    row: Mapping[str, Any]

    @property
    def test_accuracy(self) -> float:
        """Return the test accuracy of that run."""
        return float(self.row["test_accuracy"])


@dataclass(frozen=True)
class SweepRecord:
    """One sweep that was run.

    Attributes:
        name: of the sweep.
        asked: its block in `params.yaml`.
        epochs: length of each training.
        rows: one row per value.
    """

    name: str
    asked: Sweep
    epochs: int
    rows: pd.DataFrame


@dataclass(frozen=True)
class PendingSweep:
    """One sweep that was not yet run on this data source."""

    name: str
    asked: Sweep


@dataclass(frozen=True)
class Gathered:
    """Everything that was measured on one data source, in the order of `params.yaml`.

    Attributes:
        source: of the data, `embedded` or `official`.
        entries: the experiments.
        sweeps: the sweeps.
        explained: how far attributions can be trusted, by experiment.
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

    They are counted from the predictions, or read from `plots/confusion/` where a record has none.

    Raises:
        DataError: the file is missing, damaged or of other classes than the card.
    """
    classes = list(record.card["metrics"]["test_accuracy_per_class"])
    if record.predictions:
        return pd.DataFrame(confusion_of(record.predictions, 0, classes), index=classes, columns=classes)
    path, fix = root / f"plots/confusion/{record.name}.csv", f"Run `dvc repro evaluate@{record.name}`."
    counts = parse_table(read_bytes(path, fix), path, ("actual", "predicted", "count"), fix, separator=",")
    if list(dict.fromkeys(counts["actual"])) != classes or len(counts) != len(classes) ** 2:
        raise DataError(f"{path}: damaged, or of another run than its card, which has {len(classes)} classes. {fix}")
    return pd.DataFrame(counts["count"].to_numpy().reshape(len(classes), -1), index=classes, columns=classes)


def read_predictions(record: Record, root: Path = Path()) -> Mapping[str, NDArray[Any]]:
    """Return the predictions of all seeds by name of the array, from the ledger or from what the evaluate stage wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = root / f"models/cards/{record.name}/predictions.npz"
    return record.predictions or read_arrays(path, f"Run `dvc repro evaluate@{record.name}`.")


def page_of(assignment: str) -> str:
    """Return the letter of the page of an assignment: that of `A_principles` is A."""
    return assignment[0]


def of_overview(records: Sequence[Record]) -> list[Record]:
    """Choose the records whose test curves are drawn in one figure."""
    own = [record for record in records if page_of(record.asked.assignment) == OVERVIEW]
    return [record for record in own if record.history["test_accuracy"].notna().any()]


def parse_table(content: bytes, path: Path, columns: Sequence[str], fix: str, separator: str = "\t") -> pd.DataFrame:
    """Parse the content of a file as a table that has at least `columns`; `fix` is the advice in the message if it is not.

    Raises:
        DataError: the content is no table, is empty, or lacks a column.
    """
    text = dict.fromkeys(("actual", "predicted"), "str")  # names of classes, which may be digits
    try:
        table = pd.read_csv(io.BytesIO(content), sep=separator, dtype=text, keep_default_na=separator == "\t")
    except ValueError as error:
        raise DataError(f"{path}: damaged, not a table ({error}). {fix}") from error
    missing = [column for column in columns if column not in table]
    if missing or table.empty:
        raise DataError(f"{path}: damaged, it holds no {', '.join(missing) or 'rows'}. {fix}")
    return table


def _mean(values: Sequence[float]) -> float:
    return round(math.fsum(values) / len(values), DIGITS)
