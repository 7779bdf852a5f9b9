"""Check each NumPy layer against PyTorch's class of the same name, and against central differences.

Central differences: Goodfellow, Bengio and Courville (2016), "Deep learning", section 11.5. Errors are relative,
max |a − b| / max(max |a|, max |b|), over a whole array.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from labbook.errors import GradientError
from labbook.numpy_nn.activations import ELU, ReLU, Tanh
from labbook.numpy_nn.conv import Conv2d
from labbook.numpy_nn.layer import Array, Layer
from labbook.numpy_nn.linear import Flatten, Linear
from labbook.numpy_nn.loss import CrossEntropyLoss
from labbook.numpy_nn.norm import BatchNorm1d, BatchNorm2d
from labbook.numpy_nn.pooling import AvgPool2d, MaxPool2d

__all__ = ["CASES", "TOLERANCE", "Case", "against_differences", "against_pytorch", "check", "check_all", "relative_error"]

TOLERANCE = {"float32": 1e-4, "float64": 1e-6}
STEP = 1e-5  # of central differences: errors of truncation about 1e-10, of rounding about 1e-11, for values about 1


@dataclass(frozen=True)
class Case:
    """One way to build a layer, and inputs for it.

    Attributes:
        layer: class of the layer.
        arguments: positional arguments of both constructors, ours and PyTorch's.
        shape: shape of the inputs.
        options: keyword arguments of both constructors.
        training: whether the layer is checked in training mode.
    """

    layer: type[Layer | CrossEntropyLoss]
    arguments: tuple[Any, ...]
    shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    training: bool = True


SHAPES = {"rows": (4, 6), "images": (2, 3, 5, 4), "one_sample": (1, 3, 3, 5)}
POOLS = {
    "even": ((2,), (2, 3, 6, 4)),
    "odd": ((2,), (2, 3, 7, 5)),
    "overlapping": ((3, 2), (2, 2, 7, 9)),
    "stride_1": ((2, 1), (2, 2, 4, 5)),
    "gaps": ((2, 3), (2, 2, 8, 7)),
    "one_channel": ((2,), (3, 1, 4, 4)),
    "one_sample": ((2,), (1, 3, 4, 6)),
}
CASES: dict[str, dict[str, Case]] = {
    "Linear": {
        "rows": Case(Linear, (6, 4), (5, 6)),
        "no_bias": Case(Linear, (6, 4), (5, 6), {"bias": False}),
        "one_feature": Case(Linear, (1, 1), (5, 1)),
        "one_sample": Case(Linear, (6, 4), (1, 6)),
    },
    "Conv2d": {
        "no_padding": Case(Conv2d, (3, 4, 3), (2, 3, 6, 8)),
        "same_size": Case(Conv2d, (3, 4, 5), (2, 3, 8, 6), {"padding": 2}),
        "odd_stride_2": Case(Conv2d, (3, 4, 3), (2, 3, 9, 7), {"stride": 2, "padding": 1}),
        "uncovered_edge": Case(Conv2d, (2, 3, 3), (2, 2, 8, 6), {"stride": 2}),
        "gaps": Case(Conv2d, (2, 3, 2), (2, 2, 8, 7), {"stride": 3}),
        "one_pixel_kernel": Case(Conv2d, (3, 4, 1), (2, 3, 5, 4)),
        "kernel_of_image_size": Case(Conv2d, (2, 3, 5), (2, 2, 5, 5)),
        "no_bias": Case(Conv2d, (3, 4, 3), (2, 3, 5, 5), {"bias": False}),
        "one_channel": Case(Conv2d, (1, 1, 3), (3, 1, 5, 6)),
        "one_sample": Case(Conv2d, (3, 4, 3), (1, 3, 5, 7), {"padding": 1}),
    },
    "AvgPool2d": {name: Case(AvgPool2d, arguments, shape) for name, (arguments, shape) in POOLS.items()},
    "MaxPool2d": {name: Case(MaxPool2d, arguments, shape) for name, (arguments, shape) in POOLS.items()},
    "ReLU": {name: Case(ReLU, (), shape) for name, shape in SHAPES.items()},
    "ELU": {name: Case(ELU, (), shape) for name, shape in SHAPES.items()} | {"half_alpha": Case(ELU, (0.5,), (4, 6))},
    "Tanh": {name: Case(Tanh, (), shape) for name, shape in SHAPES.items()},
    "BatchNorm1d": {
        "training": Case(BatchNorm1d, (4,), (6, 4)),
        "evaluation": Case(BatchNorm1d, (4,), (6, 4), training=False),
        "sequences": Case(BatchNorm1d, (3,), (4, 3, 5)),
        "one_channel": Case(BatchNorm1d, (1,), (7, 1)),
        "one_sample": Case(BatchNorm1d, (4,), (1, 4), training=False),
    },
    "BatchNorm2d": {
        "training": Case(BatchNorm2d, (3,), (4, 3, 4, 4)),
        "evaluation": Case(BatchNorm2d, (3,), (4, 3, 4, 4), training=False),
        "odd": Case(BatchNorm2d, (3,), (2, 3, 5, 3)),
        "one_channel": Case(BatchNorm2d, (1,), (3, 1, 4, 5)),
        "one_sample": Case(BatchNorm2d, (3,), (1, 3, 3, 5)),
        "other_momentum": Case(BatchNorm2d, (3,), (2, 3, 4, 4), {"momentum": 0.3, "eps": 1e-3}),
    },
    "Flatten": {"images": Case(Flatten, (), (2, 3, 4, 5)), "one_sample": Case(Flatten, (), (1, 3, 5))},
    "CrossEntropyLoss": {
        "ten_classes": Case(CrossEntropyLoss, (), (6, 10)),
        "two_classes": Case(CrossEntropyLoss, (), (5, 2)),
        "one_sample": Case(CrossEntropyLoss, (), (1, 4)),
    },
}
Results = dict[str, NDArray[Any]]


def check_all() -> dict[str, Any]:
    """Check every case of every layer.

    Returns:
        Errors by layer, case and comparison, and the largest of each comparison.

    Raises:
        GradientError: a comparison fails; the message names it.
    """
    layers = {layer: {name: check(name, case) for name, case in cases.items()} for layer, cases in CASES.items()}
    checked = [errors for cases in layers.values() for errors in cases.values()]
    largest = {kind: max(max(errors[kind].values()) for errors in checked) for kind in checked[0]}
    comparisons = sum(len(compared) for errors in checked for compared in errors.values())
    return {"passed": True, "comparisons": comparisons, "largest": largest, "layers": layers}


def check(name: str, case: Case) -> dict[str, dict[str, float]]:
    """Compare outputs, running statistics and every gradient of one case.

    Returns:
        Relative errors, rounded to two digits, by comparison and name of the compared array.

    Raises:
        GradientError: an error is too large; the message names layer, case, comparison and error.
    """
    return {
        "pytorch_float32": against_pytorch(name, case, "float32"),
        "pytorch_float64": against_pytorch(name, case, "float64"),
        "central_differences": against_differences(name, case),
    }


def against_pytorch(name: str, case: Case, dtype: str) -> dict[str, float]:
    """Compare all results of a case with those of PyTorch's layer; return and raise as `check` does."""
    drawn = _draw(case, dtype)
    where = f"{case.layer.__name__}, case {name}, {dtype}, against PyTorch"
    return _compare(where, _run(case, drawn), _run_twin(case, drawn), TOLERANCE[dtype])


def against_differences(name: str, case: Case) -> dict[str, float]:
    """Compare the gradients of a case with central differences in float64; return and raise as `check` does."""
    drawn = _draw(case, "float64")
    where = f"{case.layer.__name__}, case {name}, float64, against central differences"
    return _compare(where, _run(case, drawn), _differences(case, drawn), TOLERANCE["float64"])


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return max |a − b| / max(max |a|, max |b|) of two arrays that are not both zero."""
    return float(np.abs(found - expected).max() / max(np.abs(found).max(), np.abs(expected).max()))


def _compare(where: str, found: Results, expected: Results, tolerance: float) -> dict[str, float]:
    errors = {}
    for what, array in expected.items():
        if what not in found:
            raise GradientError(f"{where}: {what} is missing.")
        kinds = [f"{values.shape} of {values.dtype}" for values in (found[what], array)]
        if kinds[0] != kinds[1]:
            raise GradientError(f"{where}: {what} has shape {kinds[0]}, expected {kinds[1]}.")
        if not array.any():
            raise GradientError(f"{where}: {what} is expected to be zero everywhere, which proves nothing.")
        error = relative_error(found[what], array)
        if not error <= tolerance:  # true for NaN as well
            raise GradientError(f"{where}: {what} has a relative error of {error:.1e}; at most {tolerance:.0e} is allowed.")
        errors[what] = float(f"{error:.1e}")
    return errors


@dataclass(frozen=True)
class _Drawn:
    """Random arrays for both layers: inputs, labels of a loss, state, and the gradient of the outputs."""

    inputs: Array
    labels: tuple[NDArray[np.int64], ...]
    state: dict[str, NDArray[Any]]
    upstream: Array


def _draw(case: Case, dtype: str) -> _Drawn:
    """Draw the arrays for both layers, the same at each call.

    Inputs are a permutation of evenly spaced values between -2 and 2, none of them 0, so that no step
    of the central differences crosses the kink of ReLU or ELU or changes a maximum.
    """
    generator = np.random.default_rng(0)
    count = math.prod(case.shape)
    inputs = generator.permutation((np.arange(count) + 0.3) * 4 / count - 2).reshape(case.shape).astype(dtype)
    labels = (generator.integers(0, case.shape[1], case.shape[0]),) if case.layer is CrossEntropyLoss else ()
    twin = _twin(case, dtype)
    state = {name: tensor.numpy() for name, tensor in twin.state_dict().items()}
    for name, array in state.items():
        if array.ndim:  # all but the number of batches
            signs = 1 if name == "running_var" else generator.choice([-1, 1], array.shape)
            state[name] = (signs * generator.uniform(0.5, 1.5, array.shape)).astype(dtype)
    outputs = twin(torch.from_numpy(inputs), *map(torch.from_numpy, labels))
    return _Drawn(inputs, labels, state, np.asarray(generator.standard_normal(outputs.shape), dtype))


def _twin(case: Case, dtype: str) -> nn.Module:
    """Build PyTorch's layer."""
    twin: nn.Module = getattr(nn, case.layer.__name__)(*case.arguments, **case.options)
    return twin.to(getattr(torch, dtype)).train(case.training)


def _build(case: Case, drawn: _Drawn) -> Any:
    """Build our layer with the drawn state: a `Layer` or a `CrossEntropyLoss`, whose `forward` takes labels too."""
    options = dict(case.options)
    if issubclass(case.layer, (Linear, Conv2d)):
        options["generator"] = np.random.default_rng(0)
    if issubclass(case.layer, (Linear, Conv2d, BatchNorm1d, BatchNorm2d)):
        options["dtype"] = drawn.inputs.dtype
    layer = case.layer(*case.arguments, **options)
    if isinstance(layer, Layer):
        layer.load_state(drawn.state)
        layer.train(case.training)
    return layer


def _run(case: Case, drawn: _Drawn) -> Results:
    layer = _build(case, drawn)
    results = {"outputs": np.asarray(layer.forward(drawn.inputs, *drawn.labels))}
    if (results["outputs"].shape, results["outputs"].dtype) == (drawn.upstream.shape, drawn.upstream.dtype):
        results["gradient_of_inputs"] = layer.backward(drawn.upstream)
    if isinstance(layer, Layer):
        results |= {f"gradient_of_{name}": gradient for name, gradient in layer.gradients.items()}
        results |= {name: buffer for name, buffer in layer.buffers.items() if buffer.ndim}
    return results


def _run_twin(case: Case, drawn: _Drawn) -> Results:
    twin = _twin(case, drawn.inputs.dtype.name)
    twin.load_state_dict({name: torch.from_numpy(array) for name, array in drawn.state.items()})
    inputs = torch.from_numpy(drawn.inputs).requires_grad_()
    outputs = twin(inputs, *map(torch.from_numpy, drawn.labels))
    outputs.backward(torch.from_numpy(drawn.upstream))
    # Parameters first: the gradient of the inputs may be computed from theirs, and would repeat their error.
    tensors = {"outputs": outputs.detach()} | {f"gradient_of_{name}": value.grad for name, value in twin.named_parameters()}
    tensors |= {"gradient_of_inputs": inputs.grad}
    tensors |= {name: buffer for name, buffer in twin.named_buffers() if buffer.ndim}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _differences(case: Case, drawn: _Drawn) -> Results:
    inputs = drawn.inputs.copy()
    layer = _build(case, drawn)
    values = (layer.parameters if isinstance(layer, Layer) else {}) | {"inputs": inputs}

    def function() -> Array:
        return np.array(layer.forward(inputs, *drawn.labels))  # a copy, as Flatten returns a view of its inputs

    return {f"gradient_of_{name}": _central_differences(function, array, drawn.upstream) for name, array in values.items()}


def _central_differences(function: Callable[[], Array], values: Array, upstream: Array) -> Array:
    """Differentiate Σ upstream · function() with respect to each of `values`, which the function reads."""
    gradient = np.empty_like(values)
    for index in np.ndindex(values.shape):
        value = values[index]
        values[index] = value + STEP
        above = function()
        values[index] = value - STEP
        below = function()
        values[index] = value
        gradient[index] = (upstream * (above - below)).sum() / (2 * STEP)
    return gradient
