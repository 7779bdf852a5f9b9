"""Sliding windows over images, and the transposed operation, for convolution and pooling.

Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning": windows of size k at stride s fit
⌊(H − k) / s⌋ + 1 times into H rows (relationship 6, with the padding counted in H).
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from labbook.errors import NumpyBackendError
from labbook.numpy_nn.layer import Array

__all__ = ["check_sizes", "fold", "windows"]


def windows(images: Array, kernel: int, stride: int, *, writeable: bool = False) -> Array:
    """Return a view of all windows, without a copy.

    Args:
        images: (N, C, H, W), at least as large as the kernel.
        kernel: height and width of a window.
        stride: rows and columns from one window to the next.
        writeable: whether the view is writeable; write one (i, j) at a time, because windows overlap.

    Returns:
        (N, C, kernel, kernel, H', W'): [:, :, i, j] holds the value at (i, j) of every window.
    """
    view = sliding_window_view(images, (kernel, kernel), axis=(2, 3), writeable=writeable)
    return view[:, :, ::stride, ::stride].transpose(0, 1, 4, 5, 2, 3)


def fold(values: Array, shape: tuple[int, ...], stride: int) -> Array:
    """Add the values of all windows to their pixels (`torch.nn.Fold`, col2im); this is the transpose of `windows`.

    Args:
        values: (N, C, kernel, kernel, H', W').
        shape: (N, C, H, W) of the images.
        stride: rows and columns from one window to the next.
    """
    images = np.zeros(shape, values.dtype)
    kernel = values.shape[2]
    view = windows(images, kernel, stride, writeable=True)
    for i, j in np.ndindex(kernel, kernel):
        view[:, :, i, j] += values[:, :, i, j]
    return images


def check_sizes(layer: str, **sizes: int) -> None:
    """Check that kernel and stride are at least 1, and padding at least 0.

    Raises:
        NumpyBackendError: a size is too small; the message names the layer and the size.
    """
    for name, size in sizes.items():
        minimum = 0 if name == "padding" else 1
        if size < minimum:
            raise NumpyBackendError(f"{layer}: found {name} {size}, expected at least {minimum}")
