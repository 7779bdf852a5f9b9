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
from labbook.evaluation.ledger import LEDGER, SUFFIXES, SWEEPS, Entry, check_sums, names, read_entry
from labbook.evaluation.predictions import metrics_of, shown_of
from labbook.io import read_bytes
from labbook.report.cells import compare_tables
from labbook.report.outdated import CurrentState
from labbook.report.results import gather_ledger, tables

__all__ = ["Findings", "add_arguments", "check_experiment", "check_history", "check_tables", "main", "verify"]

Check = Callable[[Entry, Path], Iterable[str]]
Changes = Callable[[Entry], Iterable[str]]

BEST = {"best_val_loss": ("val_loss", min), "best_val_accuracy": ("val_accuracy", max)}  # column and function of each `select`
DAMAGES = (
    KeyError,
    TypeError,
    IndexError,
    ValueError,
    AttributeError,
    ArithmeticError,
)  # errors that an edited entry may cause
ADVICE = (
    "Restore edited files with `git checkout`, or run the experiment again with data.source=official. Then run "
    "`labbook results`."
)


@dataclass
class Findings:
    """The result of checking the ledger.

    Attributes:
        wrong: one line per disagreement.
        outdated: one line per setting, module or package that has changed since, by entry.
        entries: number of readable entries.
    """

    wrong: list[str] = field(default_factory=list)
    outdated: dict[str, list[str]] = field(default_factory=dict)
    entries: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labbook verify`."""
    parser.add_argument("--strict", action="store_true", help="also exit with 1 if a result is outdated")
    parser.epilog = (
        "Every entry of results/official/ is compared with its checksums, predictions and history, and the generated tables "
        "with the entries. Results that were produced by other settings, code, data or packages than the current ones are "
        "listed as outdated. The command needs neither data nor torch."
    )


def main(arguments: argparse.Namespace) -> None:
    """Check the ledger; exit with 1 if anything disagrees."""
    found = verify()
    for name, lines in found.outdated.items():
        print(f"outdated: {name} was produced by other settings, code, data or packages than the current ones:")
        print("".join(f"  {line}\n" for line in lines), end="")
    for line in found.wrong:
        print(f"disagreement: {line}")
    print(f"{LEDGER}: {found.entries} entries, {len(found.wrong)} disagreements, {len(found.outdated)} outdated")
    if found.wrong:
        print(ADVICE)
    if found.wrong or (arguments.strict and found.outdated):
        sys.exit(1)


def verify() -> Findings:
    """Check every entry of the ledger in the working directory, and every table that is generated from them.

    Raises:
        LabbookError: `params.yaml` or the code of the project cannot be read.
    """
    found = Findings()
    today = CurrentState(read(PARAMS))
    checks: tuple[tuple[Path, Check, Changes], ...] = (
        (LEDGER, check_experiment, today.changes_to_experiment),
        (SWEEPS, check_sums, today.changes_to_sweep),
    )
    for folder, check, changes in checks:
        found.wrong += [f"{path}: {path.stem}.json not found beside it" for path in _orphans(folder)]
        for name in names(folder):
            try:
                entry = read_entry(name, folder)
                found.wrong += check(entry, folder / name)
                lines = list(changes(entry))
            except DataError as error:
                found.wrong.append(str(error))
                continue
            except DAMAGES as error:
                found.wrong.append(f"{folder / name}.json: damaged, not a ledger entry ({error!r})")
                continue
            found.entries += 1
            found.outdated |= {name: lines} if lines else {}
    try:
        found.wrong += check_tables()
    except DAMAGES:
        if not found.wrong:
            raise
        found.wrong.append("the tables cannot be compared, because they cannot be generated from these entries")
    return found


def check_experiment(entry: Entry, path: Path) -> list[str]:
    """Return one line per disagreement within the entry of an experiment.

    Args:
        entry: the entry.
        path: of its files, without suffix, for messages.
    """
    return [*check_sums(entry, path), *_check_metrics(entry, path), *check_history(entry, path)]


def check_tables() -> list[str]:
    """Return one line per cell of a generated table that differs from the ledger."""
    try:
        project, gathered = gather_ledger(check=False)
        expected = tables(project, gathered)
        there = {path: read_bytes(path, "Run `labbook results`.").decode() for path in expected}
    except DataError as error:
        return [str(error)]
    return [line for path, text in expected.items() for line in compare_tables(path, there[path], text)]


def _orphans(folder: Path) -> list[Path]:
    kept = {f"{name}{suffix}" for name in names(folder) for suffix in SUFFIXES}
    return sorted(path for path in folder.glob("*.*") if path.suffix in (".npz", ".tsv") and path.name not in kept)


def _check_metrics(entry: Entry, path: Path) -> Iterator[str]:
    """Recompute the metrics of every seed, and the details of the first seed on the card."""
    values, seeds = entry.values, entry.values["seeds"]
    for array, kept in entry.predictions.items():
        if array != "labels" and len(kept) != len(seeds):
            yield f"{path}.npz, array {array}: predictions of {len(kept)} seeds, but the card has {len(seeds)}"
            return
    for index, seed in enumerate(seeds):
        computed = metrics_of(entry.predictions, index, values["classes"])
        there = {key: seed["test"].get(key) for key in computed}
        yield from _unequal(f"{path}.json, seed {seed['seed']}, test", there, computed)
    yield from _unequal(f"{path}.json, metrics", values["metrics"], seeds[0]["test"])
    for key, shown in shown_of(entry.predictions, values["settings"]["task"], values["classes"]).items():
        yield from _unequal(f"{path}.json, {key}", values[key], shown)


def _unequal(where: str, there: Any, computed: Any) -> Iterator[str]:
    """Yield the places in which nested values differ."""
    if isinstance(there, Mapping) and isinstance(computed, Mapping) and there.keys() == computed.keys():
        for key in there:
            yield from _unequal(f"{where}.{key}", there[key], computed[key])
    elif isinstance(there, list) and isinstance(computed, list) and len(there) == len(computed):
        for index, (one, other) in enumerate(zip(there, computed, strict=True)):
            yield from _unequal(f"{where}[{index}]", one, other)
    elif there != computed:
        yield f"{where}: {there}, but {computed} computed from the predictions"


def check_history(entry: Entry, path: Path) -> Iterator[str]:
    """Yield one line per disagreement between the summary of a seed and its history.

    The arguments are those of `check_experiment`.
    """
    rows = list(csv.DictReader(io.StringIO(entry.history), delimiter="\t"))
    seeds = {str(seed["seed"]): seed for seed in entry.values["seeds"]}
    if list(dict.fromkeys(row["seed"] for row in rows)) != list(seeds):
        yield f"{path}.tsv, column seed: differs from the seeds in {path.name}.json"
        return
    for name, seed in seeds.items():
        own = [row for row in rows if row["seed"] == name]
        place = seed["kept"]["row"]
        where = f"{path}.tsv, seed {name}, row {place}"
        expected = {"val_loss": seed["val_loss"], "val_accuracy": seed["val_accuracy"], **seed["kept"]}
        for column in ("epoch", "step", "val_loss", "val_accuracy"):
            if expected[column] is not None and float(own[place][column]) != expected[column]:
                yield f"{where}, column {column}: {own[place][column]}, but {expected[column]} in {path.name}.json"
        select = entry.values["settings"]["select"]
        if select in BEST:
            column, best = BEST[select]
            value = best(float(row[column]) for row in own)
            if float(own[place][column]) != value:
                yield f"{where}, column {column}: {own[place][column]} of the selected weights is not the best value, {value}"
        elif place != len(own) - 1:
            yield f"{where}: expected the weights after the last row to be selected"
