"""Read files, and write them atomically: write a temporary file in the same folder, then rename it."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labbook.errors import DataError, LabbookError

__all__ = [
    "describe_os_error", "read_bytes", "read_json", "write_atomically", "write_bytes", "write_folder", "write_json",
    "write_text", "write_tsv",
]  # fmt: skip


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path, then rename that file to `path`; on failure, remove it.

    Raises:
        LabbookError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise LabbookError(describe_os_error(error, path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to write files into, then rename it to `path`; on failure, remove it.

    Raises:
        LabbookError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise LabbookError(describe_os_error(error, path)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def describe_os_error(error: OSError, path: Path) -> str:
    """Return a message that states what is wrong with `path` and, if known, how to fix it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: the disk is full. Free some space there and run the same command again; the file was not changed."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: cannot be read or written: {error.strerror}. Check the permissions of the file and its folder."
    return f"{path}: {error.strerror or error}"


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically as UTF-8, without converting line endings."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write `value` atomically as indented JSON, in the order of its keys.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot represent.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `columns` of `rows` atomically as tab-separated values: floats exactly, `None` as an empty cell."""
    lines = ["\t".join(columns)]
    lines += ["\t".join("" if row[column] is None else str(row[column]) for column in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def read_bytes(path: Path, fix: str) -> bytes:
    """Read a file; an error message ends with `fix`, which says how to fix the problem.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found. {fix}") from error
    except OSError as error:
        raise DataError(describe_os_error(error, path)) from error


def read_json(path: Path, keys: Iterable[str], fix: str) -> dict[str, Any]:
    """Read a JSON object with at least `keys`; an error message ends with `fix`, which says how to fix the problem.

    Raises:
        DataError: the file is missing, is not JSON, or lacks a key.
    """
    try:
        value = json.loads(read_bytes(path, fix))
    except ValueError as error:
        raise DataError(f"{path}: damaged, not JSON ({error}). {fix}") from error
    missing = sorted(set(keys) - set(value)) if isinstance(value, dict) else sorted(keys)
    if missing:
        raise DataError(f"{path}: damaged, lacks {', '.join(missing)}. {fix}")
    return value  # type: ignore[no-any-return]
