"""Assignment D: filtering, padding, output sizes, and the parameters of the CNN for CIFAR-10."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.exercises.arithmetic import format_output_size, parameter_table, total_parameters
from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.layers import Conv, Linear, Pool, summarize
from labbook.exercises.steps import Chain, Formula, Grids, Step, Table, Text, format_number, format_sum_of_products, make_grid
from labbook.exercises.windows import cross_correlate, kernel_size_for, output_size, same_padding, windows, zero_padded

__all__ = ["CIFAR10_CNN", "exercises"]

IMAGE = np.array([[1, 0, 2, 3, 1], [3, 2, 0, 7, 0], [0, 6, 1, 1, 4]])
KERNEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
CIFAR10_CNN = (Conv(32, 5, 2), Pool(2), Conv(64, 5, 2), Pool(2), Conv(128, 5, 2), Pool(2), Linear(64), Linear(10))


def exercises() -> list[Exercise]:
    """Solve the exercises of assignment D."""
    return [_filtering(), _padding(), _sizes(), _cnn()]


def _filtering() -> Exercise:
    filtered = cross_correlate(IMAGE, KERNEL)
    positions = list(np.ndindex(*filtered.shape))
    return Exercise(
        name="filtering",
        assignment="D",
        question="What is the result of filtering the image with the kernel (cross-correlation, zero padding)?",
        steps=(
            Text(
                "Pad the image with a border of zeros. Centre the kernel on a pixel without flipping it, multiply each pixel "
                "by the weight above it, and add the products. Small numbers are weights."
            ),
            Grids((make_grid("image", IMAGE), make_grid("kernel", KERNEL))),
            *(step for position in ((0, 0), (1, 2)) for step in _one_step(filtered, position)),
            Table(
                f"All {len(positions)} sums",
                ("row, column", "sum"),
                tuple((f"{row + 1}, {column + 1}", _sum_at(filtered, (row, column))) for row, column in positions),
                folded=True,
            ),
            Text("The kernel subtracts left neighbours from right ones: it responds to vertical edges, signed by direction."),
        ),
        results=(Result("filtered image", filtered, [[2, -1, 11, -2, -13], [10, -4, 8, 2, -18], [14, -1, -5, 6, -9]]),),
    )


def _one_step(filtered: NDArray[Any], position: tuple[int, int]) -> tuple[Step, Step]:
    """Show the kernel at one position of the padded image, and the resulting sum."""
    row, column = position
    height, width = KERNEL.shape
    padded = zero_padded(IMAGE, KERNEL)
    styles = np.where(zero_padded(np.ones_like(IMAGE), KERNEL) == 0, "pad", "").astype(object)
    styles[row : row + height, column : column + width] = "marked"
    weights = {(row + a, column + b): weight for (a, b), weight in np.ndenumerate(KERNEL)}
    result_styles = np.full(filtered.shape, "", object)
    result_styles[position] = "marked"
    location = f"row {row + 1}, column {column + 1}"
    return (
        Grids(
            (
                make_grid(f"kernel over {location}", padded, styles, weights),
                "→",
                make_grid("filtered image", filtered, result_styles),
            )
        ),
        Formula((_sum_at(filtered, position),)),
    )


def _sum_at(filtered: NDArray[Any], position: tuple[int, int]) -> str:
    window = windows(zero_padded(IMAGE, KERNEL), *KERNEL.shape)[position]
    return f"{format_sum_of_products(KERNEL.ravel().tolist(), window.ravel().tolist())} = {format_number(filtered[position])}"


def _padding() -> Exercise:
    size, kernels = 6, (1, 3, 5, 7)
    strip = np.arange(1, size + 1)[None]
    padded = np.pad(strip, [(0, 0), (same_padding(5),) * 2])
    styles = np.where(padded == 0, "pad", "").astype(object)
    styles[0, :5] = "marked"
    rows = [
        (str(kernel), str(same_padding(kernel)), format_output_size(size, kernel, padding=same_padding(kernel)))
        for kernel in kernels
    ]
    return Exercise(
        name="padding",
        assignment="D",
        question="Which padding preserves the size at stride 1, and what is it for a 5×5 kernel?",
        steps=(
            Formula(
                ("size + 2 · padding − kernel + 1 = size", "padding = (kernel − 1) / 2", f"(5 − 1) / 2 = {same_padding(5)}")
            ),
            Grids(
                (
                    make_grid(
                        f"A row of {size} pixels: the first window of a kernel of 5 is centred on the first pixel",
                        padded,
                        styles,
                    ),
                )
            ),
            Table(f"Outputs for {size} pixels", ("kernel", "padding", "output"), tuple(rows)),
        ),
        results=(Result("padding of kernel 5", same_padding(5), 2),),
    )


def _sizes() -> Exercise:
    kernel = kernel_size_for(512, 504)
    first = output_size(512, kernel)
    pooled = output_size(first, 2, stride=2)
    last = output_size(pooled, 3)
    return Exercise(
        name="sizes",
        assignment="D",
        question="Which kernel maps 512×512 to 504×504, and what size is left after 2×2 pooling and a 3×3 kernel?",
        steps=(
            Formula(
                (
                    f"kernel = size − output + 1 = 512 − 504 + 1 = {kernel}",
                    format_output_size(512, kernel),
                    format_output_size(first, 2, stride=2),
                    format_output_size(pooled, 3),
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
    summary = summarize((3, 32, 32), CIFAR10_CNN)
    trainable = [layer for layer in summary if layer.parameters]
    reported = (2_432, 51_264, 204_928, 131_136, 650)
    return Exercise(
        name="cifar10_cnn",
        assignment="D",
        question="How many parameters does each layer of the CNN for CIFAR-10 have?",
        steps=(parameter_table("cifar10_cnn", summary),),
        results=(
            *(Result(layer.name, layer.parameters, count) for layer, count in zip(trainable, reported, strict=True)),
            Result("parameters", total_parameters(summary), 390_410),
        ),
    )
