"""Compare two versions of a generated file, CSV or Markdown, cell by cell."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

__all__ = ["compare_tables"]

Table = list[list[str]]  # rows of cells, the header first


def compare_tables(path: Path, there: str, expected: str) -> Iterator[str]:
    """Yield a message for each row, cell and text in which `there` differs from `expected`.

    Args:
        path: of the file, for messages.
        there: its text.
        expected: the expected text.
    """
    if there == expected:
        return
    (found, prose), (wanted, wanted_prose) = _split(path, there), _split(path, expected)
    none: Table = []
    lines = [line for one, two in zip_longest(found, wanted, fillvalue=none) for line in _compare(one, two)]
    for line, other in zip_longest(prose, wanted_prose, fillvalue=""):
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


def _compare(there: Table, expected: Table) -> Iterator[str]:
    header = there[0] if there else []
    if not expected or header != expected[0]:
        yield f"header: expected {expected[0] if expected else []}, found {header}"
        return
    found, wanted = _by_name(there), _by_name(expected)
    for name in dict.fromkeys([*wanted, *found]):
        if name not in found or name not in wanted:
            yield f"row {name}: {'missing' if name in wanted else 'not expected'}"
            continue
        for column, cell, other in zip_longest(header, found[name], wanted[name], fillvalue=""):
            if cell != other:
                yield f"row {name}, column {column}: expected {other!r}, found {cell!r}"
    if list(found) != list(wanted) and set(found) == set(wanted):
        yield "the order of the rows differs"


def _by_name(table: Table) -> Mapping[str, Sequence[str]]:
    return {row[0].strip("`"): row for row in table[1:] if row}
