"""Architectures of assignments A and B: layers, numbers of parameters and formulas."""

import copy
import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toolbox import CPU, UNIT, toy_config, toy_model
from torch import nn
from torch.nn import functional

from labbook.config.components import load
from labbook.config.reading import read
from labbook.config.train import Constraint, resolve
from labbook.data.packed import PackedDataset, read_packed
from labbook.errors import ParamsError
from labbook.models import cnn, mlp, residual
from labbook.training.components import get_weight_decay
from labbook.training.constraints import check_constraint, count_parameters
from labbook.training.engine import fit
from labbook.training.inference import evaluate, to_device

MNIST = (1, 28, 28)
SHAPES = {"mnist": (MNIST, 10)}  # image shape and number of classes by dataset; other experiments are skipped

# The report of assignment B states the first ones; the others are calculated by hand, layer by layer.
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
    """The settings and the model of each experiment of the repository on the datasets in SHAPES."""
    models = {}
    values = read(repository / "params.yaml")
    for name in values["experiments"]:
        train = resolve(values, f"experiments.{name}", "official").settings
        if train.inputs.dataset in SHAPES:
            module, options = load("model", train.model, f"experiments.{name}.train.model")
            models[name] = train, module.build(options, *SHAPES[train.inputs.dataset])
    return models


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters_is_that_of_the_report(built, name):
    assert count_parameters(built[name][1]) == PARAMETERS[name]


def test_every_experiment_satisfies_its_constraint(built):
    assert sum(train.constraint != Constraint() for train, _ in built.values()) >= 4
    for name, (train, model) in built.items():
        check_constraint(model, train.constraint, get_weight_decay(train.optimizer), name)


def test_no_activation_works_in_place_and_every_module_runs_once(built):
    """Attribution methods hook modules; a module that runs twice or overwrites its input would falsify their results."""
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
def test_mlp_has_its_layers_in_order_and_returns_one_logit_per_class(shape, hidden, classes, activation, dropout):
    model = build_mlp(shape, classes, hidden=hidden, activation=activation, dropout=dropout)
    block = ["Linear", {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh"}[activation], *["Dropout"] * bool(dropout)]
    assert kinds(model) == ["Flatten", *block * len(hidden), "Linear"]
    sizes = [math.prod(shape), *hidden, classes]
    assert [layer.out_features for layer in model if isinstance(layer, nn.Linear)] == sizes[1:]
    assert count_parameters(model) == sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
    assert model(torch.rand(2, *shape)).shape == (2, classes)


def test_default_weights_of_an_mlp_are_those_of_pytorch():
    torch.manual_seed(3)
    expected = [nn.Linear(12, 7), nn.Linear(7, 5)]
    torch.manual_seed(3)
    built = [layer for layer in build_mlp((3, 2, 2), 5, hidden=[7]) if isinstance(layer, nn.Linear)]
    for expected_layer, layer in zip(expected, built, strict=True):
        assert torch.equal(layer.weight, expected_layer.weight)
        assert torch.equal(layer.bias, expected_layer.bias)


def test_init_of_an_mlp_sets_zero_or_normal_weights():
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
def test_cnn_has_its_layers_in_order_and_returns_one_logit_per_class(
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
def test_residual_has_its_layers_in_order_and_returns_one_logit_per_class(shape, channels, blocks, classes, skip, batch_norm):
    model = build_residual(shape, classes, channels=channels, blocks=blocks, skip=skip, batch_norm=batch_norm)
    group = ["Conv2d", *["Block"] * blocks]
    assert kinds(model) == [*group, *["MaxPool2d", *group] * (len(channels) - 1), "ReLU", "Flatten", "Linear"]
    assert [layer.out_channels for layer in model if isinstance(layer, nn.Conv2d)] == channels
    assert model(torch.rand(2, *shape)).shape == (2, classes)


def test_cnn_refuses_too_many_pools_for_the_image():
    build_cnn((1, 8, 9), channels=[2, 2, 2], pools=3)
    with pytest.raises(ParamsError, match=r"model\.pools: 3 pools reduce an image of 7×9 pixels to nothing"):
        build_cnn((1, 7, 9), channels=[2, 2, 2], pools=3)


def test_cnn_refuses_more_pools_than_blocks():
    with pytest.raises(ParamsError, match=r"model\.pools: 2 pools, but 1 blocks\. Use at most one pool per block"):
        build_cnn(channels=[4], pools=2)


def test_residual_refuses_too_many_widths_for_the_image():
    build_residual((1, 4, 5), channels=[2, 2, 2], blocks=1)
    with pytest.raises(ParamsError, match=r"model\.channels: 3 widths reduce an image of 3×5 pixels to nothing"):
        build_residual((1, 3, 5), channels=[2, 2, 2], blocks=1)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), side=st.integers(4, 17), channels=widths)
def test_pooling_before_an_increasing_activation_is_identical_to_the_bit(activation, seed, side, channels):
    options = {"channels": channels, "pools": min(2, len(channels)), "activation": activation}
    after = build_cnn((1, side, side), **options)
    before = build_cnn((1, side, side), **options, pool_first=True)
    assert kinds(after) != kinds(before)
    before.load_state_dict(after.state_dict())  # only layers without weights change places, so the names agree
    batch = torch.randn(3, 1, side, side, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        assert torch.equal(after(batch), before(batch))


def test_activation_of_a_cnn_is_that_of_its_settings():
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
    branch = batch
    if batch_norm:
        block.norm.weight.data.uniform_(0.5, 2)
        block.norm.bias.data.uniform_(-1, 1)
        block.norm.running_mean.uniform_(-1, 1)
        block.norm.running_var.uniform_(0.5, 2)
        axes = {"dim": (0, 2, 3), "keepdim": True}
        mean = batch.mean(**axes) if training else block.norm.running_mean.clone().view(1, 3, 1, 1)
        variance = batch.var(**axes, correction=0) if training else block.norm.running_var.clone().view(1, 3, 1, 1)
        branch = (batch - mean) / torch.sqrt(variance + 1e-5)
        branch = branch * block.norm.weight.view(1, 3, 1, 1) + block.norm.bias.view(1, 3, 1, 1)
    branch = functional.conv2d(branch.clamp(min=0), block.conv.weight, block.conv.bias, padding=1)
    torch.testing.assert_close(block(batch), batch + branch if skip else branch)


@pytest.mark.parametrize(
    "model",
    [build_cnn(channels=[4, 4], pools=1, batch_norm=True), build_residual(channels=[2], blocks=2, batch_norm=True)],
    ids=["cnn", "residual"],
)
def test_batch_norm_has_the_defaults_of_pytorch(model):
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
            branch = conv(torch.relu(x), f"{index}.conv")
            x = x + branch if skip else branch
        return x

    batch = torch.rand(5, 1, 12, 12)
    x = group(functional.max_pool2d(group(batch, 0), 2), 4)
    expected = functional.linear(torch.relu(x).flatten(1), weights["9.weight"], weights["9.bias"])
    torch.testing.assert_close(model(batch), expected)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_dropout_of_1_trains_only_the_last_bias(tiny_packed, kind):
    model = toy_model(tiny_packed, kind, dropout=1.0)
    train = to_device(tiny_packed.train, UNIT, CPU)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = fit(model, train, None, None, toy_config(epochs=2)).rows
    assert [row.train_accuracy for row in rows] == pytest.approx([1 / 3, 1 / 3], abs=0.15)
    last = max(before, key=lambda name: int(name.partition(".")[0])).partition(".")[0]
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == [f"{last}.bias"]
    model.train()
    images = train.pixels[:9].permute(0, 3, 1, 2)
    logits = model(images)
    assert torch.equal(logits, model[-1].bias.expand(9, 3))


def test_dropout_of_1_predicts_digits_about_as_well_as_guessing(mnist_file):
    packed: PackedDataset = read_packed(mnist_file)
    model = toy_model(packed, "cnn", channels=[8, 8], pools=2, batch_norm=True, dropout=1.0)
    config = toy_config("adam", epochs=1, batch_size=32)
    fit(model, to_device(packed.train, UNIT, CPU), None, None, config)
    _, accuracy = evaluate(model, config.loss, to_device(packed.test, UNIT, CPU))
    assert accuracy < 0.3
