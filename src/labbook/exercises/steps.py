"""The steps of a solution on the page, and formatting of written-out arithmetic."""

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
        style: `pad` for padding, `marked` for the focus of the step, `tile` for every other window, or none.
        weight: of the kernel at this cell, if any.
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
    """A table of text; the first column names the row. A folded table opens on a click."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Chain:
    """A sequence of sizes; each link holds an operation and the size after it."""

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
    """Format a number for the page: commas between thousands, a true minus sign, no `.0`."""
    return f"{value:,.6g}".replace("-", "−") if isinstance(value, float | np.floating) else f"{value:,}".replace("-", "−")


def make_grid(
    title: str, values: NDArray[Any], styles: NDArray[Any] | None = None, weights: dict[Any, Any] | None = None
) -> Grid:
    """Convert a matrix (H, W) to a grid.

    Args:
        title: of the grid.
        values: of the cells.
        styles: of the cells, (H, W); none by default.
        weights: of a kernel, by the (row, column) of their cells.
    """
    cells = [
        [
            Cell(
                text=format_number(values[place]),
                style="" if styles is None else str(styles[place]),
                weight=format_number(weights[place]) if weights and place in weights else "",
            )
            for place in ((row, column) for column in range(values.shape[1]))
        ]
        for row in range(values.shape[0])
    ]
    return Grid(title, tuple(map(tuple, cells)))


def format_sum_of_products(weights: Sequence[Any], factors: Sequence[Any]) -> str:
    """Write out a sum of products: `2 · 3 − 1 · 5`."""
    terms = []
    for weight, factor in zip(weights, factors, strict=True):
        sign = "−" if weight < 0 else "+"
        shown = f"({format_number(factor)})" if factor < 0 else format_number(factor)
        terms.append(f"{sign} {format_number(abs(weight))} · {shown}")
    return _without_first_sign(" ".join(terms))


def format_weighted_sum(weights: Sequence[Any], names: Sequence[str], bias: Any = 0) -> str:
    """Write out a weighted sum of names, without factors of 1 and zero terms: `x₁ − 2x₂ + 1`."""
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
