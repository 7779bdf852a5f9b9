"""The check itself: what it measures, that it catches a wrong layer, and what its stage leaves behind."""

import json

import numpy as np
import pytest

from labbook.errors import GradientError
from labbook.numpy_nn import gradcheck
from labbook.numpy_nn.conv import Conv2d
from labbook.numpy_nn.gradcheck import CASES, STEP, TOLERANCE, against_differences, against_pytorch, check_all, relative_error
from labbook.numpy_nn.layer import Layer

FAULTS = {
    "scaled": lambda gradient: gradient * gradient.dtype.type(1.001),
    "turned": lambda gradient: gradient[..., ::-1],
    "zero": np.zeros_like,
    "one sample": lambda gradient: np.concatenate([gradient[:1], 0 * gradient[1:]]),
    "nan": lambda gradient: gradient * gradient.dtype.type("nan"),
}
FIRST = {layer: next(iter(cases.items())) for layer, cases in CASES.items()}
PARAMETERS = [(layer, name) for layer in ("Linear", "Conv2d", "BatchNorm1d", "BatchNorm2d") for name in ("weight", "bias")]


@pytest.fixture(scope="module")
def figures():
    return check_all()


def test_every_comparison_is_within_its_tolerance(figures):
    assert figures["passed"]
    assert figures["largest"]["pytorch_float32"] <= TOLERANCE["float32"] == 1e-4
    assert figures["largest"]["pytorch_float64"] <= TOLERANCE["float64"] == 1e-6
    assert figures["largest"]["central_differences"] <= TOLERANCE["float64"]


def test_every_layer_is_compared_in_outputs_and_every_gradient(figures):
    assert set(figures["layers"]) == set(CASES)
    for layer, cases in figures["layers"].items():
        expected = {"outputs", "gradient_of_inputs"}
        expected |= {f"gradient_of_{name}" for kind, name in PARAMETERS if kind == layer}
        expected |= {"running_mean", "running_var"} if layer.startswith("BatchNorm") else set()
        for name, errors in cases.items():
            found = expected - ({"gradient_of_bias"} if name == "no_bias" else set())
            assert set(errors["pytorch_float32"]) == set(errors["pytorch_float64"]) == found
            assert set(errors["central_differences"]) == {what for what in found if what.startswith("gradient")}
    assert figures["comparisons"] == sum(len(e) for c in figures["layers"].values() for f in c.values() for e in f.values())


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("layer", CASES)
def test_a_wrong_gradient_of_the_inputs_is_caught(monkeypatch, layer, fault):
    name, case = FIRST[layer]
    method = "_backward" if issubclass(case.layer, Layer) else "backward"
    right = getattr(case.layer, method)
    monkeypatch.setattr(case.layer, method, lambda self, upstream: FAULTS[fault](right(self, upstream)))
    for compare in (lambda: against_pytorch(name, case, "float32"), lambda: against_differences(name, case)):
        with pytest.raises(GradientError, match=f"{layer}, case {name}, float.*: gradient_of_inputs has a relative error"):
            compare()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("layer", "parameter"), PARAMETERS)
def test_a_wrong_gradient_of_a_parameter_is_caught(monkeypatch, layer, parameter, fault):
    name, case = FIRST[layer]
    right = case.layer._gradients

    def wrong(self, upstream):
        gradients = right(self, upstream)
        return gradients | {parameter: FAULTS[fault](gradients[parameter])}

    monkeypatch.setattr(case.layer, "_gradients", wrong)
    for compare in (lambda: against_pytorch(name, case, "float32"), lambda: against_differences(name, case)):
        with pytest.raises(GradientError, match=f"{layer}, case {name}, float.*: gradient_of_{parameter} has a relative error"):
            compare()


@pytest.mark.parametrize("layer", CASES)
def test_wrong_outputs_are_caught(monkeypatch, layer):
    name, case = FIRST[layer]
    method = "_forward" if issubclass(case.layer, Layer) else "forward"
    right = getattr(case.layer, method)
    monkeypatch.setattr(case.layer, method, lambda *arguments: right(*arguments) * np.float32(1.001))
    with pytest.raises(GradientError, match=f"{layer}, case {name}, float32, against PyTorch: outputs has a relative error"):
        against_pytorch(name, case, "float32")


def test_a_wrong_shape_a_wrong_dtype_and_a_missing_gradient_are_caught(monkeypatch):
    name, case = FIRST["Conv2d"]
    forward, gradients = case.layer._forward, case.layer._gradients
    monkeypatch.setattr(case.layer, "_forward", lambda self, inputs: forward(self, inputs)[:, :, :-1])
    with pytest.raises(GradientError, match=r"outputs has shape \(2, 4, 3, 6\).*expected \(2, 4, 4, 6\)"):
        against_pytorch(name, case, "float32")
    monkeypatch.setattr(case.layer, "_forward", lambda self, inputs: forward(self, inputs).astype(np.float64))
    with pytest.raises(GradientError, match=r"of float64, expected \(2, 4, 4, 6\) of float32"):
        against_pytorch(name, case, "float32")
    monkeypatch.setattr(case.layer, "_forward", forward)
    monkeypatch.setattr(case.layer, "_gradients", lambda self, upstream: {"weight": gradients(self, upstream)["weight"]})
    with pytest.raises(GradientError, match="gradient_of_bias is missing"):
        against_pytorch(name, case, "float32")


@pytest.mark.parametrize("layer", ["BatchNorm1d", "BatchNorm2d"])
def test_running_statistics_by_the_biased_variance_are_caught(monkeypatch, layer):
    name, case = FIRST[layer]
    right = case.layer._track
    monkeypatch.setattr(
        case.layer, "_track", lambda self, mean, variance: right(self, mean, variance * variance.dtype.type(0.95))
    )
    with pytest.raises(GradientError, match="running_var has a relative error"):
        against_pytorch(name, case, "float64")


def test_a_comparison_of_zeros_proves_nothing(monkeypatch):
    name, case = FIRST["Linear"]
    monkeypatch.setattr(gradcheck, "_differences", lambda case, drawn: {"gradient_of_inputs": np.zeros((5, 6))})
    with pytest.raises(GradientError, match="zero everywhere"):
        against_differences(name, case)


@pytest.mark.parametrize("layer", CASES)
def test_inputs_are_not_all_the_same_and_far_from_kinks(layer):
    for case in CASES[layer].values():
        values = np.sort(gradcheck._draw(case, "float64").inputs, axis=None)
        assert np.abs(values).min() > 10 * STEP
        assert np.diff(values).min() > 10 * STEP


def test_relative_error_is_by_the_larger_of_both():
    assert relative_error(np.array([1.0, -4.0]), np.array([1.5, -3.0])) == 0.25
    assert relative_error(np.array([0.0]), np.array([2.0])) == relative_error(np.array([2.0]), np.array([0.0])) == 1


def test_the_stage_writes_the_same_bytes_again(workdir, run_stage, start_stage, figures):
    written = []
    for stage in (run_stage, start_stage):
        done = stage("gradcheck")
        assert done.returncode == 0, done.stderr
        written.append((workdir / "metrics/gradcheck.json").read_bytes())
    assert written[0] == written[1]
    assert json.loads(written[0])["layers"].keys() == figures["layers"].keys()


def test_the_stage_fails_with_one_message_and_leaves_no_file(workdir, run_stage, monkeypatch):
    right = Conv2d._gradients
    monkeypatch.setattr(Conv2d, "_gradients", lambda self, upstream: {n: 2 * g for n, g in right(self, upstream).items()})
    done = run_stage("gradcheck")
    assert done.returncode == 1
    assert done.stderr.startswith("error: Conv2d, case no_padding, float32, against PyTorch: gradient_of_weight has a relative")
    assert len(done.stderr.splitlines()) == 1
    assert not (workdir / "metrics").exists()
