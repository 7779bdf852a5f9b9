"""Elementwise activation functions: outputs have the shape of the inputs."""

import numpy as np

from labbook.numpy_nn.layer import Array, Layer

__all__ = ["ELU", "ReLU", "Tanh"]


class ReLU(Layer):
    """y = max(x, 0); the gradient at 0 is 0 (Glorot, Bordes and Bengio, 2011, "Deep sparse rectifier neural networks")."""

    def _forward(self, inputs: Array) -> Array:
        self._inputs = inputs
        return np.maximum(inputs, 0)

    def _backward(self, upstream: Array) -> Array:
        """∂x = ∂y where x > 0, else 0."""
        return upstream * (self._inputs > 0)


class ELU(Layer):
    """y = x where x > 0, else α(eˣ − 1) (Clevert, Unterthiner and Hochreiter, 2016, "Exponential linear units", section 3)."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = float(alpha)

    def _forward(self, inputs: Array) -> Array:
        self._inputs = inputs
        return np.where(inputs > 0, inputs, self.alpha * np.expm1(np.minimum(inputs, 0)))  # min prevents overflow

    def _backward(self, upstream: Array) -> Array:
        """∂x = ∂y where x > 0, else ∂y α eˣ."""
        return upstream * np.where(self._inputs > 0, 1, self.alpha * np.exp(np.minimum(self._inputs, 0)))


class Tanh(Layer):
    """y = tanh x (LeCun et al., 1998, "Efficient BackProp", section 4.4)."""

    def _forward(self, inputs: Array) -> Array:
        self._tanh = np.tanh(inputs)
        return self._tanh

    def _backward(self, upstream: Array) -> Array:
        """∂x = ∂y (1 − y²)."""
        derivative: Array = 1 - self._tanh**2
        return upstream * derivative
