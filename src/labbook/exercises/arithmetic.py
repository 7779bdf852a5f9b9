"""Formulas that several assignments share: the parameters of a network, and the output size of a layer."""

from collections.abc import Sequence

from labbook.exercises.layers import LayerSummary
from labbook.exercises.steps import Table, format_number
from labbook.exercises.windows import output_size

__all__ = ["format_count", "format_output_size", "parameter_table", "total_parameters"]


def parameter_table(name: str, summary: Sequence[LayerSummary]) -> Table:
    """Tabulate the output shape and the parameters of each layer of a network."""
    rows = [(step.name, "×".join(map(str, step.shape)), format_count(step) if step.parameters else "–") for step in summary]
    total = " + ".join(format_number(step.parameters) for step in summary if step.parameters)
    return Table(
        f"{name}: shapes are channels × height × width",
        ("layer", "output", "parameters"),
        (*rows, ("total", "", f"{total} = {format_number(total_parameters(summary))}")),
    )


def format_count(step: LayerSummary) -> str:
    """Write out how the parameters of one layer are counted."""
    return f"{step.formula} = {format_number(step.parameters)}"


def total_parameters(summary: Sequence[LayerSummary]) -> int:
    """Count the parameters of all layers."""
    return sum(step.parameters for step in summary)


def format_output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> str:
    """Write out the output size along one axis."""
    return f"⌊({size} + 2 · {padding} − {kernel}) / {stride}⌋ + 1 = {output_size(size, kernel, stride, padding)}"
