"""The ledger: one entry per experiment or sweep that was run on official data, in files tracked by git.

An entry is `NAME.json` with the metrics and their provenance, `NAME.npz` with the predictions of every test sample and seed,
and `NAME.tsv` with the history of every seed; a sweep has its rows in `NAME.tsv`, and no predictions. All tables of official
data are generated from these files alone, and `labbook verify` recomputes every metric from the predictions.
"""

import contextlib
import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from labbook.errors import DataError, LabbookError
from labbook.io import describe_os_error, read_bytes, read_json, write_bytes

__all__ = [
    "LEDGER",
    "SUFFIXES",
    "SWEEPS",
    "Entry",
    "checksums",
    "find_changed_parts",
    "names",
    "read_arrays",
    "read_entry",
    "write_entry",
]

LEDGER = Path("results/official")
SWEEPS = LEDGER / "sweeps"

PARTS = {"values": "key", "predictions": "array", "history": "column"}  # parts of an entry, and what has a checksum in each
SUFFIXES = (".json", ".npz", ".tsv")
REQUIRED_KEYS = ("settings", "code", "packages", "data", "run", "sha256")  # of the JSON file of every entry


@dataclass(frozen=True)
class Entry:
    """The ledger's entry for one experiment or sweep.

    Attributes:
        name: name of the experiment or sweep.
        values: the content of `NAME.json`.
        predictions: arrays by name; empty for a sweep.
        history: the text of `NAME.tsv`.
    """

    name: str
    values: Mapping[str, Any]
    predictions: Mapping[str, NDArray[Any]]
    history: str


def names(folder: Path = LEDGER) -> list[str]:
    """List the entries of a folder of the ledger."""
    return sorted(path.stem for path in folder.glob("*.json"))


def read_entry(name: str, folder: Path = LEDGER) -> Entry:
    """Read an entry without comparing it with its checksums, which `labbook verify` does.

    Raises:
        DataError: a file is missing or damaged.
    """
    fix = "Restore it with `git checkout`, or run the experiment again with data.source=official."
    values = read_json(folder / f"{name}.json", REQUIRED_KEYS, fix)
    try:
        has_predictions = bool(values["sha256"]["predictions"])
    except (TypeError, KeyError) as error:
        raise DataError(f"{folder / name}.json: damaged, its sha256 lacks the predictions. {fix}") from error
    predictions = read_arrays(folder / f"{name}.npz", fix) if has_predictions else {}
    path = folder / f"{name}.tsv"
    try:
        return Entry(name, values, predictions, read_bytes(path, fix).decode())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: damaged, not UTF-8. {fix}") from error


def write_entry(entry: Entry, folder: Path = LEDGER) -> None:
    """Write an entry with its checksums atomically; keep the stored entry if only `run` differs.

    An entry exists if its JSON file does: the old one is removed before the other files change, the new one is written last.

    Raises:
        LabbookError: the disk is full or the folder cannot be written.
    """
    entry = Entry(entry.name, json.loads(json.dumps(entry.values, allow_nan=False)), entry.predictions, entry.history)
    with contextlib.suppress(DataError):
        if _has_same_results(entry, read_entry(entry.name, folder)):
            return
    values = {**entry.values, "sha256": checksums(entry)}
    contents = {".npz": _to_npz(entry.predictions)} if entry.predictions else {}
    contents |= {".tsv": entry.history.encode(), ".json": _to_json(values)}
    temporary = folder / f"{entry.name}.{os.getpid()}.part"
    try:
        for suffix, content in contents.items():
            write_bytes(temporary / suffix, content)
        (folder / f"{entry.name}.json").unlink(missing_ok=True)
        for suffix in contents:
            (temporary / suffix).replace(folder / f"{entry.name}{suffix}")
    except OSError as error:
        raise LabbookError(describe_os_error(error, folder)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def checksums(entry: Entry) -> dict[str, dict[str, str]]:
    """Hash each key of the JSON in canonical form, each array and each column of the history of an entry."""
    rows = [line.split("\t") for line in entry.history.splitlines()]
    columns = itertools.zip_longest(*rows, fillvalue="")
    return {
        "values": {key: _hash(_canonical(value)) for key, value in entry.values.items() if key != "sha256"},
        "predictions": {key: _hash_array(array) for key, array in entry.predictions.items()},
        "history": {column[0]: _hash("\n".join(column).encode()) for column in columns},
    }


def find_changed_parts(entry: Entry, path: Path) -> list[str]:
    """Return a message for each part of an entry that does not match its stored checksum.

    Args:
        entry: the entry.
        path: path of its files without suffix, for messages.
    """
    stored, actual = entry.values["sha256"], checksums(entry)
    return [
        f"{path}{suffix}, {kind} {key}: changed after it was written; its checksum does not match"
        for (part, kind), suffix in zip(PARTS.items(), SUFFIXES, strict=True)
        for key in dict.fromkeys([*stored[part], *actual[part]])
        if stored[part].get(key) != actual[part].get(key)
    ]


def _has_same_results(new: Entry, stored: Entry) -> bool:
    """Return whether two entries are equal except for the date, machine and duration of their runs."""
    new_sums, stored_sums = checksums(new), checksums(stored)
    for sums in (new_sums, stored_sums):
        sums["values"].pop("run", None)  # date, machine and seconds
    return new_sums == stored_sums


def read_arrays(path: Path, fix: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of an npz file; `fix` is the advice in error messages.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with np.load(io.BytesIO(read_bytes(path, fix)), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, KeyError, EOFError, OSError, BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path}: damaged, not a file of predictions ({error}). {fix}") from error


def _to_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _to_json(values: Mapping[str, Any]) -> bytes:
    """Write one key per line, so that a diff shows which keys changed; histories of watched layers make long lines."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _hash_array(array: NDArray[Any]) -> str:
    return _hash(f"{array.dtype.str}{array.shape}".encode(), array.tobytes())


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()
