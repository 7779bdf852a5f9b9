"""Read files, and write them atomically: to a temporary file in the same folder, which is then renamed."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labbook.errors import DataError, LabbookError

__all__ = ["read_bytes", "read_json", "replace", "write_bytes", "write_folder", "write_json", "write_text", "write_tsv"]


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path, then rename the file to `path`; remove the temporary file on failure.

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


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder for files, then rename it to `path`; remove the temporary folder on failure.

    Raises:
        LabbookError: the disk is full or the folder cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if path.is_dir():
            shutil.rmtree(path)
        part.replace(path)
    except OSError as error:
        raise LabbookError(explain(error, path)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def explain(error: OSError, path: Path) -> str:
    """Return a message that says what is wrong with `path`, and how to fix it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: the disk is full. Free some space there and run the same command again; the file was not changed."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: cannot be read or written: {error.strerror}. Check the permissions of the file and its folder."
    return f"{path}: {error.strerror or error}"


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    replace(path, lambda part: part.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with Unix line endings."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, keys in their given order; raise ValueError for NaN and infinity, which JSON lacks."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` as tab-separated values; floats in their shortest exact form, `None` as an empty cell."""
    lines = ["\t".join(columns)]
    lines += ["\t".join("" if row[column] is None else str(row[column]) for column in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def read_bytes(path: Path, fix: str) -> bytes:
    """Read a whole file; `fix` is how to fix the problem, for the error message.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found. {fix}") from error
    except OSError as error:
        raise DataError(explain(error, path)) from error


def read_json(path: Path, keys: Iterable[str], fix: str) -> dict[str, Any]:
    """Read a JSON object that has at least `keys`; `fix` is how to fix the problem, for the error message.

    Raises:
        DataError: the file is missing, is not JSON, or lacks a key.
    """
    try:
        value = json.loads(read_bytes(path, fix))
    except ValueError as error:
        raise DataError(f"{path}: damaged, not JSON ({error}). {fix}") from error
    missing = sorted(set(keys) - set(value)) if isinstance(value, dict) else sorted(keys)
    if missing:
        raise DataError(f"{path}: damaged, without {', '.join(missing)}. {fix}")
    return value  # type: ignore[no-any-return]
