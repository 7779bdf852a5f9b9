"""Assignment A: one convolution, pooling, and the gates OR and XOR as networks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.exercises.arithmetic import count_of, size_of
from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.gates import INPUTS, OR, XOR, Network, decide, hidden, output
from labbook.exercises.layers import Conv, walk
from labbook.exercises.steps import Formula, Grids, Plane, Table, Words, grid, number, unit
from labbook.exercises.windows import pool, windows

__all__ = ["exercises"]

CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom right": (1, 1), "bottom left": (1, 0)}


def exercises() -> list[Exercise]:
    """Work the exercises of assignment A."""
    return [_one_layer(), _pooling(), _or(), _xor()]


def _one_layer() -> Exercise:
    (conv,) = walk((3, 32, 32), [Conv(filters=8, kernel=5)])
    return Exercise(
        name="one_convolution",
        assignment="A",
        question="How many parameters has a 5×5 convolution with 8 filters, and what does it make of 32×32×3?",
        working=(
            Words(
                "A filter has one weight for each pixel and channel under its window, and one bias. Each filter gives one map."
            ),
            Formula(
                (
                    f"kernel · kernel · channels · filters + filters = {count_of(conv)}",
                    f"⌊(size + 2 · padding − kernel) / stride⌋ + 1 = {size_of(32, 5)}",
                )
            ),
        ),
        results=(
            Result("parameters", conv.parameters, 608),
            Result("output, height × width × maps", [*conv.shape[1:], conv.shape[0]], [28, 28, 8]),
        ),
    )


def _pooling() -> Exercise:
    images = {corner: _block(*place) for corner, place in CORNERS.items()}
    pooled = {how: np.array([pool(image, 2, 2, how) for image in images.values()]) for how in ("average", "max")}
    tile = np.array([["tile", ""], ["", "tile"]])
    tiles = tile.repeat(2, axis=0).repeat(2, axis=1)
    shown = [
        Grids((grid(f"block {corner}", image, tiles), "→", grid("average", average, tile), grid("max", largest, tile)))
        for (corner, image), average, largest in zip(images.items(), pooled["average"], pooled["max"], strict=True)
    ]
    first = windows(images["top left"], 2, 2, stride=2)
    return Exercise(
        name="pooling",
        assignment="A",
        question="What do 2×2 average and max pooling, stride 2, make of a 3×3 block of ones in each corner of a 4×4 image?",
        working=(
            Words("Windows lie side by side, four in each image. Average pooling tells how much of a window the block covers."),
            *shown,
            Words("The four averages of the block top left, window by window:"),
            Formula(tuple(_average_of(window) for window in first.reshape(4, 2, 2))),
            Words("Every window holds at least one 1, so max pooling gives the same for all four and cannot tell them apart."),
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
        Words("The unit adds its inputs: it stays at 0 only where both are 0."),
        reported=[0, 1, 1, 1],
    )


def _xor() -> Exercise:
    return _gate(
        "xor",
        "Which network with two hidden ReLU units computes XOR?",
        XOR,
        Words(
            "One unit changes on one side of a line only; XOR has to rise and fall again. "
            "So a second unit fires where both inputs are 1, and twice its value is taken away."
        ),
        reported=[0, 1, 1, 0],
    )


def _gate(name: str, question: str, network: Network, idea: Words, reported: list[int]) -> Exercise:
    units = [f"h{'₁₂₃'[index]}" for index in range(len(network.bias))]
    activations, outputs = hidden(network, INPUTS), output(network, INPUTS)
    decisions = decide(outputs)
    formulas = [
        f"{symbol} = ReLU({unit(weights, ('x₁', 'x₂'), bias)})"
        for symbol, weights, bias in zip(units, network.weights, network.bias, strict=True)
    ]
    rows = [
        tuple(number(value) for value in (*pair, *fired, out, decision))
        for pair, fired, out, decision in zip(INPUTS, activations, outputs, decisions, strict=True)
    ]
    return Exercise(
        name=name,
        assignment="A",
        question=question,
        working=(
            idea,
            Formula((*formulas, f"y = {unit(network.output, units)}")),
            Plane(
                f"y of the {name.upper()} network over its two inputs",
                network,
                Table("All four inputs", ("x₁", "x₂", *units, "y", "read as"), tuple(rows)),
            ),
        ),
        results=(Result("of 00, 01, 10, 11", decisions, reported),),
    )


def _average_of(window: NDArray[Any]) -> str:
    (average,) = pool(window, 2, 2, "average").ravel()
    return f"({' + '.join(number(value) for value in window.ravel())}) / {window.size} = {number(average)}"


def _block(top: int, left: int) -> NDArray[Any]:
    """Draw a 3×3 block of ones into 4×4 zeros."""
    image = np.zeros((4, 4), int)
    image[top : top + 3, left : left + 3] = 1
    return image
