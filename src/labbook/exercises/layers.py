"""Output shape and number of parameters of each layer of a network."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from labbook.errors import ExerciseError
from labbook.exercises.windows import output_size

__all__ = ["Conv", "LayerSummary", "Linear", "Pool", "conv_parameters", "linear_parameters", "summarize"]


def conv_parameters(channels: int, filters: int, kernel: int) -> int:
    """Count the parameters of a convolution: kernel · kernel · channels · filters, and one bias per filter.

    Raises:
        ExerciseError: a number is below 1.
    """
    if min(channels, filters, kernel) < 1:
        raise ExerciseError(f"channels {channels}, filters {filters}, kernel {kernel}: each must be at least 1")
    return kernel * kernel * channels * filters + filters


def linear_parameters(inputs: int, outputs: int) -> int:
    """Count the parameters of a fully connected layer: inputs · outputs, and one bias per output.

    Raises:
        ExerciseError: a number is below 1.
    """
    if min(inputs, outputs) < 1:
        raise ExerciseError(f"inputs {inputs}, outputs {outputs}: each must be at least 1")
    return inputs * outputs + outputs


@dataclass(frozen=True)
class Conv:
    """A convolution with a square kernel and stride 1."""

    filters: int
    kernel: int
    padding: int = 0


@dataclass(frozen=True)
class Pool:
    """Pooling with square windows that do not overlap."""

    size: int


@dataclass(frozen=True)
class Linear:
    """A fully connected layer, which flattens its input."""

    outputs: int


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a network.

    Attributes:
        name: description, such as `pool 2×2`.
        shape: shape of its output, (C, H, W) or (features,).
        formula: arithmetic for its number of parameters; empty if it has none.
        parameters: number of trainable parameters.
    """

    name: str
    shape: tuple[int, ...]
    formula: str
    parameters: int


def summarize(shape: tuple[int, ...], layers: Iterable[Conv | Pool | Linear]) -> list[LayerSummary]:
    """Summarize each layer of a network, for an image of `shape` (C, H, W).

    Raises:
        ExerciseError: a window does not fit, or a convolution or pool follows a fully connected layer.
    """
    summary: list[LayerSummary] = []
    for layer in layers:
        summary.append(_summarize_layer(shape, layer))
        shape = summary[-1].shape
    return summary


def _summarize_layer(shape: tuple[int, ...], layer: Conv | Pool | Linear) -> LayerSummary:
    if isinstance(layer, Linear):
        inputs, outputs = math.prod(shape), layer.outputs
        count = linear_parameters(inputs, outputs)
        return LayerSummary(f"fully connected {inputs} → {outputs}", (outputs,), f"{inputs} · {outputs} + {outputs}", count)
    if len(shape) != 3:
        raise ExerciseError(f"{layer}: input of shape {shape}, expected an image (C, H, W)")
    channels, height, width = shape
    if isinstance(layer, Pool):
        size = layer.size
        sides = [output_size(side, size, stride=size) for side in (height, width)]
        return LayerSummary(f"pool {size}×{size}", (channels, *sides), "", 0)
    kernel, filters = layer.kernel, layer.filters
    sides = [output_size(side, kernel, padding=layer.padding) for side in (height, width)]
    return LayerSummary(
        name=f"conv {kernel}×{kernel}, {channels} → {filters}",
        shape=(filters, *sides),
        formula=f"{kernel} · {kernel} · {channels} · {filters} + {filters}",
        parameters=conv_parameters(channels, filters, kernel),
    )
