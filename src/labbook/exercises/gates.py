"""OR and XOR as the smallest ReLU networks that compute them, with weights chosen by hand."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.errors import ExerciseError

__all__ = ["INPUTS", "OR", "XOR", "Network", "decide", "hidden_units", "output"]

INPUTS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])


@dataclass(frozen=True)
class Network:
    """A network of two inputs, U hidden ReLU units and one output: output · ReLU(weights · x + bias).

    Attributes:
        weights: weights of each hidden unit, (U, 2).
        bias: bias of each hidden unit, (U,).
        output: weight of each hidden unit in the output, (U,).
    """

    weights: tuple[tuple[float, float], ...]
    bias: tuple[float, ...]
    output: tuple[float, ...]


OR = Network(weights=((1, 1),), bias=(0,), output=(1,))
XOR = Network(weights=((1, 1), (1, 1)), bias=(0, -1), output=(1, -2))  # OR − 2 · AND


def hidden_units(network: Network, inputs: NDArray[Any]) -> NDArray[Any]:
    """Compute the activations of the hidden units, ReLU(weights · x + bias): inputs (N, 2), outputs (N, U).

    Raises:
        ExerciseError: the inputs are not pairs.
    """
    if inputs.ndim != 2 or inputs.shape[1] != 2:
        raise ExerciseError(f"inputs of shape {inputs.shape}: expected pairs, (N, 2)")
    return np.asarray(np.maximum(inputs @ np.array(network.weights).T + np.array(network.bias), 0))


def output(network: Network, inputs: NDArray[Any]) -> NDArray[Any]:
    """Compute the output of a network: inputs (N, 2), outputs (N,).

    Raises:
        ExerciseError: the inputs are not pairs.
    """
    return np.asarray(hidden_units(network, inputs) @ np.array(network.output))


def decide(outputs: NDArray[Any]) -> NDArray[Any]:
    """Convert outputs to decisions as the assignment does: at least 1 is true (1), exactly 0 is false (0).

    Raises:
        ExerciseError: an output is neither true nor false.
    """
    undecided = outputs[~(outputs >= 1) & (outputs != 0)]
    if undecided.size:
        raise ExerciseError(f"output {undecided[0]} is neither true (at least 1) nor false (exactly 0)")
    return np.asarray((outputs >= 1).astype(int))
