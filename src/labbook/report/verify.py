"""Recompute the official results from the stored predictions and compare them: labbook verify."""

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labbook.config.reading import PARAMS, read
from labbook.errors import DataError
from labbook.evaluation.ledger import LEDGER, SUFFIXES, SWEEPS, Entry, find_changed_parts, names, read_entry
from labbook.evaluation.predictions import recompute_diagnostics, recompute_metrics
from labbook.io import read_bytes
from labbook.report.cells import compare_tables
from labbook.report.outdated import CurrentState
from labbook.report.results import gather_ledger, tables

__all__ = ["Findings", "add_arguments", "check_experiment", "check_history", "check_tables", "main", "verify"]

Check = Callable[[Entry, Path], Iterable[str]]
Changes = Callable[[Entry], Iterable[str]]

BEST = {"best_val_loss": ("val_loss", min), "best_val_accuracy": ("val_accuracy", max)}  # column and function of each `select`
DAMAGE_ERRORS = (
    KeyError,
    TypeError,
    IndexError,
    ValueError,
    AttributeError,
    ArithmeticError,
)  # errors that a damaged entry may cause
ADVICE = (
    "Restore edited files with `git checkout`, or run the experiment again with data.source=official. Then run "
    "`labbook results`."
)


@dataclass
class Findings:
    """The result of checking the ledger.

    Attributes:
        disagreements: one line per disagreement.
        outdated: one line per setting, module or package that has changed since, by entry.
        entries: number of readable entries.
    """

    disagreements: list[str] = field(default_factory=list)
    outdated: dict[str, list[str]] = field(default_factory=dict)
    entries: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labbook verify`."""
    parser.add_argument("--strict", action="store_true", help="also exit with 1 if a result is outdated")
    parser.epilog = (
        "Every entry of results/official/ is compared with its checksums, predictions and history, and the generated tables "
        "with the entries. Results whose settings, code, data or packages have changed since are listed as outdated. The "
        "command needs neither data nor torch."
    )


def main(arguments: argparse.Namespace) -> None:
    """Check the ledger; exit with 1 if anything disagrees."""
    findings = verify()
    for name, lines in findings.outdated.items():
        print(f"outdated: settings, code, data or packages of {name} have changed since its entry was written:")
        print("".join(f"  {line}\n" for line in lines), end="")
    for line in findings.disagreements:
        print(f"disagreement: {line}")
    print(
        f"{LEDGER}: {findings.entries} entries, {len(findings.disagreements)} disagreements, {len(findings.outdated)} outdated"
    )
    if findings.disagreements:
        print(ADVICE)
    if findings.disagreements or (arguments.strict and findings.outdated):
        sys.exit(1)


def verify() -> Findings:
    """Check every entry of the ledger in the working directory, and every table that is generated from them.

    Raises:
        LabbookError: `params.yaml` or the code of the project cannot be read.
    """
    findings = Findings()
    current = CurrentState(read(PARAMS))
    checks: tuple[tuple[Path, Check, Changes], ...] = (
        (LEDGER, check_experiment, current.changes_to_experiment),
        (SWEEPS, find_changed_parts, current.changes_to_sweep),
    )
    for folder, check, changes in checks:
        findings.disagreements += [f"{path}: {path.stem}.json not found beside it" for path in _orphans(folder)]
        for name in names(folder):
            try:
                entry = read_entry(name, folder)
                findings.disagreements += check(entry, folder / name)
                lines = list(changes(entry))
            except DataError as error:
                findings.disagreements.append(str(error))
                continue
            except DAMAGE_ERRORS as error:
                findings.disagreements.append(f"{folder / name}.json: damaged, not a ledger entry ({error!r})")
                continue
            findings.entries += 1
            findings.outdated |= {name: lines} if lines else {}
    try:
        findings.disagreements += check_tables()
    except DAMAGE_ERRORS:
        if not findings.disagreements:
            raise
        findings.disagreements.append("the tables cannot be compared, because they cannot be generated from these entries")
    return findings


def check_experiment(entry: Entry, path: Path) -> list[str]:
    """Return one line per disagreement within the entry of an experiment.

    Args:
        entry: the entry.
        path: path of its files without suffix, for messages.
    """
    return [*find_changed_parts(entry, path), *_check_metrics(entry, path), *check_history(entry, path)]


def check_tables() -> list[str]:
    """Return one line per cell of a generated table that differs from the ledger."""
    try:
        project, gathered = gather_ledger(check=False)
        expected = tables(project, gathered)
        texts = {path: read_bytes(path, "Run `labbook results`.").decode() for path in expected}
    except DataError as error:
        return [str(error)]
    return [line for path, text in expected.items() for line in compare_tables(path, texts[path], text)]


def _orphans(folder: Path) -> list[Path]:
    expected = {f"{name}{suffix}" for name in names(folder) for suffix in SUFFIXES}
    return sorted(path for path in folder.glob("*.*") if path.suffix in (".npz", ".tsv") and path.name not in expected)


def _check_metrics(entry: Entry, path: Path) -> Iterator[str]:
    """Recompute the metrics of every seed, and the details of the first seed on the card."""
    values, seeds = entry.values, entry.values["seeds"]
    for array, predictions in entry.predictions.items():
        if array != "labels" and len(predictions) != len(seeds):
            yield f"{path}.npz, array {array}: predictions of {len(predictions)} seeds, but the card has {len(seeds)}"
            return
    for index, seed in enumerate(seeds):
        computed = recompute_metrics(entry.predictions, index, values["classes"])
        stored_metrics = {key: seed["test"].get(key) for key in computed}
        yield from _compare(f"{path}.json, seed {seed['seed']}, test", stored_metrics, computed)
    yield from _compare(f"{path}.json, metrics", values["metrics"], seeds[0]["test"])
    for key, diagnostics in recompute_diagnostics(entry.predictions, values["settings"]["task"], values["classes"]).items():
        yield from _compare(f"{path}.json, {key}", values[key], diagnostics)


def _compare(location: str, stored: Any, computed: Any) -> Iterator[str]:
    """Yield one line per difference between nested values."""
    if isinstance(stored, Mapping) and isinstance(computed, Mapping) and stored.keys() == computed.keys():
        for key in stored:
            yield from _compare(f"{location}.{key}", stored[key], computed[key])
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        for index, (stored_item, computed_item) in enumerate(zip(stored, computed, strict=True)):
            yield from _compare(f"{location}[{index}]", stored_item, computed_item)
    elif stored != computed:
        yield f"{location}: {stored}, but {computed} computed from the predictions"


def check_history(entry: Entry, path: Path) -> Iterator[str]:
    """Yield one line per disagreement between the summary of a seed and its history.

    See `check_experiment` for the arguments.
    """
    rows = list(csv.DictReader(io.StringIO(entry.history), delimiter="\t"))
    seeds = {str(seed["seed"]): seed for seed in entry.values["seeds"]}
    if list(dict.fromkeys(row["seed"] for row in rows)) != list(seeds):
        yield f"{path}.tsv, column seed: differs from the seeds in {path.name}.json"
        return
    for name, seed in seeds.items():
        seed_rows = [row for row in rows if row["seed"] == name]
        index = seed["kept"]["row"]
        location = f"{path}.tsv, seed {name}, row {index}"
        expected = {"val_loss": seed["val_loss"], "val_accuracy": seed["val_accuracy"], **seed["kept"]}
        for column in ("epoch", "step", "val_loss", "val_accuracy"):
            if expected[column] is not None and float(seed_rows[index][column]) != expected[column]:
                yield f"{location}, column {column}: {seed_rows[index][column]}, but {expected[column]} in {path.name}.json"
        select = entry.values["settings"]["select"]
        if select in BEST:
            column, best = BEST[select]
            value = best(float(row[column]) for row in seed_rows)
            if float(seed_rows[index][column]) != value:
                yield f"{location}, column {column}: {seed_rows[index][column]} of the selected weights; the best is {value}"
        elif index != len(seed_rows) - 1:
            yield f"{location}: expected the weights after the last row to be selected"
