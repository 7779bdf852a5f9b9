"""NumPy layers: random shapes, all dtypes, whole networks, and error messages."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labbook.errors import NumpyBackendError
from labbook.numpy_nn.activations import ELU, ReLU, Tanh
from labbook.numpy_nn.conv import Conv2d
from labbook.numpy_nn.gradcheck import Case, compare_with_differences, compare_with_pytorch
from labbook.numpy_nn.linear import Flatten, Linear
from labbook.numpy_nn.loss import CrossEntropyLoss
from labbook.numpy_nn.norm import BatchNorm1d, BatchNorm2d
from labbook.numpy_nn.optimizer import SGD
from labbook.numpy_nn.pooling import AvgPool2d, MaxPool2d
from labbook.numpy_nn.sequential import Sequential

small_sizes, sizes = st.integers(1, 3), st.integers(1, 7)


def random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def make_generator():
    return np.random.default_rng(0)


@st.composite
def convolutions(draw):
    """Sizes at which the kernel fits at least once, with padding smaller than the kernel."""
    kernel, stride = draw(st.integers(1, 4)), draw(small_sizes)
    padding = draw(st.integers(0, min(2, kernel - 1)))
    height, width = (draw(st.integers(max(1, kernel - 2 * padding), 7)) for _ in range(2))
    in_channels, out_channels = draw(small_sizes), draw(small_sizes)
    options = {"stride": stride, "padding": padding, "bias": draw(st.booleans())}
    return Case(Conv2d, (in_channels, out_channels, kernel), (draw(small_sizes), in_channels, height, width), options)


@st.composite
def pools(draw):
    kernel, stride = draw(small_sizes), draw(st.none() | small_sizes)
    shape = (draw(small_sizes), draw(small_sizes), *(draw(st.integers(kernel, 7)) for _ in range(2)))
    return Case(draw(st.sampled_from([AvgPool2d, MaxPool2d])), (kernel, stride), shape)


@st.composite
def norms(draw):
    """Batch norm with at least 4 values per channel, so that their variance is not close to 0."""
    channels, training = draw(small_sizes), draw(st.booleans())
    if draw(st.booleans()):
        return Case(
            BatchNorm2d, (channels,), (draw(small_sizes), channels, draw(st.integers(4, 6)), draw(sizes)), training=training
        )
    rest = draw(st.sampled_from([(), (1,), (3,)]))
    return Case(BatchNorm1d, (channels,), (draw(st.integers(4, 8)), channels, *rest), training=training)


@st.composite
def simple_layers(draw):
    kind = draw(st.sampled_from([Linear, ReLU, ELU, Tanh, Flatten, CrossEntropyLoss]))
    if kind is Linear:
        in_features = draw(sizes)
        return Case(Linear, (in_features, draw(sizes)), (draw(sizes), in_features), {"bias": draw(st.booleans())})
    if kind is CrossEntropyLoss:
        return Case(kind, (), (draw(sizes), draw(st.integers(2, 7))))
    return Case(kind, (), (draw(st.integers(2, 7)), *draw(st.lists(sizes, min_size=1, max_size=3))))


cases = st.one_of(convolutions(), pools(), norms(), simple_layers())


@settings(max_examples=200)
@given(case=cases)
def test_any_shape_matches_pytorch(case):
    compare_with_pytorch("any", case, "float64")


@settings(max_examples=30)
@given(case=cases)
def test_any_shape_matches_central_differences(case):
    compare_with_differences("any", case)


LAYERS = {
    "Linear": (lambda dtype: Linear(6, 4, generator=make_generator(), dtype=dtype), (5, 6)),
    "Conv2d": (lambda dtype: Conv2d(3, 4, 3, padding=1, generator=make_generator(), dtype=dtype), (2, 3, 5, 6)),
    "AvgPool2d": (lambda dtype: AvgPool2d(2), (2, 3, 5, 6)),
    "MaxPool2d": (lambda dtype: MaxPool2d(2), (2, 3, 5, 6)),
    "ReLU": (lambda dtype: ReLU(), (5, 6)),
    "ELU": (lambda dtype: ELU(), (5, 6)),
    "Tanh": (lambda dtype: Tanh(), (5, 6)),
    "BatchNorm1d": (lambda dtype: BatchNorm1d(6, dtype=dtype), (5, 6)),
    "BatchNorm2d": (lambda dtype: BatchNorm2d(3, dtype=dtype), (2, 3, 5, 6)),
    "Flatten": (lambda dtype: Flatten(), (2, 3, 5, 6)),
    "Sequential": (lambda dtype: Sequential(Linear(6, 4, generator=make_generator(), dtype=dtype), ReLU()), (5, 6)),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_dtype_is_preserved(layer, dtype):
    build, shape = LAYERS[layer]
    layer = build(dtype)
    outputs = layer.forward(random(*shape, dtype=dtype))
    gradient = layer.backward(outputs)
    SGD(layer, lr=0.1, momentum=0.9, weight_decay=0.01).step()
    arrays = [outputs, gradient, *layer.gradients.values(), *layer.parameters.values()]
    arrays += [buffer for buffer in layer.buffers.values() if buffer.ndim]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@pytest.mark.parametrize("layer", LAYERS)
def test_inputs_and_upstream_gradient_are_not_modified(layer):
    build, shape = LAYERS[layer]
    layer, inputs = build(np.float32), random(*shape)
    inputs_before = inputs.copy()
    upstream = layer.forward(inputs).copy()
    upstream_before = upstream.copy()
    layer.backward(upstream)
    assert np.array_equal(inputs, inputs_before)
    assert np.array_equal(upstream, upstream_before)


@pytest.mark.parametrize("layer", LAYERS)
def test_non_contiguous_arrays_have_the_same_results(layer):
    build, shape = LAYERS[layer]
    layer, inputs = build(np.float64), random(*shape, dtype=np.float64)
    outputs = layer.forward(inputs)
    gradient = layer.backward(outputs)
    layer = build(np.float64)
    assert np.allclose(layer.forward(np.asfortranarray(inputs)), outputs, rtol=1e-12)
    assert np.allclose(layer.backward(np.asfortranarray(outputs)), gradient, rtol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_first_of_equal_maxima_gets_the_gradient(stride):
    inputs = np.maximum(random(2, 3, 8, 8), 0)  # about half of the values are 0, as after ReLU
    upstream = random(2, 3, (8 - 2) // stride + 1, (8 - 2) // stride + 1, seed=1)
    tensor = torch.from_numpy(inputs).requires_grad_()
    nn.functional.max_pool2d(tensor, 2, stride).backward(torch.from_numpy(upstream))
    layer = MaxPool2d(2, stride)
    layer.forward(inputs)
    assert np.allclose(layer.backward(upstream), tensor.grad)


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0, 0), (0.9, 0), (0, 0.1), (0.9, 0.1)])
def test_training_a_network_matches_pytorch(momentum, weight_decay):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, stride=2), nn.ELU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3),
    ).double()  # fmt: skip
    options = {"generator": make_generator(), "dtype": np.float64}
    network = Sequential(
        Conv2d(1, 4, 3, padding=1, **options), BatchNorm2d(4, dtype=np.float64), ReLU(), MaxPool2d(2),
        Conv2d(4, 4, 3, stride=2, **options), ELU(), AvgPool2d(2), Flatten(), Linear(4, 6, **options),
        BatchNorm1d(6, dtype=np.float64), Tanh(), Linear(6, 3, **options),
    )  # fmt: skip
    network.load_state({name: tensor.numpy() for name, tensor in model.state_dict().items()})
    optimizer = SGD(network, 0.1, momentum, weight_decay)
    expected_optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum, weight_decay=weight_decay)
    criterion, expected_criterion = CrossEntropyLoss(), nn.CrossEntropyLoss()
    for seed in range(5):
        images, labels = random(6, 1, 12, 12, dtype=np.float64, seed=seed), np.random.default_rng(seed).integers(0, 3, 6)
        loss = criterion.forward(network.forward(images), labels)
        network.backward_parameters(criterion.backward())
        optimizer.step()
        expected_loss = expected_criterion(model(torch.from_numpy(images)), torch.from_numpy(labels))
        expected_optimizer.zero_grad()
        expected_loss.backward()
        expected_optimizer.step()
        assert loss == pytest.approx(expected_loss.item(), rel=1e-9)
    expected = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    state = network.state()
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        assert np.allclose(state[name], array, rtol=1e-8, atol=1e-12), name
        assert state[name].dtype == array.dtype
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    network.eval()
    model.eval()
    assert np.allclose(network.forward(images), model(torch.from_numpy(images)).detach(), rtol=1e-8)
    assert np.array_equal(network.state()["1.running_mean"], state["1.running_mean"]), (
        "evaluation does not change the statistics"
    )


def test_batch_norm_matches_a_calculation_by_hand():
    """The values 1, 2, 6 and 7 have mean 4, biased variance 26/4 and unbiased variance 26/3; momentum 1/4, ε 11/4."""
    layer = BatchNorm1d(1, eps=2.75, momentum=0.25, dtype=np.float64)
    layer.load_state({**layer.state(), "weight": np.array([2.0]), "bias": np.array([-1.0])})
    values = np.array([[1.0], [2.0], [6.0], [7.0]])
    assert np.allclose(layer.forward(values), 2 * (values - 4) / np.sqrt(37 / 4) - 1)
    state = layer.state()
    assert state["running_mean"] == pytest.approx([0.25 * 4])
    assert state["running_var"] == pytest.approx([0.75 + 0.25 * 26 / 3])
    assert state["num_batches_tracked"] == 1
    layer.eval()
    running = 0.75 + 0.25 * 26 / 3 + 2.75
    assert np.allclose(layer.forward(values), 2 * (values - 1) / np.sqrt(running) - 1)
    assert layer.state()["num_batches_tracked"] == 1


def test_three_steps_of_sgd_match_a_calculation_by_hand():
    """One weight, lr 0.1, momentum 0.5, weight decay 0.1: velocities 1 + 0.1, 0.55 + 2 + 0.089 and 1.3195 - 1 + 0.06261."""
    layer = Linear(1, 1, bias=False, generator=make_generator(), dtype=np.float64)
    layer.load_state({"weight": np.ones((1, 1))})
    optimizer = SGD(layer, lr=0.1, momentum=0.5, weight_decay=0.1)
    weights = []
    for gradient in (1.0, 2.0, -1.0):
        layer.gradients = {"weight": np.full((1, 1), gradient)}
        optimizer.step()
        weights.append(layer.parameters["weight"][0, 0])
    assert weights == pytest.approx([0.89, 0.6261, 0.587889])


def test_backward_parameters_computes_the_same_gradients():
    network = Sequential(Flatten(), Linear(6, 4, generator=make_generator()), Tanh(), Linear(4, 2, generator=make_generator()))
    upstream = network.forward(random(5, 2, 3))
    network.backward(upstream)
    expected = network.gradients
    network.backward_parameters(upstream)
    assert list(network.gradients) == ["1.weight", "1.bias", "3.weight", "3.bias"]
    assert all(np.array_equal(network.gradients[name], expected[name]) for name in expected)


def test_network_without_parameters_has_no_gradients():
    network = Sequential(ReLU(), Flatten())
    outputs = network.forward(random(5, 2, 3))
    network.backward_parameters(outputs)
    assert network.gradients == network.parameters == {}
    assert network.backward(outputs).shape == (5, 2, 3)


def test_initial_weights_are_distributed_as_in_pytorch_and_reproducible():
    first, second = (Conv2d(3, 64, 5, generator=make_generator()) for _ in range(2))
    for name, expected in nn.Conv2d(3, 64, 5).named_parameters():
        weights = first.parameters[name]
        assert np.array_equal(weights, second.parameters[name])
        assert weights.std() == pytest.approx(expected.std().item(), rel=0.3)
        assert np.abs(weights).max() <= 75**-0.5


def test_extreme_values_do_not_overflow():
    extreme = np.array([[-1e4, 1e4, 0]], np.float32)
    for layer in (ELU(), Tanh()):
        assert np.isfinite(layer.forward(extreme)).all()
        assert np.isfinite(layer.backward(extreme)).all()
    criterion = CrossEntropyLoss()
    assert criterion.forward(extreme, np.array([0])) == 2e4
    assert np.array_equal(criterion.backward(), [[-1, 1, 0]])


def test_parameters_are_updated_in_place():
    network = Sequential(Linear(6, 4, generator=make_generator()))
    weight = network.parameters["0.weight"]
    assert weight is network.layers[0].parameters["weight"]
    network.backward(network.forward(random(5, 6)))
    before = weight.copy()
    SGD(network, lr=0.1).step()
    assert network.layers[0].parameters["weight"] is weight
    assert not np.array_equal(weight, before)
    network.load_state({name: array + 1 for name, array in network.state().items()})
    assert network.layers[0].parameters["weight"] is weight


def test_layers_do_not_import_torch():
    modules = "activations, conv, layer, linear, loss, norm, optimizer, pooling, sequential, windows"
    code = f"import sys; from labbook.numpy_nn import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


def conv(**options):
    return Conv2d(3, 4, 3, generator=make_generator(), **options)


def linear(**options):
    return Linear(6, 4, generator=make_generator(), **options)


def after_forward(layer, *shape):
    layer.forward(random(*shape))
    return layer


def loss(logits, labels):
    return CrossEntropyLoss().forward(logits, np.asarray(labels))


INVALID_USES = {
    "channels": (
        lambda: conv().forward(random(2, 1, 5, 6)),
        "Conv2d: found inputs of shape (2, 1, 5, 6), expected (N, 3, H, W)",
    ),
    "axes": (lambda: linear().forward(random(6)), "Linear: found inputs of shape (6,), expected (N, 6)"),
    "features": (lambda: linear().forward(random(5, 7)), "Linear: found inputs of shape (5, 7), expected (N, 6)"),
    "no samples": (lambda: linear().forward(random(0, 6)), "Linear: found inputs of shape (0, 6), expected (N, 6)"),
    "two shapes": (
        lambda: BatchNorm1d(4).forward(random(2, 3)),
        "BatchNorm1d: found inputs of shape (2, 3), expected (N, 4) or (N, 4, L)",
    ),
    "flat": (lambda: Flatten().forward(random(5)), "Flatten: found inputs of shape (5,), expected (N, features, ...)"),
    "small image": (
        lambda: conv().forward(random(2, 3, 2, 6)),
        "Conv2d: found inputs (2, 3, 2, 6) with padded height and width (2, 6), expected at least 3 each",
    ),
    "small pool": (
        lambda: MaxPool2d(3).forward(random(1, 1, 5, 2)),
        "MaxPool2d: found inputs of shape (1, 1, 5, 2), expected height and width of at least 3",
    ),
    "one value": (
        lambda: BatchNorm1d(4).forward(random(1, 4)),
        "BatchNorm1d: found inputs of shape (1, 4), expected more than one value per channel in training",
    ),
    "other dtype": (
        lambda: linear().forward(random(5, 6, dtype=np.float64)),
        "Linear: found inputs (5, 6) of dtype float64, expected float32",
    ),
    "integers": (
        lambda: ReLU().forward(np.ones((2, 3), np.int64)),
        "ReLU: found inputs (2, 3) of dtype int64, expected a floating dtype",
    ),
    "tensor": (lambda: ReLU().forward(torch.ones(2)), "ReLU: found inputs of type Tensor, expected a NumPy array"),
    "too early": (
        lambda: conv().backward(random(2, 4, 3, 4)),
        "Conv2d: backward was called before forward. Call forward first.",
    ),
    "network too early": (
        lambda: Sequential(linear()).backward_parameters(random(5, 4)),
        "Sequential: backward was called before forward. Call forward first.",
    ),
    "upstream": (
        lambda: after_forward(linear(), 5, 6).backward(random(5, 6)),
        "Linear: found upstream ((5, 6), float32), expected ((5, 4), float32)",
    ),
    "upstream dtype": (
        lambda: after_forward(linear(), 5, 6).backward(random(5, 4, dtype=np.float64)),
        "Linear: found upstream ((5, 4), float64), expected ((5, 4), float32)",
    ),
    "label": (
        lambda: loss(random(2, 3), [0, 3]),
        "CrossEntropyLoss: found labels from 0 to 3 in logits (2, 3) of float32 and labels (2,) of int64, expected 0 to 2",
    ),
    "negative label": (lambda: loss(random(2, 3), [0, -1]), "found labels from -1 to 0"),
    "labels of pixels": (
        lambda: loss(random(2, 3), [[0, 1]]),
        "found logits (2, 3) of float32 and labels (1, 2) of int64, expected (N, classes) and (N,)",
    ),
    "floating labels": (
        lambda: loss(random(2, 3), [0.0, 1.0]),
        "labels (2,) of float64, expected a floating and an integer dtype",
    ),
    "list of labels": (
        lambda: CrossEntropyLoss().forward(random(2, 3), [0, 1]),
        "CrossEntropyLoss: found list, expected NumPy",
    ),
    "loss too early": (lambda: CrossEntropyLoss().backward(), "CrossEntropyLoss: backward was called before forward"),
    "step too early": (lambda: SGD(linear(), 0.1).step(), "SGD: step was called before backward: no gradient of weight (4, 6)"),
    "learning rate": (
        lambda: SGD(linear(), -0.1),
        "SGD: found lr -0.1, momentum 0.0, weight_decay 0.0, expected values of at least 0",
    ),
    "stride": (lambda: conv(stride=0), "Conv2d: found stride 0, expected at least 1"),
    "padding": (lambda: conv(padding=-1), "Conv2d: found padding -1, expected at least 0"),
    "kernel": (lambda: AvgPool2d(0), "AvgPool2d: found kernel_size 0, expected at least 1"),
    "weights of integers": (lambda: linear(dtype=np.int32), "parameters of dtype int32: expected a floating dtype"),
    "twice": (
        lambda: Sequential(*[ReLU()] * 2),
        "Sequential: found the same layer twice, expected a separate instance at each position",
    ),
}


@pytest.mark.parametrize("case", INVALID_USES)
def test_invalid_use_is_refused_with_the_shapes(case):
    use, message = INVALID_USES[case]
    with pytest.raises(NumpyBackendError) as caught:
        use()
    assert message in str(caught.value)


def test_backward_is_refused_after_a_failed_forward_pass():
    network, criterion = Sequential(linear(), linear()), CrossEntropyLoss()
    with pytest.raises(NumpyBackendError, match="inputs of shape"):
        network.forward(random(5, 6))
    after_forward(network.layers[0], 5, 6)
    criterion.forward(random(2, 3), np.array([0, 1]))
    with pytest.raises(NumpyBackendError, match="expected 0 to 2"):
        criterion.forward(random(2, 3), np.array([0, 3]))
    for too_early in (lambda: network.backward(random(5, 4)), criterion.backward):
        with pytest.raises(NumpyBackendError, match="backward was called before forward"):
            too_early()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("0.bias"), "found state entries 0.weight, expected 0.weight, 0.bias"),
        (lambda state: state.update({"2.weight": np.ones(1)}), "found state entries 0.weight, 0.bias, 2.weight"),
        (lambda state: state.update({"0.bias": np.ones(5)}), "found 0.bias of shape (5,), expected (4,)"),
        (lambda state: state.update({"0.bias": np.ones(4, complex)}), "found 0.bias of dtype complex128, expected float32"),
    ],
)
def test_invalid_state_changes_nothing(change, message):
    network = Sequential(linear())
    before, state = network.state(), {name: array + 1 for name, array in network.state().items()}
    change(state)
    with pytest.raises(NumpyBackendError) as caught:
        network.load_state(state)
    assert message in str(caught.value)
    assert all(np.array_equal(network.state()[name], array) for name, array in before.items())
