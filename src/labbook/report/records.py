"""Gather what was measured: for each experiment of `params.yaml` its card and its history, for each sweep its rows.

The walk goes over `params.yaml` and never over folders: what a removed experiment left behind stays out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from labbook.core.errors import DataError
from labbook.core.files import read_json
from labbook.params.project import Experiment, Pair, Project
from labbook.params.sweep import Sweep

__all__ = [
    "Gathered", "PairRecord", "Pending", "PendingPair", "PendingSweep", "Record", "SweepRecord",
    "gather", "gather_all", "gather_explained", "gather_pairs", "gather_seeds", "gather_sweeps", "gather_timing", "of_overview",
    "read_confusion",
]  # fmt: skip

CARD = (
    "source", "device", "threads", "seed", "torch", "kept", "settings", "samples", "metrics", "mistakes", "layers",
    "reliability", "epochs_trained", "last", "best_epoch", "best",
)  # fmt: skip
HISTORY = ("epoch", "step", *(f"{split}_{figure}" for split in ("train", "val", "test") for figure in ("loss", "accuracy")))
SWEEP = ("source", "value", "train_accuracy", "test_loss", "test_accuracy")
EXPLAINED = ("source", "samples", "methods")
SEEDED = ("source", "test_accuracy", "test_loss", "runs")
TIMING = ("source", "seconds", "seconds_per_epoch", "finished", "processor", "cores", "python")


@dataclass(frozen=True)
class Record:
    """One experiment: what was asked and reported, and what came out.

    Attributes:
        name: of the experiment.
        asked: its block in `params.yaml`.
        card: as the evaluate stage wrote it: the run's summary, its metrics and its mistakes.
        history: a row each time training looked at its figures.
    """

    name: str
    asked: Experiment
    card: dict[str, Any]
    history: pd.DataFrame

    @property
    def test_accuracy(self) -> float:
        """Give the fraction of test samples that the kept weights classify correctly."""
        return float(self.card["metrics"]["test_accuracy"])

    @property
    def progress(self) -> str:
        """Name the column that counts the rows of the history: its epochs, or its steps where an epoch has several rows."""
        return "epoch" if self.history["epoch"].is_unique else "step"

    @property
    def kept(self) -> dict[str, float]:
        """Give the row of the history that the kept weights belong to."""
        row = _rows_with(self.history, self.card["best_epoch"], self.card["best"]).iloc[0]
        return {str(column): value for column, value in row.to_dict().items()}

    def epochs_to(self, accuracy: float) -> int | None:
        """Give the first epoch whose test accuracy is at least `accuracy`, if any."""
        reached = self.history.loc[self.history["test_accuracy"] >= accuracy, "epoch"]
        return None if reached.empty else int(reached.iloc[0])


@dataclass(frozen=True)
class Pending:
    """One experiment that was not yet run on this data source."""

    name: str
    asked: Experiment


@dataclass(frozen=True)
class SweepRecord:
    """One sweep: its block in `params.yaml` and a row a value."""

    name: str
    asked: Sweep
    rows: pd.DataFrame


@dataclass(frozen=True)
class PendingSweep:
    """One sweep that was not yet run on this data source."""

    name: str
    asked: Sweep


@dataclass(frozen=True)
class PairRecord:
    """Two experiments that were trained from several random starts.

    Attributes:
        name: of the pair.
        asked: its block in `params.yaml`.
        titles: of both experiments, by their names.
        starts: the figures of every start, by experiment and start.
    """

    name: str
    asked: Pair
    titles: dict[str, str]
    starts: dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class PendingPair:
    """One pair whose random starts were not yet run on this data source."""

    name: str
    asked: Pair


@dataclass(frozen=True)
class Gathered:
    """Everything that was measured on one data source, in the order of `params.yaml`.

    Attributes:
        source: of the data, `embedded` or `official`.
        entries: the experiments.
        sweeps: likewise.
        pairs: likewise.
        explained: how far attributions can be trusted, by experiment.
        seeded: test figures of each seed and of all together, by experiment.
    """

    source: str
    entries: Sequence[Record | Pending]
    sweeps: Sequence[SweepRecord | PendingSweep] = ()
    pairs: Sequence[PairRecord | PendingPair] = ()
    explained: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    seeded: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """Give the experiments that were run."""
        return [entry for entry in self.entries if isinstance(entry, Record)]


def gather_all(project: Project, root: Path = Path()) -> Gathered:
    """Read what the other stages measured.

    Raises:
        DataError: a file is damaged.
    """
    return Gathered(
        project.data.source,
        gather(project, root),
        gather_sweeps(project, root),
        gather_pairs(project, root),
        gather_explained(project, root),
        gather_seeds(project, root),
    )


def gather(project: Project, root: Path = Path()) -> list[Record | Pending]:
    """Read cards and histories, in the order of `params.yaml`.

    An experiment without a card, or with one of another data source, is pending: a machine need not run them all.

    Raises:
        DataError: a file is damaged, or a card and a history are of two runs.
    """
    entries: list[Record | Pending] = []
    for name, experiment in project.experiments.items():
        mend = f"Run `dvc repro evaluate@{name}`."
        path = root / f"models/cards/{name}.json"
        card = read_json(path, CARD, mend) if path.is_file() else None
        if card is None or card["source"] != project.data.source:
            entries.append(Pending(name, experiment))
            continue
        curve = root / f"plots/history/{name}.tsv"
        history = _read_table(curve, HISTORY, mend)
        last = _rows_with(history.tail(1), card["epochs_trained"], card["last"])
        if last.empty or _rows_with(history, card["best_epoch"], card["best"]).empty:
            raise DataError(f"{path}: of another run than {curve}, which lacks its last or its best row. {mend}")
        entries.append(Record(name, experiment, card, history))
    return entries


def _rows_with(history: pd.DataFrame, epoch: int, figures: dict[str, float]) -> pd.DataFrame:
    """Choose the rows of an epoch that hold these figures, which are written to six decimals and read to the last bit or so."""
    same = (history[list(figures)] - pd.Series(figures)).abs() < 1e-7
    return history[(history["epoch"] == epoch) & same.all(axis=1)]


def gather_sweeps(project: Project, root: Path = Path()) -> list[SweepRecord | PendingSweep]:
    """Read the rows of every sweep, in the order of `params.yaml`; one without any of this data source is pending.

    Raises:
        DataError: a file is damaged.
    """
    entries: list[SweepRecord | PendingSweep] = []
    for name, sweep in project.sweeps.items():
        path = root / f"plots/sweeps/{name}.tsv"
        rows = _read_table(path, SWEEP, f"Run `dvc repro sweep@{name}`.") if path.is_file() else None
        if rows is None or (rows["source"] != project.data.source).any():
            entries.append(PendingSweep(name, sweep))
        else:
            entries.append(SweepRecord(name, sweep, rows))
    return entries


def gather_pairs(project: Project, root: Path = Path()) -> list[PairRecord | PendingPair]:
    """Read the random starts of every pair, in the order of `params.yaml`; without any of this data source it is pending.

    Raises:
        DataError: a file is damaged, or of other experiments.
    """
    entries: list[PairRecord | PendingPair] = []
    for name, pair in project.pairs.items():
        path, members = root / f"metrics/pairs/{name}.json", (pair.first, pair.second)
        found = read_json(path, ("source", *members), f"Run `dvc repro pair@{name}`.") if path.is_file() else None
        if found is None or found["source"] != project.data.source:
            entries.append(PendingPair(name, pair))
        else:
            titles = {member: project.experiments[member].title for member in members}
            entries.append(PairRecord(name, pair, titles, {member: found[member] for member in members}))
    return entries


def gather_explained(project: Project, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """Read how far the attributions of each experiment can be trusted, where it was explained on this data source.

    Raises:
        DataError: a file is damaged.
    """
    return _read_own(project, {name: f"explain@{name}" for name in project.explain}, root / "metrics/explain", EXPLAINED)


def gather_seeds(project: Project, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """Read the test figures of each experiment that was trained from several seeds on this data source.

    Raises:
        DataError: a file is damaged.
    """
    return _read_own(project, {name: f"seeds@{name}" for name in project.seeds}, root / "metrics/seeds", SEEDED)


def read_confusion(record: Record, root: Path = Path()) -> pd.DataFrame:
    """Read an experiment's confusion counts: a row for each actual class, a column for each predicted one.

    Raises:
        DataError: the file is missing, damaged or of other classes than the card.
    """
    path, mend = root / record.card["metrics"]["confusion"], f"Run `dvc repro evaluate@{record.name}`."
    counts = _read_table(path, ("actual", "predicted", "count"), mend, separator=",")
    classes = list(record.card["metrics"]["test_accuracy_per_class"])
    if list(dict.fromkeys(counts["actual"])) != classes or len(counts) != len(classes) ** 2:
        raise DataError(f"{path}: damaged, or of another run than its card, which has {len(classes)} classes. {mend}")
    return pd.DataFrame(counts["count"].to_numpy().reshape(len(classes), -1), index=classes, columns=classes)


def gather_timing(project: Project, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """Read seconds, date and machine of every experiment, sweep and run of several seeds on this data source.

    Raises:
        DataError: a file is damaged.
    """
    stages = {name: f"train@{name}" for name in project.experiments} | {name: f"sweep@{name}" for name in project.sweeps}
    stages |= {f"seeds@{name}": f"seeds@{name}" for name in project.seeds}
    return _read_own(project, stages, root / "metrics/timing", TIMING)


def of_overview(records: list[Record]) -> list[Record]:
    """Choose the records whose test curves are compared in one figure: those of assignment B."""
    return [record for record in records if record.asked.assignment == "B" and record.history["test_accuracy"].notna().any()]


def _read_own(project: Project, stages: Mapping[str, str], folder: Path, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read those files of a folder that are there and of this data source, by the names that `stages` maps to their stages."""
    found = {}
    for name, stage in stages.items():
        path = folder / f"{name}.json"
        entry = read_json(path, keys, f"Run `dvc repro {stage}`.") if path.is_file() else None
        if entry and entry["source"] == project.data.source:
            found[name] = entry
    return found


def _read_table(path: Path, columns: Sequence[str], mend: str, separator: str = "\t") -> pd.DataFrame:
    text = dict.fromkeys(("actual", "predicted"), "str")  # classes, also where their names are digits
    try:
        table = pd.read_csv(path, sep=separator, dtype=text, keep_default_na=separator == "\t")
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found. {mend}") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: damaged, no table ({error}). {mend}") from error
    missing = [column for column in columns if column not in table]
    if missing or table.empty:
        raise DataError(f"{path}: damaged, it holds no {', '.join(missing) or 'rows'}. {mend}")
    return table
