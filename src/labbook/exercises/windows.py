"""Windows that slide over an image: how many fit, how much padding they need, and what a filter or a pool makes of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from labbook.errors import ExerciseError

__all__ = ["cross_correlate", "kernel_for", "output_size", "pool", "same_padding", "windows", "zero_padded"]

Matrix = NDArray[Any]

POOLS: dict[str, Callable[..., Any]] = {"average": np.mean, "max": np.max}


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Count the places where a window fits: ⌊(size + 2 · padding − kernel) / stride⌋ + 1.

    Args:
        size: of one side of the image, in pixels.
        kernel: of the same side of the window.
        stride: pixels from one place to the next.
        padding: pixels added at each of the two ends.

    Raises:
        ExerciseError: the window does not fit once, or a number is no size.
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
    """Give the padding that keeps the size at stride 1: (kernel − 1) / 2.

    Raises:
        ExerciseError: the kernel is even, and no equal padding of both ends keeps the size.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ExerciseError(f"kernel {kernel}: only an odd kernel of at least 1 keeps the size with equal padding at both ends")
    return (kernel - 1) // 2


def kernel_for(size: int, wanted: int) -> int:
    """Give the kernel that makes `wanted` of `size` at stride 1 without padding: size − wanted + 1.

    Raises:
        ExerciseError: without padding the output is never larger than the image, and never empty.
    """
    if not 1 <= wanted <= size:
        raise ExerciseError(f"no kernel makes {wanted} of {size} without padding: from 1 to {size} can be had")
    return size - wanted + 1


def windows(image: Matrix, height: int, width: int, stride: int = 1) -> Matrix:
    """Cut an image (H, W) into windows (rows, columns, height, width), without copying.

    Raises:
        ExerciseError: the image has not two axes, or the window does not fit.
    """
    if image.ndim != 2:
        raise ExerciseError(f"an image has two axes, (H, W); this one has the shape {image.shape}")
    for size, kernel in zip(image.shape, (height, width), strict=True):
        output_size(size, kernel, stride)
    return sliding_window_view(image, (height, width))[::stride, ::stride]


def zero_padded(image: Matrix, kernel: Matrix) -> Matrix:
    """Put as many zeros around an image (H, W) as a kernel (h, w) needs to keep its size.

    Raises:
        ExerciseError: the kernel has not two odd sides.
    """
    if kernel.ndim != 2:
        raise ExerciseError(f"a kernel has two axes, (h, w); this one has the shape {kernel.shape}")
    return np.pad(image, [(same_padding(side),) * 2 for side in kernel.shape])


def cross_correlate(image: Matrix, kernel: Matrix) -> Matrix:
    """Filter an image (H, W) with a kernel (h, w): output[i, j] = Σ kernel[a, b] · padded[i + a, j + b].

    The kernel is laid on as it stands, not turned round as in the convolution of mathematics. Zeros around the image keep
    its size, so the output is (H, W).

    Raises:
        ExerciseError: image or kernel has not two axes, or a side of the kernel is even.
    """
    if image.ndim != 2:
        raise ExerciseError(f"an image has two axes, (H, W); this one has the shape {image.shape}")
    places = windows(zero_padded(image, kernel), *kernel.shape)
    return np.asarray(np.einsum("ijab,ab->ij", places, kernel))


def pool(image: Matrix, size: int, stride: int, how: str) -> Matrix:
    """Take one number from each square window of an image (H, W): its mean or its largest pixel.

    Args:
        image: of which rows and columns that fill no window are left out.
        size: of the window, in pixels.
        stride: from one window to the next.
        how: `average` or `max`.

    Raises:
        ExerciseError: the window does not fit, or `how` is neither.
    """
    if how not in POOLS:
        raise ExerciseError(f"unknown pooling '{how}'; there are {' and '.join(POOLS)}")
    return np.asarray(POOLS[how](windows(image, size, size, stride), axis=(2, 3)))
