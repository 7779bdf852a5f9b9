"""The base class of all layers: their interface, validation of their inputs, and their state under PyTorch's names."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from labbook.errors import NumpyBackendError

__all__ = ["Array", "Layer", "draw_uniform", "floating_dtype"]

Array = NDArray[np.floating[Any]]
Shape = tuple[int | str, ...]  # a string stands for any size, a final "..." for any number of axes


class Layer(ABC):
    """A differentiable function of an array.

    A layer implements `_forward` and `_backward`, and `_parameter_gradients` if it has parameters. It may store arrays for the
    backward pass in attributes. They are not copied: do not change the inputs until the backward pass is done.

    Attributes:
        parameters: trainable arrays by name; always updated in place.
        gradients: gradients of the parameters from the last backward pass, under the same names.
        buffers: the rest of the state, such as running statistics.
        training: whether the layer is in training mode; set by `train` and `eval`.
        accepted_shapes: shapes of valid inputs.
        dtype: dtype of inputs and parameters; None for any floating dtype.
    """

    def __init__(self, *accepted_shapes: Shape, dtype: np.dtype[Any] | None = None) -> None:
        self.parameters: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        self.buffers: dict[str, NDArray[Any]] = {}
        self.training = True
        self.accepted_shapes: tuple[Shape, ...] = accepted_shapes or (("N", "..."),)
        self.dtype = dtype
        self._outputs: tuple[tuple[int, ...], np.dtype[Any]] | None = None

    @abstractmethod
    def _forward(self, inputs: Array) -> Array:
        """Compute the outputs."""

    @abstractmethod
    def _backward(self, upstream: Array) -> Array:
        """Compute the gradient of the inputs; those of the parameters are already in `gradients`."""

    def _parameter_gradients(self, upstream: Array) -> dict[str, Array]:  # noqa: ARG002  # most layers have no parameters
        """Compute the gradient of each parameter."""
        return {}

    def forward(self, inputs: Array) -> Array:
        """Return the outputs, in the dtype of the inputs.

        Raises:
            NumpyBackendError: the layer does not accept this shape or dtype.
        """
        self._outputs = None  # no backward pass after a failed forward pass
        self._check_inputs(inputs)
        outputs = self._forward(inputs)
        self._outputs = outputs.shape, outputs.dtype
        return outputs

    def backward(self, upstream: Array) -> Array:
        """Return the gradient of the inputs of the last forward pass, and store those of the parameters in `gradients`.

        Args:
            upstream: gradient of the loss with respect to the outputs, with their shape and dtype.

        Raises:
            NumpyBackendError: there was no forward pass, or its outputs have a different shape or dtype.
        """
        self.backward_parameters(upstream)
        return self._backward(upstream)

    def backward_parameters(self, upstream: Array) -> None:
        """Store the gradients of the parameters, without computing that of the inputs, which a first layer does not need."""
        self._check_upstream(upstream)
        self.gradients = self._parameter_gradients(upstream)

    def train(self, training: bool = True) -> None:
        """Set training mode, or evaluation mode."""
        self.training = training

    def eval(self) -> None:
        """Set evaluation mode."""
        self.train(False)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of parameters and buffers under the names of PyTorch's state dict."""
        return {name: array.copy() for name, array in (self.parameters | self.buffers).items()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Load a state dict of arrays; after an error, the state is unchanged.

        Raises:
            NumpyBackendError: an entry is missing or unknown, or has a different shape or kind of dtype.
        """
        current = self.parameters | self.buffers
        if current.keys() != state.keys():
            raise self.error("state entries", ", ".join(state) or "none", ", ".join(current) or "none")
        arrays = {name: np.asarray(array) for name, array in state.items()}
        for name, array in arrays.items():
            if array.shape != current[name].shape:
                raise self.error(f"{name} of shape", array.shape, current[name].shape)
            if not np.can_cast(array.dtype, current[name].dtype, "same_kind"):
                raise self.error(f"{name} of dtype", array.dtype, current[name].dtype)
        for name, array in arrays.items():
            current[name][...] = array

    def error(self, what: str, actual: object, expected: object) -> NumpyBackendError:
        """Return an error that states the actual and the expected value."""
        return NumpyBackendError(f"{type(self).__name__}: found {what} {_format(actual)}, expected {_format(expected)}")

    def _check_inputs(self, inputs: Array) -> None:
        if not isinstance(inputs, np.ndarray):
            raise self.error("inputs of type", type(inputs).__name__, "a NumPy array")
        if 0 in inputs.shape or not any(_matches(inputs.shape, shape) for shape in self.accepted_shapes):
            raise self.error("inputs of shape", inputs.shape, " or ".join(map(_format, self.accepted_shapes)))
        valid = np.issubdtype(inputs.dtype, np.floating) if self.dtype is None else inputs.dtype == self.dtype
        if not valid:
            raise self.error(f"inputs {inputs.shape} of dtype", inputs.dtype, self.dtype or "a floating dtype")

    def _check_upstream(self, upstream: Array) -> None:
        actual = (upstream.shape, upstream.dtype) if isinstance(upstream, np.ndarray) else type(upstream).__name__
        if self._outputs is None:
            raise NumpyBackendError(f"{type(self).__name__}: backward was called before forward. Call forward first.")
        if actual != self._outputs:
            raise self.error("upstream", actual, self._outputs)


def _matches(shape: tuple[int, ...], expected: Shape) -> bool:
    if expected[-1] == "...":
        expected = expected[:-1] + ("any",) * (len(shape) - len(expected) + 1)
    return len(shape) == len(expected) and all(isinstance(b, str) or a == b for a, b in zip(shape, expected, strict=True))


def _format(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_format, value))}{',' if len(value) == 1 else ''})"
    return str(value)


def floating_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype of a layer's parameters.

    Raises:
        NumpyBackendError: it is not a floating dtype.
    """
    if not np.issubdtype(np.dtype(dtype), np.floating):
        raise NumpyBackendError(f"parameters of dtype {np.dtype(dtype)}: expected a floating dtype")
    return np.dtype(dtype)


def draw_uniform(generator: np.random.Generator, shape: tuple[int, ...], fan_in: int, dtype: np.dtype[Any]) -> Array:
    """Draw from U(-1/√fan_in, 1/√fan_in), as PyTorch initialises Linear and Conv2d (Glorot and Bengio, 2010, equation 1)."""
    bound = fan_in**-0.5
    return generator.uniform(-bound, bound, shape).astype(dtype)
