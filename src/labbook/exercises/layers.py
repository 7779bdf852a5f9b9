"""Learnable weights counted layer by layer, with the shape that each layer hands on."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from labbook.errors import ExerciseError
from labbook.exercises.windows import output_size

__all__ = ["Conv", "Linear", "Pool", "Walked", "conv_parameters", "linear_parameters", "walk"]


def conv_parameters(channels: int, filters: int, kernel: int) -> int:
    """Count the weights of a convolution: kernel · kernel · channels · filters, and a bias for each filter.

    Raises:
        ExerciseError: a number is below 1.
    """
    if min(channels, filters, kernel) < 1:
        raise ExerciseError(f"channels {channels}, filters {filters}, kernel {kernel}: each is at least 1")
    return kernel * kernel * channels * filters + filters


def linear_parameters(inputs: int, outputs: int) -> int:
    """Count the weights of a fully-connected layer: inputs · outputs, and a bias for each output.

    Raises:
        ExerciseError: a number is below 1.
    """
    if min(inputs, outputs) < 1:
        raise ExerciseError(f"inputs {inputs}, outputs {outputs}: each is at least 1")
    return inputs * outputs + outputs


@dataclass(frozen=True)
class Conv:
    """A convolution with a square kernel and stride 1."""

    filters: int
    kernel: int
    padding: int = 0


@dataclass(frozen=True)
class Pool:
    """Pooling of square windows that lie side by side."""

    size: int


@dataclass(frozen=True)
class Linear:
    """A fully-connected layer, which flattens what comes in."""

    outputs: int


@dataclass(frozen=True)
class Walked:
    """A layer as met on the way through a network.

    Attributes:
        layer: what it is, in words.
        shape: that it hands on, (C, H, W) or (features,).
        arithmetic: the count with its numbers put in; empty where nothing is learnt.
        parameters: the count.
    """

    layer: str
    shape: tuple[int, ...]
    arithmetic: str
    parameters: int


def walk(shape: tuple[int, ...], layers: Iterable[Conv | Pool | Linear]) -> list[Walked]:
    """Follow an image of `shape` (C, H, W) through a network.

    Raises:
        ExerciseError: a window does not fit, or a convolution or pool follows a fully-connected layer.
    """
    way: list[Walked] = []
    for layer in layers:
        way.append(_step(shape, layer))
        shape = way[-1].shape
    return way


def _step(shape: tuple[int, ...], layer: Conv | Pool | Linear) -> Walked:
    if isinstance(layer, Linear):
        inputs, outputs = math.prod(shape), layer.outputs
        count = linear_parameters(inputs, outputs)
        return Walked(f"fully connected {inputs} → {outputs}", (outputs,), f"{inputs} · {outputs} + {outputs}", count)
    if len(shape) != 3:
        raise ExerciseError(f"{layer} needs an image (C, H, W), and gets the shape {shape}")
    channels, height, width = shape
    if isinstance(layer, Pool):
        size = layer.size
        sides = [output_size(side, size, stride=size) for side in (height, width)]
        return Walked(f"pool {size}×{size}", (channels, *sides), "", 0)
    kernel, filters = layer.kernel, layer.filters
    sides = [output_size(side, kernel, padding=layer.padding) for side in (height, width)]
    return Walked(
        layer=f"conv {kernel}×{kernel}, {channels} → {filters}",
        shape=(filters, *sides),
        arithmetic=f"{kernel} · {kernel} · {channels} · {filters} + {filters}",
        parameters=conv_parameters(channels, filters, kernel),
    )
