"""The arithmetic that several assignments write out: the weights of a network, and the size of what a layer hands on."""

from collections.abc import Sequence

from labbook.exercises.layers import Walked
from labbook.exercises.steps import Table, number
from labbook.exercises.windows import output_size

__all__ = ["count_of", "counted", "size_of", "total_of"]


def counted(name: str, way: Sequence[Walked]) -> Table:
    """Show a network layer by layer: what each hands on, and what it learns."""
    rows = [(step.layer, "×".join(map(str, step.shape)), count_of(step) if step.parameters else "–") for step in way]
    total = " + ".join(number(step.parameters) for step in way if step.parameters)
    return Table(
        f"{name}: shapes are channels × height × width",
        ("layer", "hands on", "parameters"),
        (*rows, ("together", "", f"{total} = {number(total_of(way))}")),
    )


def count_of(step: Walked) -> str:
    """Write out how the weights of one layer are counted."""
    return f"{step.arithmetic} = {number(step.parameters)}"


def total_of(way: Sequence[Walked]) -> int:
    """Count the weights of all layers together."""
    return sum(step.parameters for step in way)


def size_of(size: int, kernel: int, stride: int = 1, padding: int = 0) -> str:
    """Write out the size of an output along one side."""
    return f"⌊({size} + 2 · {padding} − {kernel}) / {stride}⌋ + 1 = {output_size(size, kernel, stride, padding)}"
