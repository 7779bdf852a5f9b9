"""Exercises: functions compared with SciPy and PyTorch, results compared with the reports, and the page."""

import html
import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import correlate2d
from torch import nn
from torch.nn import functional

from labbook.config.components import load
from labbook.config.reading import read
from labbook.config.train import resolve
from labbook.errors import ExerciseError, LabbookError
from labbook.exercises.assignment_b import MNIST_CNN_SMALL, MNIST_MLP_2X50
from labbook.exercises.assignment_d import CIFAR10_CNN
from labbook.exercises.exercise import Exercise, Result
from labbook.exercises.gates import INPUTS, OR, XOR, Network, decide, hidden_units, output
from labbook.exercises.layers import Conv, Linear, Pool, conv_parameters, linear_parameters, summarize
from labbook.exercises.page import metrics, write_page
from labbook.exercises.sheet import exercises
from labbook.exercises.steps import Formula, Table, format_number, format_sum_of_products, format_weighted_sum
from labbook.exercises.windows import cross_correlate, kernel_size_for, output_size, pool, same_padding, windows

SOLVED = {exercise.name: exercise for exercise in exercises()}
REPORTED_WRONG = {("tiny_wide", "features, as printed")}  # the reported size contradicts the reported pools

small = st.integers(1, 12)
odd = st.integers(0, 3).map(lambda half: 2 * half + 1)
pixels = st.integers(-9, 9)
images = st.tuples(small, small).flatmap(lambda shape: arrays(int, shape, elements=pixels))
kernels = st.tuples(odd, odd).flatmap(lambda shape: arrays(int, shape, elements=pixels))


def parameters_of(model: nn.Module) -> int:
    return sum(weights.numel() for weights in model.parameters())


@given(image=images, kernel=kernels)
def test_cross_correlation_matches_scipy_and_torch(image, kernel):
    filtered = cross_correlate(image, kernel)
    np.testing.assert_array_equal(filtered, correlate2d(image, kernel, mode="same"))
    padding = tuple(side // 2 for side in kernel.shape)
    expected = functional.conv2d(torch.from_numpy(image)[None, None], torch.from_numpy(kernel)[None, None], padding=padding)
    np.testing.assert_array_equal(filtered, expected[0, 0].numpy())


@given(size=small, kernel=small, stride=st.integers(1, 4), padding=st.integers(0, 4))
def test_output_size_matches_torch(size, kernel, stride, padding):
    if kernel > size + 2 * padding:
        with pytest.raises(ExerciseError, match=f"kernel {kernel} does not fit into size {size} with padding {padding}"):
            output_size(size, kernel, stride, padding)
        return
    image = torch.zeros(1, 1, size)
    assert functional.conv1d(image, torch.zeros(1, 1, kernel), stride=stride, padding=padding).shape[-1] == output_size(
        size, kernel, stride, padding
    )


@given(size=st.integers(1, 600), kernel=odd)
def test_same_padding_preserves_every_size(size, kernel):
    assert output_size(size, kernel, padding=same_padding(kernel)) == size


@given(size=st.integers(1, 600), data=st.data())
def test_kernel_size_for_an_output_size_yields_that_size(size, data):
    output_pixels = data.draw(st.integers(1, size))
    assert output_size(size, kernel_size_for(size, output_pixels)) == output_pixels


@given(image=images, size=st.integers(1, 4), stride=st.integers(1, 4))
def test_pooling_matches_torch(image, size, stride):
    if size > min(image.shape):
        with pytest.raises(ExerciseError, match="does not fit"):
            pool(image, size, stride, "max")
        return
    tensor = torch.from_numpy(image).double()[None, None]
    np.testing.assert_array_equal(pool(image, size, stride, "max"), functional.max_pool2d(tensor, size, stride)[0, 0].numpy())
    average = functional.avg_pool2d(tensor, size, stride)[0, 0].numpy()
    np.testing.assert_allclose(pool(image, size, stride, "average"), average, rtol=0, atol=1e-12)


@given(channels=small, filters=small, kernel=small)
def test_numbers_of_parameters_match_torch(channels, filters, kernel):
    assert conv_parameters(channels, filters, kernel) == parameters_of(nn.Conv2d(channels, filters, kernel))
    assert linear_parameters(channels, filters) == parameters_of(nn.Linear(channels, filters))


@given(
    channels=small,
    side=st.integers(8, 16),
    conv=st.builds(Conv, small, st.integers(1, 5), st.integers(0, 2)),
    window=st.integers(1, 4),
    outputs=small,
)
def test_summary_matches_torch(channels, side, conv, window, outputs):
    summary = summarize((channels, side, side + 1), [conv, Pool(window), Linear(outputs)])
    signal = torch.zeros(1, channels, side, side + 1)
    layers = (
        nn.Conv2d(channels, conv.filters, conv.kernel, padding=conv.padding),
        nn.MaxPool2d(window),
        nn.Sequential(nn.Flatten(), nn.Linear(math.prod(summary[1].shape), outputs)),
    )
    for summarized, layer in zip(summary, layers, strict=True):
        signal = layer(signal)
        assert (summarized.shape, summarized.parameters) == (tuple(signal.shape[1:]), parameters_of(layer))


@pytest.mark.parametrize(
    ("name", "layers", "shape"),
    [
        ("mnist_mlp_2x50", MNIST_MLP_2X50, (1, 28, 28)),
        ("mnist_cnn_small", MNIST_CNN_SMALL, (1, 28, 28)),
        ("cifar10_cnn", CIFAR10_CNN, (3, 32, 32)),
    ],
)
def test_networks_are_those_that_the_experiments_train(repository, name, layers, shape):
    module, settings = load(
        "model", resolve(read(repository / "params.yaml"), f"experiments.{name}", "official").settings.model, name
    )
    assert [layer.parameters for layer in summarize(shape, layers) if layer.parameters] == [
        parameters_of(layer) for layer in module.build(settings, shape, 10).children() if parameters_of(layer)
    ]


@pytest.mark.parametrize(("network", "units", "gate"), [(OR, 1, lambda a, b: a or b), (XOR, 2, lambda a, b: a != b)])
def test_gates_are_right_on_all_four_inputs(network, units, gate):
    assert len(network.bias) == units
    assert decide(output(network, INPUTS)).tolist() == [int(gate(*pair)) for pair in INPUTS.tolist()]


@given(
    weights=st.lists(st.tuples(pixels, pixels, pixels, pixels), min_size=1, max_size=3),
    inputs=arrays(int, (5, 2), elements=pixels),
)
def test_network_matches_torch(weights, inputs):
    first, second, bias, out = zip(*weights, strict=True)
    network = Network(tuple(zip(first, second, strict=True)), bias, out)
    signal = torch.from_numpy(inputs).double()
    layer = torch.tensor(network.weights).double()
    hidden = functional.relu(functional.linear(signal, layer, torch.tensor(bias).double()))
    np.testing.assert_array_equal(hidden_units(network, inputs), hidden.numpy())
    np.testing.assert_array_equal(output(network, inputs), (hidden @ torch.tensor(out).double()).numpy())


ROW, CUBE = np.ones(3), np.ones((2, 2, 2))


@pytest.mark.parametrize(
    ("work", "values"),
    [
        (lambda: output_size(0, 3), "size 0"),
        (lambda: output_size(5, 3, stride=0), "stride 0"),
        (lambda: output_size(5, 3, padding=-1), "padding -1"),
        (lambda: same_padding(4), "kernel 4"),
        (lambda: same_padding(-1), "kernel -1"),
        (lambda: kernel_size_for(504, 512), "size 504 to 512"),
        (lambda: kernel_size_for(504, 0), "size 504 to 0"),
        (lambda: cross_correlate(ROW, np.ones((3, 3))), r"\(3,\)"),
        (lambda: cross_correlate(np.ones((3, 3)), CUBE), r"\(2, 2, 2\)"),
        (lambda: cross_correlate(np.ones((3, 3)), np.ones((3, 2))), "kernel 2"),
        (lambda: windows(CUBE, 1, 1), r"\(2, 2, 2\)"),
        (lambda: pool(np.ones((4, 4)), 5, 1, "max"), "kernel 5 does not fit into size 4"),
        (lambda: pool(np.ones((4, 4)), 2, 2, "median"), "'median'; known: average, max"),
        (lambda: conv_parameters(3, 0, 5), "filters 0"),
        (lambda: linear_parameters(-1, 5), "inputs -1"),
        (lambda: summarize((1, 2, 2), [Pool(3)]), "kernel 3 does not fit into size 2"),
        (lambda: summarize((8,), [Conv(2, 3)]), r"Conv\(filters=2.*\(8,\)"),
        (lambda: hidden_units(OR, np.ones((4, 3))), r"\(4, 3\)"),
        (lambda: decide(np.array([0, 0.5])), "output 0.5"),
        (lambda: decide(np.array([np.nan])), "output nan"),
        (lambda: decide(np.array([-1])), "output -1"),
    ],
)
def test_invalid_arguments_are_named_with_their_values(work, values):
    assert issubclass(ExerciseError, LabbookError)
    with pytest.raises(ExerciseError, match=values):
        work()


def test_all_results_agree_with_the_reports_except_a_known_error():
    differing = {
        (name, result.quantity) for name, exercise in SOLVED.items() for result in exercise.results if not result.agrees
    }
    assert differing == REPORTED_WRONG


@pytest.mark.parametrize(
    ("name", "quantity", "value"),
    [
        ("filtering", "filtered image", [[2, -1, 11, -2, -13], [10, -4, 8, 2, -18], [14, -1, -5, 6, -9]]),
        ("padding", "padding of kernel 5", 2),
        ("sizes", "kernel", 9),
        ("sizes", "after 2×2 pooling", 252),
        ("sizes", "after the 3×3 kernel", 250),
        ("cifar10_cnn", "parameters", 390_410),
        ("one_convolution", "parameters", 608),
        ("one_convolution", "output, height × width × maps", [28, 28, 8]),
        ("tiny_wide", "features, as printed", 1024),
        ("mnist_mlp_2x50", "parameters", 42_310),
        ("mnist_cnn_small", "parameters", 21_578),
    ],
)
def test_metrics_contain_the_computed_values(name, quantity, value):
    written = json.loads(json.dumps(metrics(exercises()), allow_nan=False))
    (entry,) = (entry for entry in written[name]["results"] if entry["quantity"] == quantity)
    assert entry["computed"] == value


def equations(exercise: Exercise) -> list[str]:
    lines = [line for step in exercise.steps if isinstance(step, Formula) for line in step.lines]
    lines += [cell for step in exercise.steps if isinstance(step, Table) for row in step.rows for cell in row]
    return [line for line in lines if " = " in line]


def value_of(side: str) -> float | None:
    """Evaluate one side of an equation; return None if it contains names."""
    for symbol, code in (("−", "-"), ("·", "*"), ("⌊", "int("), ("⌋", ")"), (",", "")):
        side = side.replace(symbol, code)
    return None if re.search(r"[a-z]", side.replace("int(", "(")) else eval(side)


def test_every_equation_is_true():
    checked = 0
    for exercise in SOLVED.values():
        for line in equations(exercise):
            values = [value for value in map(value_of, line.split(" = ")) if value is not None]
            assert len(set(values)) <= 1, f"{exercise.name}: {line}"
            checked += len(values) > 1
    assert checked > 30


def test_arithmetic_is_formatted_as_in_print():
    assert format_sum_of_products([-1, 0, 2], [3, 5, -4]) == "−1 · 3 + 0 · 5 + 2 · (−4)"
    assert format_weighted_sum((1, -2), ("x", "y"), -1) == "x − 2y − 1"
    assert format_weighted_sum((-1, 0), ("x", "y")) == "−x"
    assert format_weighted_sum((0, 0), ("x", "y")) == "0"
    assert [format_number(value) for value in (np.float64(1), 0.25, -1234, np.int64(7))] == ["1", "0.25", "−1,234", "7"]


def test_page_shows_every_exercise_and_is_reproducible(tmp_path):
    for name in ("first.html", "second.html"):
        write_page(exercises(), tmp_path / name)
    page = (tmp_path / "first.html").read_text()
    assert page == (tmp_path / "second.html").read_text()
    for name, exercise in SOLVED.items():
        assert f'<article id="{name}">' in page
        assert html.escape(exercise.question, quote=False) in page
        for result in exercise.results:
            assert html.escape(result.quantity) in page
    count = sum(len(exercise.results) for exercise in SOLVED.values())
    assert f"{count - 1} of {count} results agree" in page
    assert page.count(">differs<") == 1
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:href|src)="(?!data:,")', page), "the page is self-contained"


def test_differing_results_are_marked(tmp_path):
    wrong = [
        Exercise("line", "A", "Is 2 < 3?", (), (Result("number", 2, 3),)),
        Exercise("square", "A", "Which square?", (), (Result("matrix", np.eye(2), [[1, 0], [0, 2]]),)),
        Exercise("shape", "B", "Which shape?", (), (Result("matrix", np.eye(2), [[1, 0, 0]]),)),
    ]
    write_page(wrong, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "0 of 3 results agree" in page
    assert page.count(">differs<") == 3
    assert "Is 2 &lt; 3?" in page
    assert page.count('<td class="marked">') == 2
    assert not any(entry["agrees"] for entry in metrics(wrong).values())
