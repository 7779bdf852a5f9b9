"""The fully connected layer, and Flatten, which reshapes images to rows."""

import math

import numpy as np
from numpy.typing import DTypeLike

from labbook.numpy_nn.layer import Array, Layer, draw_uniform, floating_dtype

__all__ = ["Flatten", "Linear"]


class Linear(Layer):
    """A weighted sum of all inputs for each output: y = x Wᵀ + b.

    Goodfellow et al. (2016), "Deep learning", algorithms 6.3 and 6.4. Inputs (N, in), outputs (N, out), weight (out, in),
    bias (out,).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        generator: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(("N", in_features), dtype=floating_dtype(dtype))
        shapes = {"weight": (out_features, in_features)} | ({"bias": (out_features,)} if bias else {})
        for name, shape in shapes.items():
            self.parameters[name] = draw_uniform(generator, shape, in_features, floating_dtype(dtype))

    def _forward(self, inputs: Array) -> Array:
        self._inputs = inputs
        outputs: Array = inputs @ self.parameters["weight"].T
        if "bias" in self.parameters:
            outputs += self.parameters["bias"]
        return outputs

    def _parameter_gradients(self, upstream: Array) -> dict[str, Array]:
        """∂W = ∂yᵀ x, ∂b = Σ ∂y over the samples."""
        gradients: dict[str, Array] = {"weight": upstream.T @ self._inputs}
        if "bias" in self.parameters:
            gradients["bias"] = upstream.sum(axis=0)
        return gradients

    def _backward(self, upstream: Array) -> Array:
        """∂x = ∂y W."""
        return upstream @ self.parameters["weight"]


class Flatten(Layer):
    """One row per sample: inputs (N, ...), outputs (N, product of the rest)."""

    def __init__(self) -> None:
        super().__init__(("N", "features", "..."))

    def _forward(self, inputs: Array) -> Array:
        self._input_shape = inputs.shape
        return inputs.reshape(len(inputs), math.prod(inputs.shape[1:]))

    def _backward(self, upstream: Array) -> Array:
        return upstream.reshape(self._input_shape)
