"""Read the results of one data source: for official data from the ledger, for embedded data from the outputs of the stages.

Names come from `params.yaml`, not from the folders, so files of a removed experiment are ignored.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from labbook.config.project import Project
from labbook.config.sweep import variants
from labbook.config.train import resolve
from labbook.errors import DataError
from labbook.evaluation.ledger import LEDGER, SWEEPS, Entry, find_changed_parts, read_entry
from labbook.io import read_bytes, read_json
from labbook.report.records import (
    Earlier,
    Gathered,
    Pending,
    PendingSweep,
    Record,
    SweepRecord,
    parse_table,
)

__all__ = ["EARLIER_ROWS", "gather", "gather_all", "gather_explained", "gather_sweeps", "gather_timing"]

EARLIER_ROWS = Path("results/earlier.csv")  # single runs by earlier versions of the code; not generated

CARD = (
    "source", "dataset", "digest", "device", "torch", "parameters", "classes", "image_shape", "samples", "settings", "seeds",
    "metrics", "mistakes", "reliability", "layers",
)  # fmt: skip
HISTORY = (
    "seed", "epoch", "step", *(f"{split}_{metric}" for split in ("train", "val", "test") for metric in ("loss", "accuracy"))
)  # fmt: skip
SWEEP = ("source", "value", "train_accuracy", "test_loss", "test_accuracy")
EXPLAINED = ("source", "samples", "notes", "methods")
TIMING = ("source", "seconds", "seconds_per_training", "seconds_per_epoch", "finished", "processor", "cores", "python")


def gather_all(values: dict[str, Any], project: Project, root: Path = Path(), *, check: bool = True) -> Gathered:
    """Read the results of the other stages.

    Args:
        values: content of `params.yaml`.
        project: the same, validated.
        root: root folder of the project.
        check: whether to reject edited ledger entries.

    Raises:
        DataError: a file is missing or damaged.
    """
    entries, sweeps = gather(values, project, root, check=check), gather_sweeps(values, project, root, check=check)
    with_pictures = {entry.name for entry in entries if isinstance(entry, Record) and entry.has_pictures}
    explained = {name: metrics for name, metrics in gather_explained(project, root).items() if name in with_pictures}
    return Gathered(project.source, entries, sweeps, explained)


def gather(values: dict[str, Any], project: Project, root: Path = Path(), *, check: bool = True) -> list[Record | Pending]:
    """Read cards, histories and predictions, in the order of `params.yaml`.

    An experiment that was not run on this data source is returned as pending.

    Raises:
        DataError: a file is damaged, or card and history are from different runs.
    """
    earlier = _earlier_rows(root) if project.source == "official" else {}
    entries: list[Record | Pending] = []
    for name, experiment in project.experiments.items():
        result = (
            _from_ledger(name, root, check=check) if project.source == "official" else _from_stages(name, project.source, root)
        )
        if result is None:
            entries.append(Earlier(name, experiment, earlier[name]) if name in earlier else Pending(name, experiment))
            continue
        official = resolve(values, f"experiments.{name}", "official").settings.model_dump(exclude_none=True)
        origins = resolve(values, f"experiments.{name}", project.source).origins
        entries.append(Record(name, experiment, official, origins, **result))
    return entries


def _from_stages(name: str, source: str, root: Path) -> dict[str, Any] | None:
    """Return card and histories from the outputs of the stages; `None` if they are missing or from another data source."""
    fix = f"Run `dvc repro evaluate@{name}`."
    path, curves = root / f"models/cards/{name}/card.json", root / f"plots/history/{name}.tsv"
    card = read_json(path, CARD, fix) if path.is_file() else None
    if card is None or card["source"] != source:
        return None
    histories = _by_seed(parse_table(read_bytes(curves, fix), curves, HISTORY, fix))
    if not _match(card["seeds"], histories):
        raise DataError(f"{path}: from a different run than {curves}. {fix}")
    return {"card": card, "histories": histories}


def _from_ledger(name: str, root: Path, *, check: bool) -> dict[str, Any] | None:
    """Return card, histories and predictions of a ledger entry; `None` if it does not exist."""
    path = root / LEDGER / f"{name}.json"
    if not path.is_file():
        return None
    fix = "Run `labbook verify` to list all disagreements."
    card = read_json(path, CARD, fix)
    entry = _read_entry(name, root / LEDGER, check=check)
    histories = _by_seed(parse_table(entry.history.encode(), path.with_suffix(".tsv"), HISTORY, fix))
    if not _match(card["seeds"], histories):
        raise DataError(f"{path}: from a different run than {path.with_suffix('.tsv')}. {fix}")
    last_card = root / f"models/cards/{name}/card.json"
    last = read_json(last_card, CARD, f"Run `dvc repro evaluate@{name}`.") if last_card.is_file() else None
    is_last_run = last is not None and all(card.get(key) == value for key, value in last.items())
    return {"card": card, "histories": histories, "predictions": entry.predictions, "has_pictures": is_last_run}


def _read_entry(name: str, folder: Path, *, check: bool) -> Entry:
    """Read a ledger entry; with `check`, reject an edited one."""
    entry = read_entry(name, folder)
    changed = find_changed_parts(entry, folder / name) if check else []
    if changed:
        raise DataError(f"{changed[0]}. Run `labbook verify` to list all disagreements.")
    return entry


def _earlier_rows(root: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of earlier versions that have a test accuracy, by experiment."""
    path = root / EARLIER_ROWS
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{key: value or None for key, value in row.items()} for row in csv.DictReader(file)]
    return {str(row["experiment"]): row for row in rows if row["test_accuracy"]}


def _by_seed(history: pd.DataFrame) -> dict[int, pd.DataFrame]:
    seeds = history["seed"].unique().tolist()
    return {seed: history[history["seed"] == seed].reset_index(drop=True) for seed in seeds}


def _match(seeds: Sequence[Mapping[str, Any]], histories: Mapping[int, pd.DataFrame]) -> bool:
    """Return whether the histories agree with the summaries in seeds, selected rows and lengths."""
    if [seed["seed"] for seed in seeds] != list(histories):
        return False
    for seed in seeds:
        rows, selected = histories[seed["seed"]], seed["kept"]
        if not 0 <= selected["row"] < len(rows) or rows["epoch"].iloc[-1] != seed["epochs_trained"]:
            return False
        if any(rows[key].iloc[selected["row"]] != selected[key] for key in ("epoch", "step")):
            return False
    return True


def gather_sweeps(
    values: dict[str, Any], project: Project, root: Path = Path(), *, check: bool = True
) -> list[SweepRecord | PendingSweep]:
    """Read every sweep, in the order of `params.yaml`; a sweep that was not run on this data source is pending.

    Raises:
        DataError: a file is damaged.
    """
    entries: list[SweepRecord | PendingSweep] = []
    for name, sweep in project.sweeps.items():
        folder, fix = root / (SWEEPS if project.source == "official" else "plots/sweeps"), f"Run `dvc repro sweep@{name}`."
        path = folder / f"{name}.tsv"
        rows = parse_table(read_bytes(path, fix), path, SWEEP, fix) if path.is_file() else None
        if rows is not None and project.source == "official":
            _read_entry(name, folder, check=check)
        if rows is None or (rows["source"] != project.source).any():
            entries.append(PendingSweep(name, sweep))
        else:
            (_, settings), *_ = variants(values, name, sweep, project.source)
            entries.append(SweepRecord(name, sweep, settings.epochs, rows))
    return entries


def gather_explained(project: Project, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """Read the quality of the attributions of each experiment that was explained on this data source.

    Raises:
        DataError: a file is damaged.
    """
    paths = {name: root / f"models/explained/{name}/explained.json" for name in project.explain}
    return _read_for_source(project, paths, EXPLAINED, "Run `dvc repro explain@{name}`.")


def gather_timing(project: Project, root: Path = Path()) -> dict[str, dict[str, Any]]:
    """Read training times, date and machine of every experiment and sweep that was run on this data source.

    Raises:
        DataError: a file is damaged.
    """
    if project.source == "official":
        folders = [*((name, LEDGER) for name in project.experiments), *((name, SWEEPS) for name in project.sweeps)]
        runs = {
            name: read_json(root / folder / f"{name}.json", ("run",), "Run `labbook verify`.")["run"]
            for name, folder in folders
            if (root / folder / f"{name}.json").is_file()
        }
        return {name: run for name, run in runs.items() if set(run) >= set(TIMING) - {"source"}}
    paths = {name: root / f"timing/{name}.json" for name in (*project.experiments, *project.sweeps)}
    return _read_for_source(project, paths, TIMING, "Delete it; it contains only the seconds of the last training.")


def _read_for_source(project: Project, paths: Mapping[str, Path], keys: Sequence[str], fix: str) -> dict[str, dict[str, Any]]:
    """Read the files that exist and belong to this data source, by name."""
    entries = {}
    for name, path in paths.items():
        entry = read_json(path, keys, fix.format(name=name)) if path.is_file() else None
        if entry and entry["source"] == project.source:
            entries[name] = entry
    return entries
