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

__all__ = [
    "CASES",
    "TOLERANCE",
    "Case",
    "check",
    "check_all",
    "compare_with_differences",
    "compare_with_pytorch",
    "relative_error",
]

TOLERANCE = {"float32": 1e-4, "float64": 1e-6}
STEP = 1e-5  # of central differences: for values near 1, truncation error about 1e-10, rounding error about 1e-11


@dataclass(frozen=True)
class Case:
    """Arguments of a layer, and the shape of its inputs.

    Attributes:
        layer: our class; PyTorch's class has the same name.
        arguments: positional arguments of both constructors, ours and PyTorch's.
        shape: shape of the inputs.
        options: keyword arguments of both constructors.
        training: whether to check the layer in training mode.
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
        The errors by layer, case and comparison, and the largest error of each comparison.

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
        The relative errors, rounded to two digits, by comparison and name of the array.

    Raises:
        GradientError: an error is too large; the message states layer, case, comparison and error.
    """
    return {
        "pytorch_float32": compare_with_pytorch(name, case, "float32"),
        "pytorch_float64": compare_with_pytorch(name, case, "float64"),
        "central_differences": compare_with_differences(name, case),
    }


def compare_with_pytorch(name: str, case: Case, dtype: str) -> dict[str, float]:
    """Compare all results of a case with those of PyTorch's layer; return one comparison of `check`."""
    arrays = _draw_arrays(case, dtype)
    where = f"{case.layer.__name__}, case {name}, {dtype}, compared with PyTorch"
    return _compare(where, _run_numpy(case, arrays), _run_pytorch(case, arrays), TOLERANCE[dtype])


def compare_with_differences(name: str, case: Case) -> dict[str, float]:
    """Compare the gradients of a case with central differences in float64; return one comparison of `check`."""
    arrays = _draw_arrays(case, "float64")
    where = f"{case.layer.__name__}, case {name}, float64, compared with central differences"
    return _compare(where, _run_numpy(case, arrays), _estimate_gradients(case, arrays), TOLERANCE["float64"])


def relative_error(computed: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return max |a − b| / max(max |a|, max |b|) of two arrays that are not both zero."""
    return float(np.abs(computed - expected).max() / max(np.abs(computed).max(), np.abs(expected).max()))


def _compare(where: str, computed: Results, expected: Results, tolerance: float) -> dict[str, float]:
    errors = {}
    for name, array in expected.items():
        if name not in computed:
            raise GradientError(f"{where}: {name} is missing.")
        shapes = [f"{values.shape} of {values.dtype}" for values in (computed[name], array)]
        if shapes[0] != shapes[1]:
            raise GradientError(f"{where}: {name} has shape {shapes[0]}, expected {shapes[1]}.")
        if not array.any():
            raise GradientError(f"{where}: {name} is expected to be zero everywhere, so the comparison would be meaningless.")
        error = relative_error(computed[name], array)
        if not error <= tolerance:  # true for NaN as well
            raise GradientError(f"{where}: {name} has a relative error of {error:.1e}; the tolerance is {tolerance:.0e}.")
        errors[name] = float(f"{error:.1e}")
    return errors


@dataclass(frozen=True)
class _Arrays:
    """Random arrays for both layers: inputs, labels of a loss, state, and the gradient of the outputs."""

    inputs: Array
    labels: tuple[NDArray[np.int64], ...]
    state: dict[str, NDArray[Any]]
    upstream: Array


def _draw_arrays(case: Case, dtype: str) -> _Arrays:
    """Draw the arrays for both layers; each call returns the same values.

    Inputs are a permutation of evenly spaced values between -2 and 2 without 0, so that no step of the central differences
    crosses the kink of ReLU or ELU or changes a maximum.
    """
    generator = np.random.default_rng(0)
    count = math.prod(case.shape)
    inputs = generator.permutation((np.arange(count) + 0.3) * 4 / count - 2).reshape(case.shape).astype(dtype)
    labels = (generator.integers(0, case.shape[1], case.shape[0]),) if case.layer is CrossEntropyLoss else ()
    layer = _build_pytorch_layer(case, dtype)
    state = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    for name, array in state.items():
        if array.ndim:  # all but the number of batches
            signs = 1 if name == "running_var" else generator.choice([-1, 1], array.shape)
            state[name] = (signs * generator.uniform(0.5, 1.5, array.shape)).astype(dtype)
    outputs = layer(torch.from_numpy(inputs), *map(torch.from_numpy, labels))
    return _Arrays(inputs, labels, state, np.asarray(generator.standard_normal(outputs.shape), dtype))


def _build_pytorch_layer(case: Case, dtype: str) -> nn.Module:
    layer: nn.Module = getattr(nn, case.layer.__name__)(*case.arguments, **case.options)
    return layer.to(getattr(torch, dtype)).train(case.training)


def _build_numpy_layer(case: Case, arrays: _Arrays) -> Any:
    """Build our layer with the drawn state: a `Layer`, or a `CrossEntropyLoss`, whose `forward` also takes labels."""
    options = dict(case.options)
    if issubclass(case.layer, (Linear, Conv2d)):
        options["generator"] = np.random.default_rng(0)
    if issubclass(case.layer, (Linear, Conv2d, BatchNorm1d, BatchNorm2d)):
        options["dtype"] = arrays.inputs.dtype
    layer = case.layer(*case.arguments, **options)
    if isinstance(layer, Layer):
        layer.load_state(arrays.state)
        layer.train(case.training)
    return layer


def _run_numpy(case: Case, arrays: _Arrays) -> Results:
    layer = _build_numpy_layer(case, arrays)
    results = {"outputs": np.asarray(layer.forward(arrays.inputs, *arrays.labels))}
    if (results["outputs"].shape, results["outputs"].dtype) == (arrays.upstream.shape, arrays.upstream.dtype):
        results["gradient_of_inputs"] = layer.backward(arrays.upstream)
    if isinstance(layer, Layer):
        results |= {f"gradient_of_{name}": gradient for name, gradient in layer.gradients.items()}
        results |= {name: buffer for name, buffer in layer.buffers.items() if buffer.ndim}
    return results


def _run_pytorch(case: Case, arrays: _Arrays) -> Results:
    layer = _build_pytorch_layer(case, arrays.inputs.dtype.name)
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.state.items()})
    inputs = torch.from_numpy(arrays.inputs).requires_grad_()
    outputs = layer(inputs, *map(torch.from_numpy, arrays.labels))
    outputs.backward(torch.from_numpy(arrays.upstream))
    # Parameters first: where the gradient of the inputs depends on theirs, an error in theirs is reported as such.
    tensors = {"outputs": outputs.detach()} | {f"gradient_of_{name}": value.grad for name, value in layer.named_parameters()}
    tensors |= {"gradient_of_inputs": inputs.grad}
    tensors |= {name: buffer for name, buffer in layer.named_buffers() if buffer.ndim}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _estimate_gradients(case: Case, arrays: _Arrays) -> Results:
    inputs = arrays.inputs.copy()
    layer = _build_numpy_layer(case, arrays)
    values = (layer.parameters if isinstance(layer, Layer) else {}) | {"inputs": inputs}

    def function() -> Array:
        return np.array(layer.forward(inputs, *arrays.labels))  # a copy, as Flatten returns a view of its inputs

    return {f"gradient_of_{name}": _central_differences(function, array, arrays.upstream) for name, array in values.items()}


def _central_differences(function: Callable[[], Array], values: Array, upstream: Array) -> Array:
    """Estimate the gradient of Σ upstream · function() with respect to `values`, which the function reads."""
    gradient = np.empty_like(values)
    for index in np.ndindex(values.shape):
        value = values[index]
        values[index] = value + STEP
        upper = function()
        values[index] = value - STEP
        lower = function()
        values[index] = value
        gradient[index] = (upstream * (upper - lower)).sum() / (2 * STEP)
    return gradient
