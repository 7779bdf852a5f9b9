"""The steps of a solution, and the formatting of written-out arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labbook.exercises.gates import Network

__all__ = [
    "Cell",
    "Chain",
    "Formula",
    "Grid",
    "Grids",
    "OutputPlot",
    "Step",
    "Table",
    "Text",
    "format_number",
    "format_sum_of_products",
    "format_weighted_sum",
    "make_grid",
]


@dataclass(frozen=True)
class Text:
    """One paragraph."""

    text: str
    kind: ClassVar[str] = "text"


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
        style: CSS class: `pad` for padding, `marked` for a highlighted cell, `tile` for every other window, or empty.
        weight: the kernel's weight at this cell, or empty.
    """

    text: str
    style: str = ""
    weight: str = ""


@dataclass(frozen=True)
class Grid:
    """A matrix with a title."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Grids:
    """Matrices side by side, with signs such as → between them."""

    parts: tuple[Grid | str, ...]
    kind: ClassVar[str] = "grids"


@dataclass(frozen=True)
class Table:
    """A table of text; the first column is the header of each row. A folded table opens on a click."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Chain:
    """A sequence of sizes; each link is an operation and the size after it."""

    title: str
    links: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "chain"


@dataclass(frozen=True)
class OutputPlot:
    """The output of a network over its two inputs, beside a table of the four binary inputs."""

    title: str
    network: Network
    table: Table
    kind: ClassVar[str] = "output_plot"


Step = Text | Formula | Grids | Table | Chain | OutputPlot


def format_number(value: Any) -> str:
    """Format a number with thousands separators, a minus sign (−) and without `.0`."""
    return f"{value:,.6g}".replace("-", "−") if isinstance(value, float | np.floating) else f"{value:,}".replace("-", "−")


def make_grid(
    title: str, values: NDArray[Any], styles: NDArray[Any] | None = None, weights: dict[Any, Any] | None = None
) -> Grid:
    """Convert a matrix (H, W) to a grid.

    Args:
        title: title of the grid.
        values: numbers of the cells, (H, W).
        styles: styles of the cells, (H, W); empty by default.
        weights: weights of a kernel, by the (row, column) of their cells.
    """
    cells = [
        [
            Cell(
                text=format_number(values[position]),
                style="" if styles is None else str(styles[position]),
                weight=format_number(weights[position]) if weights and position in weights else "",
            )
            for position in ((row, column) for column in range(values.shape[1]))
        ]
        for row in range(values.shape[0])
    ]
    return Grid(title, tuple(map(tuple, cells)))


def format_sum_of_products(weights: Sequence[Any], factors: Sequence[Any]) -> str:
    """Write out a sum of products: `2 · 3 − 1 · 5`."""
    terms = []
    for weight, factor in zip(weights, factors, strict=True):
        sign = "−" if weight < 0 else "+"
        factor_text = f"({format_number(factor)})" if factor < 0 else format_number(factor)
        terms.append(f"{sign} {format_number(abs(weight))} · {factor_text}")
    return _without_first_sign(" ".join(terms))


def format_weighted_sum(weights: Sequence[Any], names: Sequence[str], bias: Any = 0) -> str:
    """Write out a weighted sum of variables, omitting factors of 1 and zero terms: `x₁ − 2x₂ + 1`."""
    terms = [
        f"{'−' if weight < 0 else '+'} {format_number(abs(weight)) if abs(weight) != 1 else ''}{name}"
        for weight, name in zip(weights, names, strict=True)
        if weight
    ]
    if bias:
        terms.append(f"{'−' if bias < 0 else '+'} {format_number(abs(bias))}")
    return _without_first_sign(" ".join(terms)) or "0"


def _without_first_sign(text: str) -> str:
    return text.removeprefix("+ ") if text.startswith("+") else text.replace("− ", "−", 1)
