"""Gather what was measured: for each experiment of `params.yaml` its card and history, for each sweep its rows.

The names come from `params.yaml`, not from what the folders hold: files of an experiment that was removed are not read.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from labbook.config.project import Experiment, Project
from labbook.config.sweep import Sweep, variants
from labbook.config.train import resolve
from labbook.errors import DataError
from labbook.io import read_json
from labbook.plots.curves import Curves
from labbook.report.assignments import OVERVIEW

__all__ = [
    "Gathered", "Pending", "PendingSweep", "Record", "SweepRecord",
    "gather", "gather_all", "gather_explained", "gather_sweeps", "gather_timing", "of_overview", "page_of", "read_confusion",
]  # fmt: skip

CARD = (
    "source", "dataset", "device", "torch", "parameters", "classes", "image_shape", "samples", "settings", "seeds", "metrics",
    "mistakes", "reliability", "layers",
)  # fmt: skip
HISTORY = (
    "seed", "epoch", "step", *(f"{split}_{metric}" for split in ("train", "val", "test") for metric in ("loss", "accuracy"))
)  # fmt: skip
SWEEP = ("source", "value", "train_accuracy", "test_loss", "test_accuracy")
EXPLAINED = ("source", "samples", "notes", "methods")
TIMING = ("source", "seconds", "seconds_per_training", "seconds_per_epoch", "finished", "processor", "cores", "python")
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
    """

    name: str
    asked: Experiment
    official: Mapping[str, Any]
    origins: Mapping[str, str]
    card: Mapping[str, Any]
    histories: Mapping[int, pd.DataFrame]

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


def gather_all(values: dict[str, Any], project: Project, root: Path = Path()) -> Gathered:
    """Read what the other stages measured.

    Args:
        values: all of `params.yaml`.
        project: the same, typed.
        root: the folder of the project.

    Raises:
        DataError: a file is missing or damaged.
    """
    sweeps = gather_sweeps(values, project, root)
    return Gathered(project.source, gather(values, project, root), sweeps, gather_explained(project, root))


def gather(values: dict[str, Any], project: Project, root: Path = Path()) -> list[Record | Pending]:
    """Read cards and histories, in the order of `params.yaml`.

    An experiment without a card, or with one of another data source, is pending: nobody has to run them all.

    Raises:
        DataError: a file is damaged, or a card and a history are of different runs.
    """
    entries: list[Record | Pending] = []
    for name, experiment in project.experiments.items():
        fix = f"Run `dvc repro evaluate@{name}`."
        path = root / f"models/cards/{name}/card.json"
        card = read_json(path, CARD, fix) if path.is_file() else None
        if card is None or card["source"] != project.source:
            entries.append(Pending(name, experiment))
            continue
        curves = root / f"plots/history/{name}.tsv"
        histories = _by_seed(_read_table(curves, HISTORY, fix))
        if not _match(card["seeds"], histories):
            raise DataError(f"{path}: of another run than {curves}. {fix}")
        official = resolve(values, f"experiments.{name}", "official").settings.model_dump(exclude_none=True)
        origins = resolve(values, f"experiments.{name}", project.source).origins
        entries.append(Record(name, experiment, official, origins, card, histories))
    return entries


def _by_seed(history: pd.DataFrame) -> dict[int, pd.DataFrame]:
    seeds = history["seed"].unique().tolist()
    return {seed: history[history["seed"] == seed].reset_index(drop=True) for seed in seeds}


def _match(seeds: Sequence[Mapping[str, Any]], histories: Mapping[int, pd.DataFrame]) -> bool:
    """Return whether the histories have the seeds, the kept rows and the length that the summaries name."""
    if [seed["seed"] for seed in seeds] != list(histories):
        return False
    for seed in seeds:
        rows, kept = histories[seed["seed"]], seed["kept"]
        if not 0 <= kept["row"] < len(rows) or rows["epoch"].iloc[-1] != seed["epochs_trained"]:
            return False
        if any(rows[key].iloc[kept["row"]] != kept[key] for key in ("epoch", "step")):
            return False
    return True


def gather_sweeps(values: dict[str, Any], project: Project, root: Path = Path()) -> list[SweepRecord | PendingSweep]:
    """Read the rows of every sweep, in the order of `params.yaml`; a sweep without rows of this data source is pending.

    Raises:
        DataError: a file is damaged.
    """
    entries: list[SweepRecord | PendingSweep] = []
    for name, sweep in project.sweeps.items():
        path = root / f"plots/sweeps/{name}.tsv"
        rows = _read_table(path, SWEEP, f"Run `dvc repro sweep@{name}`.") if path.is_file() else None
        if rows is None or (rows["source"] != project.source).any():
            entries.append(PendingSweep(name, sweep))
        else:
            (_, settings), *_ = variants(values, name, sweep, project.source)
            entries.append(SweepRecord(name, sweep, settings.epochs, rows))
    return entries


def gather_explained(project: Project, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """Read how far the attributions of each experiment can be trusted, where it was explained on this data source.

    Raises:
        DataError: a file is damaged.
    """
    paths = {name: root / f"models/explained/{name}/explained.json" for name in project.explain}
    return _read_own(project, paths, EXPLAINED, "Run `dvc repro explain@{name}`.")


def gather_timing(project: Project, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """Read seconds, date and machine of every experiment and sweep on this data source, where they are known.

    Raises:
        DataError: a file is damaged.
    """
    paths = {name: root / f"timing/{name}.json" for name in (*project.experiments, *project.sweeps)}
    return _read_own(project, paths, TIMING, "Delete it: it holds nothing but the seconds of the last training.")


def read_confusion(record: Record, root: Path = Path()) -> pd.DataFrame:
    """Read the confusion counts of an experiment: one row per actual class, one column per predicted class.

    Raises:
        DataError: the file is missing, damaged or of other classes than the card.
    """
    path, fix = root / f"plots/confusion/{record.name}.csv", f"Run `dvc repro evaluate@{record.name}`."
    counts = _read_table(path, ("actual", "predicted", "count"), fix, separator=",")
    classes = list(record.card["metrics"]["test_accuracy_per_class"])
    if list(dict.fromkeys(counts["actual"])) != classes or len(counts) != len(classes) ** 2:
        raise DataError(f"{path}: damaged, or of another run than its card, which has {len(classes)} classes. {fix}")
    return pd.DataFrame(counts["count"].to_numpy().reshape(len(classes), -1), index=classes, columns=classes)


def page_of(assignment: str) -> str:
    """Return the letter of the page of an assignment: that of `A_principles` is A."""
    return assignment[0]


def of_overview(records: Sequence[Record]) -> list[Record]:
    """Choose the records whose test curves are drawn in one figure."""
    own = [record for record in records if page_of(record.asked.assignment) == OVERVIEW]
    return [record for record in own if record.history["test_accuracy"].notna().any()]


def _mean(values: Sequence[float]) -> float:
    return round(math.fsum(values) / len(values), DIGITS)


def _read_own(project: Project, paths: Mapping[str, Path], keys: Sequence[str], fix: str) -> dict[str, dict[str, Any]]:
    """Read those of the files, by name, that exist and are of this data source."""
    found = {}
    for name, path in paths.items():
        entry = read_json(path, keys, fix.format(name=name)) if path.is_file() else None
        if entry and entry["source"] == project.source:
            found[name] = entry
    return found


def _read_table(path: Path, columns: Sequence[str], fix: str, separator: str = "\t") -> pd.DataFrame:
    text = dict.fromkeys(("actual", "predicted"), "str")  # names of classes, which may be digits
    try:
        table = pd.read_csv(path, sep=separator, dtype=text, keep_default_na=separator == "\t")
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found. {fix}") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: damaged, not a table ({error}). {fix}") from error
    missing = [column for column in columns if column not in table]
    if missing or table.empty:
        raise DataError(f"{path}: damaged, it holds no {', '.join(missing) or 'rows'}. {fix}")
    return table
