"""The steps of a working, as a page can show them, and arithmetic written out with its numbers put in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labbook.exercises.gates import Network

__all__ = ["Cell", "Chain", "Formula", "Grid", "Grids", "Plane", "Step", "Table", "Words", "grid", "number", "sum_of", "unit"]


@dataclass(frozen=True)
class Words:
    """A sentence or two."""

    text: str
    kind: ClassVar[str] = "words"


@dataclass(frozen=True)
class Formula:
    """Lines of arithmetic, one below the other."""

    lines: tuple[str, ...]
    kind: ClassVar[str] = "formula"


@dataclass(frozen=True)
class Cell:
    """One number of a matrix.

    Attributes:
        text: the number.
        look: `pad` for a zero that was put around, `marked` for what the step is about, `tile` for every other window.
        weight: that lies over it, if any.
    """

    text: str
    look: str = ""
    weight: str = ""


@dataclass(frozen=True)
class Grid:
    """A matrix with a line of words above it."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Grids:
    """Matrices side by side, with signs such as = between them."""

    parts: tuple[Grid | str, ...]
    kind: ClassVar[str] = "grids"


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Chain:
    """Sizes one after the other; each link says what was done and what is left."""

    title: str
    links: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "chain"


@dataclass(frozen=True)
class Plane:
    """What a network makes of the plane of its two inputs, beside a table of the four that count."""

    title: str
    network: Network
    table: Table
    kind: ClassVar[str] = "plane"


Step = Words | Formula | Grids | Table | Chain | Plane


def number(value: Any) -> str:
    """Print a number as the page does: thousands with commas, the minus as a minus, no `.0`."""
    return f"{value:,.6g}".replace("-", "−") if isinstance(value, float | np.floating) else f"{value:,}".replace("-", "−")


def grid(title: str, values: NDArray[Any], looks: NDArray[Any] | None = None, over: dict[Any, Any] | None = None) -> Grid:
    """Make the grid of a matrix (H, W).

    Args:
        title: above it.
        values: of the cells.
        looks: of the cells, (H, W), where any stand out.
        over: numbers laid over cells, by (row, column).
    """
    cells = [
        [
            Cell(
                text=number(values[place]),
                look="" if looks is None else str(looks[place]),
                weight=number(over[place]) if over and place in over else "",
            )
            for place in ((row, column) for column in range(values.shape[1]))
        ]
        for row in range(values.shape[0])
    ]
    return Grid(title, tuple(map(tuple, cells)))


def sum_of(weights: Sequence[Any], factors: Sequence[Any]) -> str:
    """Write out a sum of products: `2 · 3 − 1 · 5`."""
    terms = []
    for weight, factor in zip(weights, factors, strict=True):
        sign = "−" if weight < 0 else "+"
        shown = f"({number(factor)})" if factor < 0 else number(factor)
        terms.append(f"{sign} {number(abs(weight))} · {shown}")
    return _without_first_sign(" ".join(terms))


def unit(weights: Sequence[Any], names: Sequence[str], bias: Any = 0) -> str:
    """Write out a weighted sum of names, leaving out what is 1 or 0: `x₁ − 2x₂ + 1`."""
    terms = [
        f"{'−' if weight < 0 else '+'} {number(abs(weight)) if abs(weight) != 1 else ''}{name}"
        for weight, name in zip(weights, names, strict=True)
        if weight
    ]
    if bias:
        terms.append(f"{'−' if bias < 0 else '+'} {number(abs(bias))}")
    return _without_first_sign(" ".join(terms)) or "0"


def _without_first_sign(text: str) -> str:
    return text.removeprefix("+ ") if text.startswith("+") else text.replace("− ", "−", 1)
