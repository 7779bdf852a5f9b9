"""Written-out arithmetic that several assignments share: numbers of parameters and output sizes."""

from collections.abc import Sequence

from labbook.exercises.layers import LayerSummary
from labbook.exercises.steps import Table, format_number
from labbook.exercises.windows import output_size

__all__ = ["format_count", "format_output_size", "parameter_table", "total_parameters"]


def parameter_table(name: str, summary: Sequence[LayerSummary]) -> Table:
    """Tabulate the output shape and the parameters of each layer of a network."""
    rows = [
        (layer.name, "×".join(map(str, layer.shape)), format_count(layer) if layer.parameters else "–") for layer in summary
    ]
    total = " + ".join(format_number(layer.parameters) for layer in summary if layer.parameters)
    return Table(
        f"{name}: shapes are channels × height × width",
        ("layer", "output", "parameters"),
        (*rows, ("total", "", f"{total} = {format_number(total_parameters(summary))}")),
    )


def format_count(layer: LayerSummary) -> str:
    """Write out the number of parameters of one layer."""
    return f"{layer.formula} = {format_number(layer.parameters)}"


def total_parameters(summary: Sequence[LayerSummary]) -> int:
    """Count the parameters of all layers."""
    return sum(layer.parameters for layer in summary)


def format_output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> str:
    """Write out the output size along one axis."""
    return f"⌊({size} + 2 · {padding} − {kernel}) / {stride}⌋ + 1 = {output_size(size, kernel, stride, padding)}"
