"""Pooling: one value per window and channel. Goodfellow et al. (2016), "Deep learning", section 9.3.

Inputs (N, C, H, W), outputs (N, C, H', W') with H' = ⌊(H − kernel) / stride⌋ + 1: pixels that no window covers are ignored.
"""

import numpy as np

from labbook.numpy_nn.layer import Array, Layer
from labbook.numpy_nn.windows import check_sizes, fold, windows

__all__ = ["AvgPool2d", "MaxPool2d"]


class _Pool(Layer):
    """Base class of both pooling layers: square windows; the stride is the window size by default."""

    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__(("N", "C", "H", "W"))
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        check_sizes(type(self).__name__, kernel_size=self.kernel_size, stride=self.stride)

    def _windows(self, inputs: Array) -> Array:
        """Return all windows, (N, C, kernel, kernel, H', W')."""
        if min(inputs.shape[2:]) < self.kernel_size:
            raise self.error("inputs of shape", inputs.shape, f"height and width of at least {self.kernel_size}")
        self._input_shape = inputs.shape
        return windows(inputs, self.kernel_size, self.stride)


class AvgPool2d(_Pool):
    """The mean of each window."""

    def _forward(self, inputs: Array) -> Array:
        means: Array = self._windows(inputs).mean(axis=(2, 3))
        return means

    def _backward(self, upstream: Array) -> Array:
        """∂x = Σ ∂y / kernel² over the windows that contain x."""
        samples, channels, height, width = upstream.shape
        gradient = (upstream / self.kernel_size**2)[:, :, None, None]
        values = np.broadcast_to(gradient, (samples, channels, self.kernel_size, self.kernel_size, height, width))
        return fold(values, self._input_shape, self.stride)


class MaxPool2d(_Pool):
    """The maximum of each window; the gradient goes to the first maximum in row-major order."""

    def _forward(self, inputs: Array) -> Array:
        view = self._windows(inputs)
        values = view.reshape(*view.shape[:2], -1, *view.shape[4:])  # (N, C, kernel², H', W')
        self._argmax = values.argmax(axis=2, keepdims=True)
        return np.take_along_axis(values, self._argmax, axis=2).squeeze(2)

    def _backward(self, upstream: Array) -> Array:
        """∂x = Σ ∂y over the windows whose maximum is x."""
        samples, channels, height, width = upstream.shape
        values = np.zeros((samples, channels, self.kernel_size**2, height, width), upstream.dtype)
        np.put_along_axis(values, self._argmax, upstream[:, :, None], axis=2)
        values = values.reshape(samples, channels, self.kernel_size, self.kernel_size, height, width)
        return fold(values, self._input_shape, self.stride)
