"""Architectures of assignments A and B: their layers, parameters and formulas."""

import copy
import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toolbox import CPU, UNIT, toy_model, toy_plan
from torch import nn
from torch.nn import functional

from labbook.config.components import load
from labbook.config.reading import read
from labbook.config.train import Constraint, resolve
from labbook.data.packed import PackedDataset, read_packed
from labbook.errors import ParamsError
from labbook.models import cnn, mlp, residual
from labbook.training.components import weight_decay_of
from labbook.training.constraints import check, count_parameters
from labbook.training.engine import fit
from labbook.training.inference import evaluate, to_device

MNIST = (1, 28, 28)
SHAPES = {"mnist": (MNIST, 10)}  # of the datasets that the repository's experiments are built for here

# Assignment B prints the first ones; the others are worked out by hand, convolution by convolution.
PARAMETERS = {
    "mnist_mlp_2x50": 42_310,
    "mnist_cnn_small": 21_578,
    "mnist_cnn_pool_first": 21_578,
    "mnist_cnn_pool_first_tanh": 21_578,
    "mnist_cnn_adam": 21_578,
    "mnist_cnn_adam_tuned": 21_578,
    "mnist_resnet_sgd": 80 + 3 * 584 + 1_168 + 3 * 2_320 + 4_640 + 3 * 9_248 + 15_690,
    "mnist_plain_deep_sgd": 80 + 3 * 584 + 1_168 + 3 * 2_320 + 4_640 + 3 * 9_248 + 15_690,
    "mnist_resnet_bn_sgd": 80 + 3 * 600 + 1_168 + 3 * 2_352 + 4_640 + 3 * 9_312 + 15_690,
    "mnist_resnet_bn_adam": 80 + 3 * 600 + 1_168 + 3 * 2_352 + 4_640 + 3 * 9_312 + 15_690,
}

side = st.integers(8, 20)
images = st.tuples(st.integers(1, 3), side, side)
widths = st.lists(st.integers(1, 6), min_size=1, max_size=3)
classes = st.integers(1, 12)


def build_mlp(shape=MNIST, classes=10, **keys):
    return mlp.build(mlp.Settings(name="mlp", **keys), shape, classes)


def build_cnn(shape=MNIST, classes=10, **keys):
    return cnn.build(cnn.Settings(name="cnn", **keys), shape, classes)


def build_residual(shape=MNIST, classes=10, **keys):
    return residual.build(residual.Settings(name="residual", **keys), shape, classes)


def kinds(model: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in model.children()]


@pytest.fixture(scope="module")
def built(repository):
    """Every experiment of the repository: its settings and its model as built."""
    found = {}
    values = read(repository / "params.yaml")
    for name in values["experiments"]:
        train = resolve(values, f"experiments.{name}", "official").settings
        if train.inputs.dataset in SHAPES:
            module, options = load("model", train.model, f"experiments.{name}.train.model")
            found[name] = train, module.build(options, *SHAPES[train.inputs.dataset])
    return found


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_the_printed_one(built, name):
    assert count_parameters(built[name][1]) == PARAMETERS[name]


def test_every_experiment_satisfies_the_constraint_of_its_assignment(built):
    assert sum(train.constraint != Constraint() for train, _ in built.values()) >= 4
    for name, (train, model) in built.items():
        check(model, train.constraint, weight_decay_of(train.optimizer), name)


def test_no_activation_works_in_place_and_no_module_runs_twice(built):
    """Methods that look inside a network hook its modules: one that runs twice or overwrites its input misleads them."""
    runs: list[nn.Module] = []
    for name, (_, original) in built.items():
        model = copy.deepcopy(original)
        leaves = [module for module in model.modules() if not list(module.children())]
        assert not [module for module in leaves if getattr(module, "inplace", False)], name
        for module in leaves:
            module.register_forward_hook(lambda module, *_: runs.append(module))
        model(torch.rand(2, *MNIST))
        assert Counter(runs) == dict.fromkeys(leaves, 1), name
        runs.clear()


@given(
    shape=images,
    hidden=st.lists(st.integers(1, 9), max_size=3),
    classes=classes,
    activation=st.sampled_from(["relu", "sigmoid", "tanh"]),
    dropout=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_mlp_has_its_layers_in_order_and_gives_one_logit_a_class(shape, hidden, classes, activation, dropout):
    model = build_mlp(shape, classes, hidden=hidden, activation=activation, dropout=dropout)
    block = ["Linear", {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh"}[activation], *["Dropout"] * bool(dropout)]
    assert kinds(model) == ["Flatten", *block * len(hidden), "Linear"]
    sizes = [math.prod(shape), *hidden, classes]
    assert [layer.out_features for layer in model if isinstance(layer, nn.Linear)] == sizes[1:]
    assert count_parameters(model) == sum((into + 1) * out for into, out in itertools.pairwise(sizes))
    assert model(torch.rand(2, *shape)).shape == (2, classes)


def test_default_weights_of_an_mlp_are_those_that_pytorch_draws():
    torch.manual_seed(3)
    drawn = [nn.Linear(12, 7), nn.Linear(7, 5)]
    torch.manual_seed(3)
    built = [layer for layer in build_mlp((3, 2, 2), 5, hidden=[7]) if isinstance(layer, nn.Linear)]
    for one, two in zip(drawn, built, strict=True):
        assert torch.equal(one.weight, two.weight)
        assert torch.equal(one.bias, two.bias)


def test_weights_of_an_mlp_are_zero_or_normal_where_that_is_asked_for():
    assert all(not parameter.any() for parameter in build_mlp(hidden=[50, 20], init="zeros").parameters())
    for layer in build_mlp(hidden=[400, 300], init="normal", init_std=0.05)[1::2]:
        assert not layer.bias.any()
        assert float(layer.weight.detach().std()) == pytest.approx(0.05, rel=0.1)
        assert float(layer.weight.detach().mean()) == pytest.approx(0, abs=0.005)


@settings(max_examples=25)
@given(
    shape=images,
    channels=widths,
    pools=st.integers(0, 3),
    classes=classes,
    activation=st.sampled_from(["relu", "tanh"]),
    pool_first=st.booleans(),
    batch_norm=st.booleans(),
    dropout=st.sampled_from([None, 0.0, 0.5]),
)
def test_cnn_has_its_layers_in_order_and_gives_one_logit_a_class(
    shape, channels, pools, classes, activation, pool_first, batch_norm, dropout
):
    pools = min(pools, len(channels))
    model = build_cnn(
        shape, classes, channels=channels, pools=pools, activation=activation, pool_first=pool_first,
        batch_norm=batch_norm, dropout=dropout,
    )  # fmt: skip
    name = {"relu": "ReLU", "tanh": "Tanh"}[activation]
    expected = []
    for index in range(len(channels)):
        expected += ["Conv2d"] + ["BatchNorm2d"] * batch_norm
        pooled = ["MaxPool2d"] if index < pools else []
        expected += [*pooled, name] if pool_first else [name, *pooled]
        expected += ["Dropout"] * (dropout is not None)
    assert kinds(model) == [*expected, "Flatten", "Linear"]
    convs = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == channels
    assert {(conv.kernel_size, conv.stride, conv.padding) for conv in convs} == {((3, 3), (1, 1), (1, 1))}
    assert model(torch.rand(2, *shape)).shape == (2, classes)


@settings(max_examples=25)
@given(shape=images, channels=widths, blocks=st.integers(1, 2), classes=classes, skip=st.booleans(), batch_norm=st.booleans())
def test_residual_has_its_layers_in_order_and_gives_one_logit_a_class(shape, channels, blocks, classes, skip, batch_norm):
    model = build_residual(shape, classes, channels=channels, blocks=blocks, skip=skip, batch_norm=batch_norm)
    group = ["Conv2d", *["Block"] * blocks]
    assert kinds(model) == [*group, *["MaxPool2d", *group] * (len(channels) - 1), "ReLU", "Flatten", "Linear"]
    assert [layer.out_channels for layer in model if isinstance(layer, nn.Conv2d)] == channels
    assert model(torch.rand(2, *shape)).shape == (2, classes)


def test_cnn_refuses_more_pools_than_the_image_can_take():
    build_cnn((1, 8, 9), channels=[2, 2, 2], pools=3)
    with pytest.raises(ParamsError, match=r"model\.pools: 3 pools reduce an image of 7×9 pixels to nothing"):
        build_cnn((1, 7, 9), channels=[2, 2, 2], pools=3)


def test_cnn_refuses_more_pools_than_convolutions():
    with pytest.raises(ParamsError, match=r"model\.pools: 2 pools, but 1 blocks\. Use at most one pool per block"):
        build_cnn(channels=[4], pools=2)


def test_residual_refuses_more_widths_than_the_image_can_take():
    build_residual((1, 4, 5), channels=[2, 2, 2], blocks=1)
    with pytest.raises(ParamsError, match=r"model\.channels: 3 widths reduce an image of 3×5 pixels to nothing"):
        build_residual((1, 3, 5), channels=[2, 2, 2], blocks=1)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), side=st.integers(4, 17), channels=widths)
def test_pool_before_an_increasing_activation_gives_the_same_bits(activation, seed, side, channels):
    keys = {"channels": channels, "pools": min(2, len(channels)), "activation": activation}
    after = build_cnn((1, side, side), **keys)
    before = build_cnn((1, side, side), **keys, pool_first=True)
    assert kinds(after) != kinds(before)
    before.load_state_dict(after.state_dict())  # only layers without weights swap places, so the names fit
    batch = torch.randn(3, 1, side, side, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        assert torch.equal(after(batch), before(batch))


def test_activations_of_a_cnn_are_the_ones_asked_for():
    torch.manual_seed(0)
    relu = build_cnn(channels=[4], pools=0)
    tanh = build_cnn(channels=[4], pools=0, activation="tanh")
    tanh.load_state_dict(relu.state_dict())
    batch = torch.rand(2, *MNIST)
    features = functional.conv2d(batch, relu[0].weight, relu[0].bias, padding=1)
    for model, activation in ((relu, torch.relu), (tanh, torch.tanh)):
        expected = functional.linear(activation(features).flatten(1), model[3].weight, model[3].bias)
        assert torch.equal(model(batch), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_residual_block_computes_its_formula(skip, batch_norm, training):
    torch.manual_seed(0)
    block = residual.Block(3, skip=skip, batch_norm=batch_norm).train(training)
    batch = torch.randn(4, 3, 5, 5)
    change = batch
    if batch_norm:
        block.norm.weight.data.uniform_(0.5, 2)
        block.norm.bias.data.uniform_(-1, 1)
        block.norm.running_mean.uniform_(-1, 1)
        block.norm.running_var.uniform_(0.5, 2)
        axes = {"dim": (0, 2, 3), "keepdim": True}
        mean = batch.mean(**axes) if training else block.norm.running_mean.clone().view(1, 3, 1, 1)
        variance = batch.var(**axes, correction=0) if training else block.norm.running_var.clone().view(1, 3, 1, 1)
        change = (batch - mean) / torch.sqrt(variance + 1e-5)
        change = change * block.norm.weight.view(1, 3, 1, 1) + block.norm.bias.view(1, 3, 1, 1)
    change = functional.conv2d(change.clamp(min=0), block.conv.weight, block.conv.bias, padding=1)
    torch.testing.assert_close(block(batch), batch + change if skip else change)


@pytest.mark.parametrize(
    "model",
    [build_cnn(channels=[4, 4], pools=1, batch_norm=True), build_residual(channels=[2], blocks=2, batch_norm=True)],
    ids=["cnn", "residual"],
)
def test_batch_norm_has_the_constants_of_pytorch(model):
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [(layer.eps, layer.momentum, layer.affine, layer.track_running_stats) for layer in layers] == [
        (1e-5, 0.1, True, True)
    ] * 2


@pytest.mark.parametrize("skip", [True, False])
def test_residual_network_computes_its_formula(skip):
    torch.manual_seed(0)
    model = build_residual((1, 12, 12), 4, channels=[2, 3], blocks=2, skip=skip)
    weights = model.state_dict()

    def conv(inputs, name):
        return functional.conv2d(inputs, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    def group(inputs, first):
        x = conv(inputs, str(first))
        for index in (first + 1, first + 2):
            change = conv(torch.relu(x), f"{index}.conv")
            x = x + change if skip else change
        return x

    batch = torch.rand(5, 1, 12, 12)
    x = group(functional.max_pool2d(group(batch, 0), 2), 4)
    expected = functional.linear(torch.relu(x).flatten(1), weights["9.weight"], weights["9.bias"])
    torch.testing.assert_close(model(batch), expected)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_dropout_of_everything_trains_and_learns_nothing(tiny_packed, kind):
    model = toy_model(tiny_packed, kind, dropout=1.0)
    train = to_device(tiny_packed.train, UNIT, CPU)
    hidden = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = fit(model, train, None, None, toy_plan(epochs=2)).rows
    assert [row.train_accuracy for row in rows] == pytest.approx([1 / 3, 1 / 3], abs=0.15)
    last = max(hidden, key=lambda name: int(name.partition(".")[0])).partition(".")[0]
    moved = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, hidden[name])]
    assert moved == [f"{last}.bias"]
    model.train()
    images = train.pixels[:9].permute(0, 3, 1, 2)
    logits = model(images)
    assert torch.equal(logits, model[-1].bias.expand(9, 3))


def test_dropout_of_everything_gives_about_chance_on_digits(mnist_file):
    packed: PackedDataset = read_packed(mnist_file)
    model = toy_model(packed, "cnn", channels=[8, 8], pools=2, batch_norm=True, dropout=1.0)
    plan = toy_plan("adam", epochs=1, batch_size=32)
    fit(model, to_device(packed.train, UNIT, CPU), None, None, plan)
    _, accuracy = evaluate(model, plan.loss, to_device(packed.test, UNIT, CPU))
    assert accuracy < 0.3
