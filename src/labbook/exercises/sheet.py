"""The exercises: each with its question, its working, and what comes out beside what the coursework reported.

What is computed, and every number in a working, comes from the functions of this package. Only reported values are typed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.exercises.gates import INPUTS, OR, XOR, Network, decide, hidden, output
from labbook.exercises.layers import Conv, Linear, Pool, Walked, walk
from labbook.exercises.steps import Chain, Formula, Grids, Plane, Step, Table, Words, grid, number, sum_of, unit
from labbook.exercises.windows import cross_correlate, kernel_for, output_size, pool, same_padding, windows, zero_padded

__all__ = ["CIFAR10_CNN", "MNIST_CNN_SMALL", "MNIST_MLP_2X50", "Exercise", "Result", "exercises"]

Layers = Sequence[Conv | Pool | Linear]

MNIST_MLP_2X50: Layers = (Linear(50), Linear(50), Linear(10))
MNIST_CNN_SMALL: Layers = (Conv(8, 3, 1), Pool(2), Conv(16, 3, 1), Pool(2), Conv(32, 3, 1), Linear(10))
CIFAR10_CNN: Layers = (Conv(32, 5, 2), Pool(2), Conv(64, 5, 2), Pool(2), Conv(128, 5, 2), Pool(2), Linear(64), Linear(10))

IMAGE = np.array([[1, 0, 2, 3, 1], [3, 2, 0, 7, 0], [0, 6, 1, 1, 4]])
KERNEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom right": (1, 1), "bottom left": (1, 0)}


@dataclass(frozen=True)
class Result:
    """One figure of an exercise: ours and the reported one, numbers or arrays."""

    figure: str
    computed: Any
    reported: Any

    @property
    def agrees(self) -> bool:
        """Whether both are the same, with no tolerance."""
        return np.array_equal(self.computed, self.reported)


@dataclass(frozen=True)
class Exercise:
    """A question, the way to its answer, and the answer.

    Attributes:
        name: in `metrics/exercises.json` and as the target of links.
        assignment: its letter.
        question: as a heading.
        working: the steps, in order.
        results: every figure that comes out.
    """

    name: str
    assignment: str
    question: str
    working: tuple[Step, ...]
    results: tuple[Result, ...]

    @property
    def agrees(self) -> bool:
        """Whether every figure does."""
        return all(result.agrees for result in self.results)


def exercises() -> list[Exercise]:
    """Work every exercise, by assignment."""
    return [
        _one_layer(), _pooling(), _or(), _xor(),
        _mlp(), _small_cnn(),
        _last_layer(),
        _filtering(), _padding(), _sizes(), _cnn(),
    ]  # fmt: skip


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
                    f"kernel · kernel · channels · filters + filters = {_count(conv)}",
                    f"⌊(size + 2 · padding − kernel) / stride⌋ + 1 = {_size_of(32, 5)}",
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


def _mlp() -> Exercise:
    way = walk((1, 28, 28), MNIST_MLP_2X50)
    return Exercise(
        name="mnist_mlp_2x50",
        assignment="B",
        question="How many learnable weights has 784-50-50-10?",
        working=(_counted("mnist_mlp_2x50", way),),
        results=(Result("parameters", _total(way), 42_310),),
    )


def _small_cnn() -> Exercise:
    way = walk((1, 28, 28), MNIST_CNN_SMALL)
    return Exercise(
        name="mnist_cnn_small",
        assignment="B",
        question="How many learnable weights has the small CNN, and how many features reach its last layer?",
        working=(_counted("mnist_cnn_small", way),),
        results=(
            Result("features", int(np.prod(way[-2].shape)), 1_568),
            Result("parameters", _total(way), 21_578),
        ),
    )


def _last_layer() -> Exercise:
    pools = {"as printed": (2, 2, 2, 4), "without the last 2×2 pool": (2, 2, 4)}
    ways = {words: walk((256, 64, 64), [Pool(size) for size in sizes]) for words, sizes in pools.items()}
    features = {words: int(np.prod(way[-1].shape)) for words, way in ways.items()}
    return Exercise(
        name="tiny_wide",
        assignment="C",
        question="How many features of a 64×64 image reach the last layer of the wide network, which is printed with 4096?",
        working=(
            Words(
                "Its 3×3 convolutions with padding 1 keep the size; only the pools shrink it. The last map has 256 channels."
            ),
            *(_pooled_down(words, way) for words, way in ways.items()),
            Formula(tuple(f"{words}: {_product(way[-1].shape)} = {number(features[words])}" for words, way in ways.items())),
            Words("As printed, the two do not fit. They do when one 2×2 pool is left out; so tiny_wide is built here."),
        ),
        results=tuple(Result(f"features, {words}", count, 4_096) for words, count in features.items()),
    )


def _filtering() -> Exercise:
    filtered = cross_correlate(IMAGE, KERNEL)
    places = list(np.ndindex(*filtered.shape))
    return Exercise(
        name="filtering",
        assignment="D",
        question="What does filtering the image with the kernel give (cross-correlation, zero padding)?",
        working=(
            Words(
                "Put a ring of zeros around the image. Lay the kernel on, as it stands, so that its middle covers one pixel; "
                "multiply what lies over each other, and add. Small figures are the kernel's."
            ),
            Grids((grid("image", IMAGE), grid("kernel", KERNEL))),
            *(step for place in ((0, 0), (1, 2)) for step in _laid_on(filtered, place)),
            Table(
                f"All {len(places)} sums",
                ("row, column", "sum"),
                tuple((f"{row + 1}, {column + 1}", _sum_at(filtered, (row, column))) for row, column in places),
                folded=True,
            ),
            Words(
                "The kernel takes what lies left from what lies right: edges between dark and bright stand out by their sign."
            ),
        ),
        results=(Result("filtered image", filtered, [[2, -1, 11, -2, -13], [10, -4, 8, 2, -18], [14, -1, -5, 6, -9]]),),
    )


def _laid_on(filtered: NDArray[Any], place: tuple[int, int]) -> tuple[Step, Step]:
    """Show the kernel laid over one place of the padded image, and the sum that it gives."""
    row, column = place
    height, width = KERNEL.shape
    padded = zero_padded(IMAGE, KERNEL)
    looks = np.where(zero_padded(np.ones_like(IMAGE), KERNEL) == 0, "pad", "").astype(object)
    looks[row : row + height, column : column + width] = "marked"
    over = {(row + a, column + b): weight for (a, b), weight in np.ndenumerate(KERNEL)}
    result_looks = np.full(filtered.shape, "", object)
    result_looks[place] = "marked"
    where = f"row {row + 1}, column {column + 1}"
    return (
        Grids((grid(f"kernel over {where}", padded, looks, over), "→", grid("filtered image", filtered, result_looks))),
        Formula((_sum_at(filtered, place),)),
    )


def _sum_at(filtered: NDArray[Any], place: tuple[int, int]) -> str:
    window = windows(zero_padded(IMAGE, KERNEL), *KERNEL.shape)[place]
    return f"{sum_of(KERNEL.ravel().tolist(), window.ravel().tolist())} = {number(filtered[place])}"


def _padding() -> Exercise:
    size, kernels = 6, (1, 3, 5, 7)
    strip = np.arange(1, size + 1)[None]
    padded = np.pad(strip, [(0, 0), (same_padding(5),) * 2])
    looks = np.where(padded == 0, "pad", "").astype(object)
    looks[0, :5] = "marked"
    rows = [
        (str(kernel), str(same_padding(kernel)), _size_of(size, kernel, padding=same_padding(kernel))) for kernel in kernels
    ]
    return Exercise(
        name="padding",
        assignment="D",
        question="Which padding keeps the size at stride 1, and how much is it for a 5×5 kernel?",
        working=(
            Formula(
                ("size + 2 · padding − kernel + 1 = size", "padding = (kernel − 1) / 2", f"(5 − 1) / 2 = {same_padding(5)}")
            ),
            Grids(
                (grid(f"A row of {size} pixels: the first place of kernel 5 has the first pixel in its middle", padded, looks),)
            ),
            Table(f"Tried on {size} pixels", ("kernel", "padding", "output"), tuple(rows)),
        ),
        results=(Result("padding of kernel 5", same_padding(5), 2),),
    )


def _sizes() -> Exercise:
    kernel = kernel_for(512, 504)
    first = output_size(512, kernel)
    pooled = output_size(first, 2, stride=2)
    last = output_size(pooled, 3)
    return Exercise(
        name="sizes",
        assignment="D",
        question="Which kernel makes 504×504 of 512×512, and what do 2×2 pooling and a 3×3 kernel leave of it?",
        working=(
            Formula(
                (
                    f"kernel = size − output + 1 = 512 − 504 + 1 = {kernel}",
                    _size_of(512, kernel),
                    _size_of(first, 2, stride=2),
                    _size_of(pooled, 3),
                )
            ),
            Chain(
                "One side of the image",
                (
                    ("image", "512"),
                    (f"kernel {kernel}×{kernel}", str(first)),
                    ("pool 2×2, stride 2", str(pooled)),
                    ("kernel 3×3", str(last)),
                ),
            ),
        ),
        results=(
            Result("kernel", kernel, 9),
            Result("after 2×2 pooling", pooled, 252),
            Result("after the 3×3 kernel", last, 250),
        ),
    )


def _cnn() -> Exercise:
    way = walk((3, 32, 32), CIFAR10_CNN)
    learnt = [step for step in way if step.parameters]
    reported = (2_432, 51_264, 204_928, 131_136, 650)
    return Exercise(
        name="cifar10_cnn",
        assignment="D",
        question="How many parameters has the CNN for CIFAR-10, layer by layer?",
        working=(_counted("cifar10_cnn", way),),
        results=(
            *(Result(step.layer, step.parameters, count) for step, count in zip(learnt, reported, strict=True)),
            Result("parameters", _total(way), 390_410),
        ),
    )


def _counted(name: str, way: Sequence[Walked]) -> Table:
    """Show a network layer by layer: what each hands on, and what it learns."""
    rows = [(step.layer, "×".join(map(str, step.shape)), _count(step) if step.parameters else "–") for step in way]
    total = " + ".join(number(step.parameters) for step in way if step.parameters)
    return Table(
        f"{name}: shapes are channels × height × width",
        ("layer", "hands on", "parameters"),
        (*rows, ("together", "", f"{total} = {number(_total(way))}")),
    )


def _pooled_down(words: str, way: Sequence[Walked]) -> Chain:
    links = [(step.layer, f"{step.shape[1]}") for step in way]
    return Chain(f"One side of the image, {words}", (("image", "64"), *links))


def _count(step: Walked) -> str:
    return f"{step.arithmetic} = {number(step.parameters)}"


def _total(way: Sequence[Walked]) -> int:
    return sum(step.parameters for step in way)


def _size_of(size: int, kernel: int, stride: int = 1, padding: int = 0) -> str:
    return f"⌊({size} + 2 · {padding} − {kernel}) / {stride}⌋ + 1 = {output_size(size, kernel, stride, padding)}"


def _product(shape: Sequence[int]) -> str:
    return " · ".join(map(str, shape))


def _average_of(window: NDArray[Any]) -> str:
    (average,) = pool(window, 2, 2, "average").ravel()
    return f"({' + '.join(number(value) for value in window.ravel())}) / {window.size} = {number(average)}"


def _block(top: int, left: int) -> NDArray[Any]:
    """Draw a 3×3 block of ones into 4×4 zeros."""
    image = np.zeros((4, 4), int)
    image[top : top + 3, left : left + 3] = 1
    return image
