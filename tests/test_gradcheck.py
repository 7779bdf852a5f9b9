"""The gradient check: its comparisons, the faults that it detects, and the outputs of its stage."""

import json

import numpy as np
import pytest

from labbook.errors import GradientError
from labbook.numpy_nn import gradcheck
from labbook.numpy_nn.conv import Conv2d
from labbook.numpy_nn.gradcheck import (
    CASES,
    STEP,
    TOLERANCE,
    check_all,
    compare_with_differences,
    compare_with_pytorch,
    relative_error,
)
from labbook.numpy_nn.layer import Layer

FAULTS = {
    "scaled": lambda gradient: gradient * gradient.dtype.type(1.001),
    "reversed": lambda gradient: gradient[..., ::-1],
    "zero": np.zeros_like,
    "one sample": lambda gradient: np.concatenate([gradient[:1], 0 * gradient[1:]]),
    "nan": lambda gradient: gradient * gradient.dtype.type("nan"),
}
FIRST = {layer: next(iter(cases.items())) for layer, cases in CASES.items()}
PARAMETERS = [(layer, name) for layer in ("Linear", "Conv2d", "BatchNorm1d", "BatchNorm2d") for name in ("weight", "bias")]


@pytest.fixture(scope="module")
def metrics():
    return check_all()


def test_all_errors_are_within_tolerance(metrics):
    assert metrics["passed"]
    assert metrics["largest"]["pytorch_float32"] <= TOLERANCE["float32"] == 1e-4
    assert metrics["largest"]["pytorch_float64"] <= TOLERANCE["float64"] == 1e-6
    assert metrics["largest"]["central_differences"] <= TOLERANCE["float64"]


def test_outputs_and_all_gradients_of_every_layer_are_compared(metrics):
    assert set(metrics["layers"]) == set(CASES)
    for layer, cases in metrics["layers"].items():
        expected = {"outputs", "gradient_of_inputs"}
        expected |= {f"gradient_of_{name}" for kind, name in PARAMETERS if kind == layer}
        expected |= {"running_mean", "running_var"} if layer.startswith("BatchNorm") else set()
        for case, errors in cases.items():
            names = expected - ({"gradient_of_bias"} if case == "no_bias" else set())
            assert set(errors["pytorch_float32"]) == set(errors["pytorch_float64"]) == names
            assert set(errors["central_differences"]) == {name for name in names if name.startswith("gradient")}
    assert metrics["comparisons"] == sum(
        len(errors) for cases in metrics["layers"].values() for comparisons in cases.values() for errors in comparisons.values()
    )


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("layer", CASES)
def test_wrong_gradient_of_the_inputs_is_detected(monkeypatch, layer, fault):
    name, case = FIRST[layer]
    method = "_backward" if issubclass(case.layer, Layer) else "backward"
    original = getattr(case.layer, method)
    monkeypatch.setattr(case.layer, method, lambda self, upstream: FAULTS[fault](original(self, upstream)))
    for compare in (lambda: compare_with_pytorch(name, case, "float32"), lambda: compare_with_differences(name, case)):
        with pytest.raises(GradientError, match=f"{layer}, case {name}, float.*: gradient_of_inputs has a relative error"):
            compare()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("layer", "parameter"), PARAMETERS)
def test_wrong_gradient_of_a_parameter_is_detected(monkeypatch, layer, parameter, fault):
    name, case = FIRST[layer]
    original = case.layer._parameter_gradients

    def wrong(self, upstream):
        gradients = original(self, upstream)
        return gradients | {parameter: FAULTS[fault](gradients[parameter])}

    monkeypatch.setattr(case.layer, "_parameter_gradients", wrong)
    for compare in (lambda: compare_with_pytorch(name, case, "float32"), lambda: compare_with_differences(name, case)):
        with pytest.raises(GradientError, match=f"{layer}, case {name}, float.*: gradient_of_{parameter} has a relative error"):
            compare()


@pytest.mark.parametrize("layer", CASES)
def test_wrong_outputs_are_detected(monkeypatch, layer):
    name, case = FIRST[layer]
    method = "_forward" if issubclass(case.layer, Layer) else "forward"
    original = getattr(case.layer, method)
    monkeypatch.setattr(case.layer, method, lambda *arguments: original(*arguments) * np.float32(1.001))
    with pytest.raises(
        GradientError, match=f"{layer}, case {name}, float32, compared with PyTorch: outputs has a relative error"
    ):
        compare_with_pytorch(name, case, "float32")


def test_wrong_shape_wrong_dtype_and_missing_gradient_are_detected(monkeypatch):
    name, case = FIRST["Conv2d"]
    forward, gradients = case.layer._forward, case.layer._parameter_gradients
    monkeypatch.setattr(case.layer, "_forward", lambda self, inputs: forward(self, inputs)[:, :, :-1])
    with pytest.raises(GradientError, match=r"outputs has shape \(2, 4, 3, 6\).*expected \(2, 4, 4, 6\)"):
        compare_with_pytorch(name, case, "float32")
    monkeypatch.setattr(case.layer, "_forward", lambda self, inputs: forward(self, inputs).astype(np.float64))
    with pytest.raises(GradientError, match=r"of float64, expected \(2, 4, 4, 6\) of float32"):
        compare_with_pytorch(name, case, "float32")
    monkeypatch.setattr(case.layer, "_forward", forward)
    monkeypatch.setattr(
        case.layer, "_parameter_gradients", lambda self, upstream: {"weight": gradients(self, upstream)["weight"]}
    )
    with pytest.raises(GradientError, match="gradient_of_bias is missing"):
        compare_with_pytorch(name, case, "float32")


@pytest.mark.parametrize("layer", ["BatchNorm1d", "BatchNorm2d"])
def test_wrong_running_variance_is_detected(monkeypatch, layer):
    name, case = FIRST[layer]
    original = case.layer._update_running_statistics
    monkeypatch.setattr(
        case.layer,
        "_update_running_statistics",
        lambda self, mean, variance: original(self, mean, variance * variance.dtype.type(0.95)),
    )
    with pytest.raises(GradientError, match="running_var has a relative error"):
        compare_with_pytorch(name, case, "float64")


def test_comparison_of_zeros_is_refused(monkeypatch):
    name, case = FIRST["Linear"]
    monkeypatch.setattr(gradcheck, "_estimate_gradients", lambda case, drawn: {"gradient_of_inputs": np.zeros((5, 6))})
    with pytest.raises(GradientError, match="zero everywhere"):
        compare_with_differences(name, case)


@pytest.mark.parametrize("layer", CASES)
def test_inputs_are_distinct_and_far_from_kinks(layer):
    for case in CASES[layer].values():
        values = np.sort(gradcheck._draw_arrays(case, "float64").inputs, axis=None)
        assert np.abs(values).min() > 10 * STEP
        assert np.diff(values).min() > 10 * STEP


def test_relative_error_divides_by_the_larger_maximum():
    assert relative_error(np.array([1.0, -4.0]), np.array([1.5, -3.0])) == 0.25
    assert relative_error(np.array([0.0]), np.array([2.0])) == relative_error(np.array([2.0]), np.array([0.0])) == 1


def test_stage_output_is_reproducible_to_the_byte(workdir, run_stage, start_stage, metrics):
    written = []
    for stage in (run_stage, start_stage):
        done = stage("gradcheck")
        assert done.returncode == 0, done.stderr
        written.append((workdir / "metrics/gradcheck.json").read_bytes())
    assert written[0] == written[1]
    assert json.loads(written[0])["layers"].keys() == metrics["layers"].keys()


def test_stage_fails_with_one_message_and_writes_no_file(workdir, run_stage, monkeypatch):
    original = Conv2d._parameter_gradients
    monkeypatch.setattr(
        Conv2d,
        "_parameter_gradients",
        lambda self, upstream: {name: 2 * gradient for name, gradient in original(self, upstream).items()},
    )
    done = run_stage("gradcheck")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: Conv2d, case no_padding, float32, compared with PyTorch: gradient_of_weight has a relative"
    )
    assert len(done.stderr.splitlines()) == 1
    assert not (workdir / "metrics").exists()
