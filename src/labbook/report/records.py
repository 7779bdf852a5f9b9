"""Gather what was measured: for each experiment of `params.yaml` its card and its history, for each sweep its rows.

The walk goes over `params.yaml` and never over folders: what a removed experiment left behind stays out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from labbook.errors import DataError
from labbook.files import read_json
from labbook.params.project import Experiment, Project
from labbook.params.sweep import Sweep

__all__ = ["Record", "SweepRecord", "gather", "gather_sweeps", "gather_timing"]


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
        DataError: one is missing or damaged.
    """
    return [
        Record(
            name,
            experiment,
            read_json(root / f"models/cards/{name}.json", f"Run `dvc repro evaluate@{name}`."),
            _read_tsv(root / f"plots/history/{name}.tsv", f"Run `dvc repro train@{name}`."),
        )
        for name, experiment in project.experiments.items()
    ]


def gather_sweeps(project: Project, root: Path = Path()) -> list[SweepRecord]:
    """Read the rows of every sweep.

    Raises:
        DataError: a file is missing or damaged.
    """
    return [
        SweepRecord(name, sweep, _read_tsv(root / f"plots/sweeps/{name}.tsv", f"Run `dvc repro sweep@{name}`."))
        for name, sweep in project.sweeps.items()
    ]


def gather_timing(project: Project, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """Read seconds, date and machine of every experiment and sweep.

    Raises:
        DataError: a file is missing or damaged.
    """
    return {
        name: read_json(root / f"metrics/timing/{name}.json", f"Run `dvc repro train@{name}`.")
        for name in (*project.experiments, *project.sweeps)
    }


def _read_tsv(path: Path, mend: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t")
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found. {mend}") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: damaged, no table ({error}). {mend}") from error
