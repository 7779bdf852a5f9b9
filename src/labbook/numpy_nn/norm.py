"""Batch normalisation: Ioffe and Szegedy (2015), "Batch normalization", algorithm 1 and the gradients below it."""

import numpy as np
from numpy.typing import DTypeLike

from labbook.numpy_nn.layer import Array, Layer, Shape, floating

__all__ = ["BatchNorm1d", "BatchNorm2d"]


class _BatchNorm(Layer):
    """y = γ x̂ + β with x̂ = (x − μ) / √(σ² + ε), for each channel; γ is `weight`, β is `bias`.

    In training, μ and σ² are computed from the batch, and the running statistics move towards them by `momentum`. In
    evaluation, μ and σ² are the running statistics. As in PyTorch, the batch is normalised by its biased variance, and the
    unbiased variance is tracked.
    """

    def __init__(
        self, *accepts: Shape, num_features: int, eps: float = 1e-5, momentum: float = 0.1, dtype: DTypeLike = np.float32
    ) -> None:
        super().__init__(*accepts, dtype=floating(dtype))
        self.eps, self.momentum = float(eps), float(momentum)
        self.parameters = {"weight": np.ones(num_features, dtype), "bias": np.zeros(num_features, dtype)}
        self.buffers = {
            "running_mean": np.zeros(num_features, dtype),
            "running_var": np.ones(num_features, dtype),
            "num_batches_tracked": np.zeros((), np.int64),
        }

    def _forward(self, inputs: Array) -> Array:
        self._by_batch = self.training
        if self._by_batch:
            axes, count = (0, *range(2, inputs.ndim)), inputs.size // inputs.shape[1]
            if count == 1:
                raise self.error("inputs of shape", inputs.shape, "more than one value of each channel in training")
            mean = inputs.mean(axis=axes)
            centred = inputs - self._along(mean, inputs)
            variance = (centred**2).mean(axis=axes)
            self._track(mean, variance * (count / (count - 1)))
        else:
            variance = self.buffers["running_var"]
            centred = inputs - self._along(self.buffers["running_mean"], inputs)
        self._inverse_std = 1 / np.sqrt(variance + self.eps)
        self._normalised = centred * self._along(self._inverse_std, inputs)
        weight, bias = self._along(self.parameters["weight"], inputs), self._along(self.parameters["bias"], inputs)
        return self._normalised * weight + bias

    def _gradients(self, upstream: Array) -> dict[str, Array]:
        """∂γ = Σ ∂y x̂, ∂β = Σ ∂y, over all but the channels."""
        axes = (0, *range(2, upstream.ndim))
        return {"weight": (upstream * self._normalised).sum(axis=axes), "bias": upstream.sum(axis=axes)}

    def _backward(self, upstream: Array) -> Array:
        """∂x = γ / √(σ² + ε) · ∂y; in training, ∂y − (∂β + x̂ ∂γ) / count replaces ∂y, because μ and σ² depend on x."""
        if self._by_batch:
            weight, bias = (self._along(self.gradients[name], upstream) for name in ("weight", "bias"))
            upstream = upstream - (bias + self._normalised * weight) / (upstream.size // upstream.shape[1])
        return upstream * self._along(self.parameters["weight"] * self._inverse_std, upstream)

    def _track(self, mean: Array, variance: Array) -> None:
        for name, value in (("running_mean", mean), ("running_var", variance)):
            self.buffers[name] *= 1 - self.momentum
            self.buffers[name] += self.momentum * value
        self.buffers["num_batches_tracked"] += 1

    @staticmethod
    def _along(values: Array, inputs: Array) -> Array:
        """Reshape (C,) so that it is broadcast along the channel axis."""
        return values.reshape(-1, *(1,) * (inputs.ndim - 2))


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of inputs (N, C) or (N, C, L); weight, bias and running statistics (C,)."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, *, dtype: DTypeLike = np.float32) -> None:
        shapes = ("N", num_features), ("N", num_features, "L")
        super().__init__(*shapes, num_features=num_features, eps=eps, momentum=momentum, dtype=dtype)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of inputs (N, C, H, W); weight, bias and running statistics (C,)."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, *, dtype: DTypeLike = np.float32) -> None:
        super().__init__(("N", num_features, "H", "W"), num_features=num_features, eps=eps, momentum=momentum, dtype=dtype)
