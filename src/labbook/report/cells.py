"""Compare two versions of a generated file, CSV or Markdown, cell by cell."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

__all__ = ["compare_tables"]

Table = list[list[str]]  # rows of cells, the header first


def compare_tables(path: Path, actual: str, expected: str) -> Iterator[str]:
    """Yield a message for each row, cell and line of text in which `actual` differs from `expected`.

    Args:
        path: path of the file, for messages.
        actual: its text.
        expected: the expected text.
    """
    if actual == expected:
        return
    (actual_tables, prose), (expected_tables, expected_prose) = _split(path, actual), _split(path, expected)
    none: Table = []
    lines = [line for one, two in zip_longest(actual_tables, expected_tables, fillvalue=none) for line in _compare(one, two)]
    for line, other in zip_longest(prose, expected_prose, fillvalue=""):
        if line != other:
            lines.append(f"text: expected {other!r}, found {line!r}")
            break
    yield from (f"{path}: {line}" for line in lines or ["the formatting of the tables differs"])


def _split(path: Path, text: str) -> tuple[list[Table], list[str]]:
    """Split a file into its tables and its other lines."""
    if path.suffix == ".csv":
        return [list(csv.reader(io.StringIO(text)))], []
    tables: list[Table] = []
    prose: list[str] = []
    inside = False
    for line in text.splitlines():
        is_row = line.startswith("|")
        if not is_row:
            prose.append(line)
        elif inside:
            tables[-1].append(_cells(line))
        else:
            tables.append([_cells(line)])
        inside = is_row
    return tables, prose


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _compare(actual: Table, expected: Table) -> Iterator[str]:
    header = actual[0] if actual else []
    if not expected or header != expected[0]:
        yield f"header: expected {expected[0] if expected else []}, found {header}"
        return
    actual_rows, expected_rows = _by_name(actual), _by_name(expected)
    for name in dict.fromkeys([*expected_rows, *actual_rows]):
        if name not in actual_rows or name not in expected_rows:
            yield f"row {name}: {'missing' if name in expected_rows else 'not expected'}"
            continue
        for column, cell, other in zip_longest(header, actual_rows[name], expected_rows[name], fillvalue=""):
            if cell != other:
                yield f"row {name}, column {column}: expected {other!r}, found {cell!r}"
    if list(actual_rows) != list(expected_rows) and set(actual_rows) == set(expected_rows):
        yield "the order of the rows differs"


def _by_name(table: Table) -> Mapping[str, Sequence[str]]:
    return {row[0].strip("`"): row for row in table[1:] if row}
