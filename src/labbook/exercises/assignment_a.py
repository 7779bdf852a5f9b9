"""Assignment A: one convolution, pooling, and the gates OR and XOR as networks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.exercises.arithmetic import format_count, format_output_size
from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.gates import INPUTS, OR, XOR, Network, decide, hidden_units, output
from labbook.exercises.layers import Conv, summarize
from labbook.exercises.steps import Formula, Grids, OutputPlot, Table, Text, format_number, format_weighted_sum, make_grid
from labbook.exercises.windows import pool, windows

__all__ = ["exercises"]

CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom right": (1, 1), "bottom left": (1, 0)}


def exercises() -> list[Exercise]:
    """Solve the exercises of assignment A."""
    return [_one_convolution(), _pooling(), _or(), _xor()]


def _one_convolution() -> Exercise:
    (conv,) = summarize((3, 32, 32), [Conv(filters=8, kernel=5)])
    return Exercise(
        name="one_convolution",
        assignment="A",
        question="How many parameters does a 5×5 convolution with 8 filters have, and what is its output for a 32×32×3 image?",
        steps=(
            Text(
                "A filter has one weight for each pixel and channel of its window, and one bias. Each filter produces one map."
            ),
            Formula(
                (
                    f"kernel · kernel · channels · filters + filters = {format_count(conv)}",
                    f"⌊(size + 2 · padding − kernel) / stride⌋ + 1 = {format_output_size(32, 5)}",
                )
            ),
        ),
        results=(
            Result("parameters", conv.parameters, 608),
            Result("output, height × width × maps", [*conv.shape[1:], conv.shape[0]], [28, 28, 8]),
        ),
    )


def _pooling() -> Exercise:
    images = {corner: _block(*position) for corner, position in CORNERS.items()}
    pooled = {kind: np.array([pool(image, 2, 2, kind) for image in images.values()]) for kind in ("average", "max")}
    tile = np.array([["tile", ""], ["", "tile"]])
    tiles = tile.repeat(2, axis=0).repeat(2, axis=1)
    grids = [
        Grids(
            (
                make_grid(f"block {corner}", image, tiles),
                "→",
                make_grid("average", average, tile),
                make_grid("max", largest, tile),
            )
        )
        for (corner, image), average, largest in zip(images.items(), pooled["average"], pooled["max"], strict=True)
    ]
    first = windows(images["top left"], 2, 2, stride=2)
    return Exercise(
        name="pooling",
        assignment="A",
        question="What is the result of 2×2 average and max pooling for 4×4 images with a 3×3 block of ones in one corner?",
        steps=(
            Text("The four windows of an image do not overlap. Average pooling gives the share of ones in a window."),
            *grids,
            Text("The averages of the four windows for the block in the top left corner:"),
            Formula(tuple(_format_average(window) for window in first.reshape(4, 2, 2))),
            Text("Every window contains a 1, so max pooling gives the same output for all four images."),
        ),
        results=(
            Result(
                "average pooling",
                pooled["average"],
                [
                    [[1, 0.5], [0.5, 0.25]],
                    [[0.5, 1], [0.25, 0.5]],
                    [[0.25, 0.5], [0.5, 1]],
                    [[0.5, 0.25], [1, 0.5]],
                ],
            ),
            Result("max pooling", pooled["max"], [[[1, 1], [1, 1]]] * 4),
        ),
    )


def _or() -> Exercise:
    return _gate(
        "or",
        "Which network with one hidden ReLU unit computes OR?",
        OR,
        Text("The unit adds its inputs, so it is 0 only if both are 0."),
        reported=[0, 1, 1, 1],
    )


def _xor() -> Exercise:
    return _gate(
        "xor",
        "Which network with two hidden ReLU units computes XOR?",
        XOR,
        Text(
            "A single ReLU unit can only increase on one side of a line, but XOR must increase and decrease again. "
            "A second unit is therefore active if both inputs are 1, and twice its value is subtracted."
        ),
        reported=[0, 1, 1, 0],
    )


def _gate(name: str, question: str, network: Network, explanation: Text, reported: list[int]) -> Exercise:
    units = [f"h{'₁₂₃'[index]}" for index in range(len(network.bias))]
    activations, outputs = hidden_units(network, INPUTS), output(network, INPUTS)
    decisions = decide(outputs)
    formulas = [
        f"{symbol} = ReLU({format_weighted_sum(weights, ('x₁', 'x₂'), bias)})"
        for symbol, weights, bias in zip(units, network.weights, network.bias, strict=True)
    ]
    rows = [
        tuple(format_number(value) for value in (*pair, *hidden, y, decision))
        for pair, hidden, y, decision in zip(INPUTS, activations, outputs, decisions, strict=True)
    ]
    return Exercise(
        name=name,
        assignment="A",
        question=question,
        steps=(
            explanation,
            Formula((*formulas, f"y = {format_weighted_sum(network.output, units)}")),
            OutputPlot(
                f"y of the {name.upper()} network over its two inputs",
                network,
                Table("All four inputs", ("x₁", "x₂", *units, "y", "decision"), tuple(rows)),
            ),
        ),
        results=(Result("output for 00, 01, 10, 11", decisions, reported),),
    )


def _format_average(window: NDArray[Any]) -> str:
    (average,) = pool(window, 2, 2, "average").ravel()
    return f"({' + '.join(format_number(value) for value in window.ravel())}) / {window.size} = {format_number(average)}"


def _block(top: int, left: int) -> NDArray[Any]:
    """Return 4×4 zeros with a 3×3 block of ones."""
    image = np.zeros((4, 4), int)
    image[top : top + 3, left : left + 3] = 1
    return image
