"""Batch normalisation: Ioffe and Szegedy (2015), "Batch normalization", algorithm 1 and the gradients below it."""

import numpy as np
from numpy.typing import DTypeLike

from labbook.numpy_nn.layer import Array, Layer, Shape, floating_dtype

__all__ = ["BatchNorm1d", "BatchNorm2d"]


class _BatchNorm(Layer):
    """y = γ x̂ + β with x̂ = (x − μ) / √(σ² + ε), for each channel; γ is `weight`, β is `bias`.

    In training, μ and σ² are computed from the batch, and the running statistics move towards them by `momentum`. In
    evaluation, μ and σ² are the running statistics. As in PyTorch, the batch is normalised by its biased variance, and the
    unbiased variance is tracked.
    """

    def __init__(
        self,
        *accepted_shapes: Shape,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(*accepted_shapes, dtype=floating_dtype(dtype))
        self.eps, self.momentum = float(eps), float(momentum)
        self.parameters = {"weight": np.ones(num_features, dtype), "bias": np.zeros(num_features, dtype)}
        self.buffers = {
            "running_mean": np.zeros(num_features, dtype),
            "running_var": np.ones(num_features, dtype),
            "num_batches_tracked": np.zeros((), np.int64),
        }

    def _forward(self, inputs: Array) -> Array:
        self._used_batch_statistics = self.training
        if self._used_batch_statistics:
            axes, count = (0, *range(2, inputs.ndim)), inputs.size // inputs.shape[1]
            if count == 1:
                raise self.error("inputs of shape", inputs.shape, "more than one value per channel in training")
            mean = inputs.mean(axis=axes)
            centred = inputs - self._per_channel(mean, inputs)
            variance = (centred**2).mean(axis=axes)
            self._update_running_statistics(mean, variance * (count / (count - 1)))
        else:
            variance = self.buffers["running_var"]
            centred = inputs - self._per_channel(self.buffers["running_mean"], inputs)
        self._inverse_std = 1 / np.sqrt(variance + self.eps)
        self._normalised = centred * self._per_channel(self._inverse_std, inputs)
        weight, bias = self._per_channel(self.parameters["weight"], inputs), self._per_channel(self.parameters["bias"], inputs)
        return self._normalised * weight + bias

    def _parameter_gradients(self, upstream: Array) -> dict[str, Array]:
        """∂γ = Σ ∂y x̂, ∂β = Σ ∂y, over all axes except that of the channels."""
        axes = (0, *range(2, upstream.ndim))
        return {"weight": (upstream * self._normalised).sum(axis=axes), "bias": upstream.sum(axis=axes)}

    def _backward(self, upstream: Array) -> Array:
        """∂x = γ / √(σ² + ε) · ∂y; in training, ∂y − (∂β + x̂ ∂γ) / count replaces ∂y, because μ and σ² depend on x."""
        if self._used_batch_statistics:
            gamma, beta = (self._per_channel(self.gradients[name], upstream) for name in ("weight", "bias"))
            upstream = upstream - (beta + self._normalised * gamma) / (upstream.size // upstream.shape[1])
        return upstream * self._per_channel(self.parameters["weight"] * self._inverse_std, upstream)

    def _update_running_statistics(self, mean: Array, variance: Array) -> None:
        for name, value in (("running_mean", mean), ("running_var", variance)):
            self.buffers[name] *= 1 - self.momentum
            self.buffers[name] += self.momentum * value
        self.buffers["num_batches_tracked"] += 1

    @staticmethod
    def _per_channel(values: Array, inputs: Array) -> Array:
        """Reshape (C,) so that it broadcasts along the channel axis of the inputs."""
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
