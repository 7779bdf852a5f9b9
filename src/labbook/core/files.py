"""Whole files or none: every output is written beside its place, then renamed into it."""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labbook.core.errors import DataError, LabbookError

__all__ = ["read_bytes", "read_json", "replace", "write_bytes", "write_json", "write_text", "write_tsv"]


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it to `path`; leave nothing behind when it fails.

    Raises:
        LabbookError: the disk is full or the folder cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except OSError as error:
        raise LabbookError(explain(error, path)) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def explain(error: OSError, path: Path) -> str:
    """Say what went wrong with `path` and what would do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: the disk is full. Free some space there and run the same command again; nothing was half-written."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: may not be written or read ({error.strerror}). Check the permissions of the folder."
    return f"{path}: {error.strerror or error}"


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    replace(path, lambda part: part.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with unix line ends."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON in the order given; NaN and infinity are refused, as JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` as tab-separated values; floats by their shortest exact form, `None` as an empty cell."""
    lines = ["\t".join(columns)]
    lines += ["\t".join("" if row[column] is None else str(row[column]) for column in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def read_bytes(path: Path, mend: str) -> bytes:
    """Read a whole file; `mend` says what would bring it back.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found. {mend}") from error
    except OSError as error:
        raise DataError(explain(error, path)) from error


def read_json(path: Path, keys: Iterable[str], mend: str) -> dict[str, Any]:
    """Read a JSON object that holds at least `keys`; `mend` says what would bring it back.

    Raises:
        DataError: the file is missing, is not JSON, or lacks a key.
    """
    try:
        value = json.loads(read_bytes(path, mend))
    except ValueError as error:
        raise DataError(f"{path}: damaged, not JSON ({error}). {mend}") from error
    missing = sorted(set(keys) - set(value)) if isinstance(value, dict) else sorted(keys)
    if missing:
        raise DataError(f"{path}: damaged, it holds no {', '.join(missing)}. {mend}")
    return value  # type: ignore[no-any-return]
