"""Assignment D: filtering, padding, the sizes of outputs, and the weights of the CNN for CIFAR-10."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.exercises.arithmetic import counted, size_of, total_of
from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.layers import Conv, Linear, Pool, walk
from labbook.exercises.steps import Chain, Formula, Grids, Step, Table, Words, grid, number, sum_of
from labbook.exercises.windows import cross_correlate, kernel_for, output_size, same_padding, windows, zero_padded

__all__ = ["CIFAR10_CNN", "exercises"]

IMAGE = np.array([[1, 0, 2, 3, 1], [3, 2, 0, 7, 0], [0, 6, 1, 1, 4]])
KERNEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
CIFAR10_CNN = (Conv(32, 5, 2), Pool(2), Conv(64, 5, 2), Pool(2), Conv(128, 5, 2), Pool(2), Linear(64), Linear(10))


def exercises() -> list[Exercise]:
    """Work the exercises of assignment D."""
    return [_filtering(), _padding(), _sizes(), _cnn()]


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
    rows = [(str(kernel), str(same_padding(kernel)), size_of(size, kernel, padding=same_padding(kernel))) for kernel in kernels]
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
                    size_of(512, kernel),
                    size_of(first, 2, stride=2),
                    size_of(pooled, 3),
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
        working=(counted("cifar10_cnn", way),),
        results=(
            *(Result(step.layer, step.parameters, count) for step, count in zip(learnt, reported, strict=True)),
            Result("parameters", total_of(way), 390_410),
        ),
    )
