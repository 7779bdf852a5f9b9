"""Gather what was measured: for each experiment of `params.yaml` its card and its history, for each sweep its rows.

The walk goes over `params.yaml` and never over folders: what a removed experiment left behind stays out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from labbook.errors import DataError
from labbook.files import read_json
from labbook.params.project import Experiment, Project
from labbook.params.sweep import Sweep

__all__ = ["Record", "SweepRecord", "gather", "gather_sweeps", "gather_timing", "with_test_curve"]

CARD = ("source", "device", "threads", "seed", "torch", "kept", "settings", "samples", "metrics", "mistakes")
HISTORY = ("epoch", *(f"{split}_{figure}" for split in ("train", "val", "test") for figure in ("loss", "accuracy")))
SWEEP = ("value", "train_accuracy", "test_loss", "test_accuracy")
TIMING = ("seconds", "seconds_per_epoch", "finished", "processor", "cores", "python")


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

    def epochs_to(self, accuracy: float) -> int | None:
        """Give the first epoch whose test accuracy is at least `accuracy`, if any."""
        reached = self.history.loc[self.history["test_accuracy"] >= accuracy, "epoch"]
        return None if reached.empty else int(reached.iloc[0])


@dataclass(frozen=True)
class SweepRecord:
    """One sweep: its block in `params.yaml` and a row a value."""

    name: str
    asked: Sweep
    rows: pd.DataFrame


def gather(project: Project, root: Path = Path()) -> list[Record]:
    """Read cards and histories, in the order of `params.yaml`.

    Raises:
        DataError: one is missing or damaged, or was measured on other data than `data.source` names.
    """
    records = []
    for name, experiment in project.experiments.items():
        mend = f"Run `dvc repro evaluate@{name}`."
        path = root / f"models/cards/{name}.json"
        card = read_json(path, CARD, mend)
        if card["source"] != project.data.source:
            raise DataError(
                f"{path}: measured on {card['source']} data, but data.source in params.yaml is {project.data.source}. {mend}"
            )
        records.append(Record(name, experiment, card, _read_table(root / f"plots/history/{name}.tsv", HISTORY, mend)))
    return records


def gather_sweeps(project: Project, root: Path = Path()) -> list[SweepRecord]:
    """Read the rows of every sweep.

    Raises:
        DataError: a file is missing or damaged.
    """
    return [
        SweepRecord(name, sweep, _read_table(root / f"plots/sweeps/{name}.tsv", SWEEP, f"Run `dvc repro sweep@{name}`."))
        for name, sweep in project.sweeps.items()
    ]


def gather_timing(project: Project, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """Read seconds, date and machine of every experiment and sweep.

    Raises:
        DataError: a file is missing or damaged.
    """
    stages = dict.fromkeys(project.experiments, "train") | dict.fromkeys(project.sweeps, "sweep")
    return {
        name: read_json(root / f"metrics/timing/{name}.json", TIMING, f"Run `dvc repro {stage}@{name}`.")
        for name, stage in stages.items()
    }


def with_test_curve(records: list[Record]) -> list[Record]:
    """Choose the records whose test curve was recorded."""
    return [record for record in records if record.history["test_accuracy"].notna().any()]


def _read_table(path: Path, columns: Sequence[str], mend: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep="\t")
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found. {mend}") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: damaged, no table ({error}). {mend}") from error
    missing = [column for column in columns if column not in table]
    if missing or table.empty:
        raise DataError(f"{path}: damaged, it holds no {', '.join(missing) or 'rows'}. {mend}")
    return table
