"""Sliding windows over an image: output size, padding, filtering and pooling."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from labbook.errors import ExerciseError

__all__ = ["cross_correlate", "kernel_size_for", "output_size", "pool", "same_padding", "windows", "zero_padded"]

Matrix = NDArray[Any]

POOLS: dict[str, Callable[..., Any]] = {"average": np.mean, "max": np.max}


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Count the positions of a window: ⌊(size + 2 · padding − kernel) / stride⌋ + 1.

    Args:
        size: size of the image along one axis, in pixels.
        kernel: size of the window along this axis.
        stride: pixels between two positions.
        padding: pixels added at each end.

    Raises:
        ExerciseError: the window does not fit, or a number is out of range.
    """
    if min(size, kernel, stride) < 1 or padding < 0:
        raise ExerciseError(
            f"size {size}, kernel {kernel} and stride {stride} must be at least 1, and padding {padding} at least 0"
        )
    if kernel > size + 2 * padding:
        raise ExerciseError(
            f"kernel {kernel} does not fit into size {size} with padding {padding}: at most {size + 2 * padding}"
        )
    return (size + 2 * padding - kernel) // stride + 1


def same_padding(kernel: int) -> int:
    """Return the padding that preserves the size at stride 1: (kernel − 1) / 2.

    Raises:
        ExerciseError: the kernel is even, so that no equal padding at both ends preserves the size.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ExerciseError(
            f"kernel {kernel}: expected an odd number; no other kernel preserves the size with equal padding at both ends"
        )
    return (kernel - 1) // 2


def kernel_size_for(size: int, output: int) -> int:
    """Return the kernel size that reduces `size` to `output` at stride 1 without padding: size − output + 1.

    Raises:
        ExerciseError: `output` is not between 1 and `size`.
    """
    if not 1 <= output <= size:
        raise ExerciseError(f"no kernel reduces size {size} to {output} without padding: expected 1 to {size}")
    return size - output + 1


def windows(image: Matrix, height: int, width: int, stride: int = 1) -> Matrix:
    """Return all windows of an image (H, W) as a view (rows, columns, height, width).

    Raises:
        ExerciseError: the image does not have two axes, or the window does not fit.
    """
    if image.ndim != 2:
        raise ExerciseError(f"image of shape {image.shape}: expected two axes, (H, W)")
    for size, kernel in zip(image.shape, (height, width), strict=True):
        output_size(size, kernel, stride)
    return sliding_window_view(image, (height, width))[::stride, ::stride]


def zero_padded(image: Matrix, kernel: Matrix) -> Matrix:
    """Pad an image (H, W) with zeros so that filtering with a kernel (h, w) preserves its size.

    Raises:
        ExerciseError: the kernel does not have two axes of odd length.
    """
    if kernel.ndim != 2:
        raise ExerciseError(f"kernel of shape {kernel.shape}: expected two axes, (h, w)")
    return np.pad(image, [(same_padding(side),) * 2 for side in kernel.shape])


def cross_correlate(image: Matrix, kernel: Matrix) -> Matrix:
    """Filter an image (H, W) with a kernel (h, w): output[i, j] = Σ kernel[a, b] · padded[i + a, j + b].

    The kernel is not flipped, unlike in a mathematical convolution. The image is padded with zeros, so the output is (H, W).

    Raises:
        ExerciseError: image or kernel does not have two axes, or a side of the kernel is even.
    """
    if image.ndim != 2:
        raise ExerciseError(f"image of shape {image.shape}: expected two axes, (H, W)")
    patches = windows(zero_padded(image, kernel), *kernel.shape)
    return np.asarray(np.einsum("ijab,ab->ij", patches, kernel))


def pool(image: Matrix, size: int, stride: int, kind: str) -> Matrix:
    """Pool square windows of an image (H, W).

    Args:
        image: the image; rows and columns that do not fill a window are ignored.
        size: height and width of a window.
        stride: pixels between two windows.
        kind: `average` or `max`.

    Raises:
        ExerciseError: the window does not fit, or `kind` is unknown.
    """
    if kind not in POOLS:
        raise ExerciseError(f"unknown pooling {kind!r}; known: {', '.join(POOLS)}")
    return np.asarray(POOLS[kind](windows(image, size, size, stride), axis=(2, 3)))
