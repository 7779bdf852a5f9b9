"""The base class of all layers: their interface, checks before any arithmetic, and state by PyTorch's names."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from labbook.errors import NumpyBackendError

__all__ = ["Array", "Layer", "draw_uniform", "floating"]

Array = NDArray[np.floating[Any]]
Shape = tuple[int | str, ...]  # a letter stands for any size, a last "..." for any further axes


class Layer(ABC):
    """A function of an array, and its gradient.

    A layer implements `_forward` and `_backward`, each a formula, and `_gradients` if it has parameters. It may keep arrays for
    the backward pass in attributes. They are not copied: do not change inputs until the backward pass is done.

    Attributes:
        parameters: trained values, always changed in place.
        gradients: of the parameters, by the same names, from the last backward pass.
        buffers: the rest of the state, such as running statistics.
        training: whether `forward` behaves as in training; set by `train` and `eval`.
        accepts: shapes of valid inputs.
        dtype: dtype of inputs and parameters; None for any floating dtype.
    """

    def __init__(self, *accepts: Shape, dtype: np.dtype[Any] | None = None) -> None:
        self.parameters: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        self.buffers: dict[str, NDArray[Any]] = {}
        self.training = True
        self.accepts: tuple[Shape, ...] = accepts or (("N", "..."),)
        self.dtype = dtype
        self._outputs: tuple[tuple[int, ...], np.dtype[Any]] | None = None

    @abstractmethod
    def _forward(self, inputs: Array) -> Array:
        """Compute the outputs."""

    @abstractmethod
    def _backward(self, upstream: Array) -> Array:
        """Compute the gradient of the inputs; those of the parameters are in `gradients` already."""

    def _gradients(self, upstream: Array) -> dict[str, Array]:  # noqa: ARG002  # most layers have no parameters
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
            upstream: gradient of the loss with respect to the outputs, of their shape and dtype.

        Raises:
            NumpyBackendError: there was no forward pass, or its outputs have another shape or dtype.
        """
        self.backward_parameters(upstream)
        return self._backward(upstream)

    def backward_parameters(self, upstream: Array) -> None:
        """Store the gradients of the parameters, and skip that of the inputs, which a first layer does not need."""
        self._check_upstream(upstream)
        self.gradients = self._gradients(upstream)

    def train(self, training: bool = True) -> None:
        """Set training mode, or evaluation mode."""
        self.training = training

    def eval(self) -> None:
        """Set evaluation mode."""
        self.train(False)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of parameters and buffers by the names of PyTorch's state dict."""
        return {name: array.copy() for name, array in (self.parameters | self.buffers).items()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Load a state dict of arrays; after an error, the state is unchanged.

        Raises:
            NumpyBackendError: an entry is missing or unknown, or has another shape or kind of dtype.
        """
        own = self.parameters | self.buffers
        if own.keys() != state.keys():
            raise self.error("a state that holds", ", ".join(state) or "nothing", ", ".join(own) or "nothing")
        given = {name: np.asarray(array) for name, array in state.items()}
        for name, array in given.items():
            if array.shape != own[name].shape:
                raise self.error(f"{name} of shape", array.shape, own[name].shape)
            if not np.can_cast(array.dtype, own[name].dtype, "same_kind"):
                raise self.error(f"{name} of dtype", array.dtype, own[name].dtype)
        for name, array in given.items():
            own[name][...] = array

    def error(self, what: str, found: object, expected: object) -> NumpyBackendError:
        """Return an error that says what the layer was given and what it expects."""
        return NumpyBackendError(f"{type(self).__name__}: found {what} {_written(found)}, expected {_written(expected)}")

    def _check_inputs(self, inputs: Array) -> None:
        if not isinstance(inputs, np.ndarray):
            raise self.error("inputs of type", type(inputs).__name__, "a NumPy array")
        if 0 in inputs.shape or not any(_fits(inputs.shape, shape) for shape in self.accepts):
            raise self.error("inputs of shape", inputs.shape, " or ".join(map(_written, self.accepts)))
        known = np.issubdtype(inputs.dtype, np.floating) if self.dtype is None else inputs.dtype == self.dtype
        if not known:
            raise self.error(f"inputs {inputs.shape} of dtype", inputs.dtype, self.dtype or "a floating one")

    def _check_upstream(self, upstream: Array) -> None:
        found = (upstream.shape, upstream.dtype) if isinstance(upstream, np.ndarray) else type(upstream).__name__
        if self._outputs is None:
            raise self.error("backward before forward, with upstream", found, "forward first")
        if found != self._outputs:
            raise self.error("upstream", found, self._outputs)


def _fits(found: tuple[int, ...], expected: Shape) -> bool:
    if expected[-1] == "...":
        expected = expected[:-1] + ("any",) * (len(found) - len(expected) + 1)
    return len(found) == len(expected) and all(isinstance(b, str) or a == b for a, b in zip(found, expected, strict=True))


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))}{',' if len(value) == 1 else ''})"
    return str(value)


def floating(dtype: DTypeLike) -> np.dtype[Any]:
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
