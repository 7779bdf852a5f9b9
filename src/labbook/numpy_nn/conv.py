"""Convolution as one matrix product per batch.

Chellapilla, Puri and Simard (2006), "High performance convolutional neural networks for document processing", section 2.1:
each window becomes a column of a matrix, each kernel a row of another one, and the product of the two is the output.
"""

import numpy as np
from numpy.typing import DTypeLike

from labbook.numpy_nn.layer import Array, Layer, draw_uniform, floating_dtype
from labbook.numpy_nn.windows import check_sizes, fold, windows

__all__ = ["Conv2d"]


class Conv2d(Layer):
    """Cross-correlation with learned kernels: y = W · window + b at every position where the kernel fits.

    Inputs (N, in, H, W), outputs (N, out, H', W') with H' = ⌊(H + 2 padding − kernel) / stride⌋ + 1, weight
    (out, in, kernel, kernel), bias (out,).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        bias: bool = True,
        generator: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(("N", in_channels, "H", "W"), dtype=floating_dtype(dtype))
        check_sizes("Conv2d", kernel_size=kernel_size, stride=stride, padding=padding)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        shapes = {"weight": (out_channels, in_channels, kernel_size, kernel_size)} | ({"bias": (out_channels,)} if bias else {})
        for name, shape in shapes.items():
            self.parameters[name] = draw_uniform(generator, shape, in_channels * kernel_size**2, floating_dtype(dtype))

    def _forward(self, inputs: Array) -> Array:
        padded = self._pad(inputs)
        if min(padded.shape[2:]) < self.kernel_size:
            raise self.error(
                f"inputs {inputs.shape} with padded height and width", padded.shape[2:], f"at least {self.kernel_size} each"
            )
        view = windows(padded, self.kernel_size, self.stride)
        samples, height, width = len(inputs), *view.shape[-2:]
        self._padded_shape = padded.shape
        self._columns = view.reshape(samples, -1, height * width)  # (N, in · kernel², H' · W'); the only copy
        outputs: Array = self._kernel_matrix() @ self._columns
        if "bias" in self.parameters:
            outputs += self.parameters["bias"][:, None]
        return outputs.reshape(samples, -1, height, width)

    def _parameter_gradients(self, upstream: Array) -> dict[str, Array]:
        """∂W = Σ ∂y columnsᵀ over the samples, ∂b = Σ ∂y over samples and positions."""
        flat = upstream.reshape(*upstream.shape[:2], -1)
        weight = (flat @ self._columns.transpose(0, 2, 1)).sum(axis=0)
        gradients: dict[str, Array] = {"weight": weight.reshape(self.parameters["weight"].shape)}
        if "bias" in self.parameters:
            gradients["bias"] = upstream.sum(axis=(0, 2, 3))
        return gradients

    def _backward(self, upstream: Array) -> Array:
        """∂columns = Wᵀ ∂y; the gradient of a pixel is the sum over its windows."""
        samples, _, height, width = upstream.shape
        columns: Array = self._kernel_matrix().T @ upstream.reshape(samples, -1, height * width)
        values = columns.reshape(samples, -1, self.kernel_size, self.kernel_size, height, width)
        return self._crop(fold(values, self._padded_shape, self.stride))

    def _kernel_matrix(self) -> Array:
        """Return the kernels as (out, in · kernel²)."""
        weight = self.parameters["weight"]
        return weight.reshape(len(weight), -1)

    def _pad(self, images: Array) -> Array:
        if not self.padding:
            return images
        samples, channels, height, width = images.shape
        padded = np.zeros((samples, channels, height + 2 * self.padding, width + 2 * self.padding), images.dtype)
        self._crop(padded)[...] = images
        return padded

    def _crop(self, padded: Array) -> Array:
        height, width = padded.shape[2:]
        return padded[:, :, self.padding : height - self.padding, self.padding : width - self.padding]
