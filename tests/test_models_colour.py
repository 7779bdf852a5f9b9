"""Architectures of assignments C, D and E: layers, numbers of parameters and formulas."""

import hashlib
import itertools
from collections import Counter

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from toolbox import bits
from torch import nn
from torch.nn import functional

from labbook.config.components import Component, load
from labbook.config.reading import read
from labbook.config.train import resolve
from labbook.errors import ParamsError
from labbook.models import cnn, deep_residual, resnet18, unet, vgg
from labbook.training.constraints import count_parameters
from labbook.training.inference import model_shape
from labbook.training.preprocessing import Preprocessing

CIFAR = (3, 32, 32)
TINY = (3, 64, 64)
FAMILIES = {"cnn": cnn, "vgg": vgg, "deep_residual": deep_residual, "resnet18": resnet18, "unet": unet}

CIFAR_CNN = {"name": "cnn", "channels": [32, 64, 128], "pools": 3, "kernel": 5, "hidden": [64]}
WIDE = [64, 128, "pool", 128, 128, 256, "pool", 256, "pool", 256, 256, "pool4"]
TINY_WIDE = [64, 128, "pool", 128, 128, 256, "pool", 256, 256, 256, "pool4"]
TINY_DEEP = [64, 128, "pool", 128, 128, 256, "pool", 256, "pool", 256, 256, 512, "pool", 512, "pool", 512, 512, "pool"]

# Networks of the assignments: settings, image shape, number of classes, and parameters of each layer, calculated by hand:
# a convolution a→b has k·k·a·b + b, a batch norm 2b, a Linear a→b has a·b + b.
WIDE_CONVS = [1_920, 74_112, 147_840, 147_840, 295_680] + 3 * [590_592]
EXPERIMENTS = {
    "cifar10_cnn": (CIFAR_CNN, CIFAR, 10, [2_432, 51_264, 204_928, 131_136, 650]),
    "cifar10_cnn_bn": (
        CIFAR_CNN | {"batch_norm": True, "batch_norm_head": True, "init": "kaiming_uniform"},
        CIFAR, 10, [2_432, 64, 51_264, 128, 204_928, 256, 131_136, 128, 650, 20],
    ),
    "cifar10_cnn_dropout": (CIFAR_CNN | {"dropout": 0.05}, CIFAR, 10, [2_432, 51_264, 204_928, 131_136, 650]),
    "cifar10_cnn_plus_flip": (CIFAR_CNN, CIFAR, 10, [2_432, 51_264, 204_928, 131_136, 650]),
    "cifar10_cnn_plus_dropout": (CIFAR_CNN | {"dropout": 0.05}, CIFAR, 10, [2_432, 51_264, 204_928, 131_136, 650]),
    "cifar10_cnn_plus_bn": (
        CIFAR_CNN | {"batch_norm": True, "batch_norm_head": True},
        CIFAR, 10, [2_432, 64, 51_264, 128, 204_928, 256, 131_136, 128, 650, 20],
    ),
    "cifar10_cnn_plus_elu": (CIFAR_CNN | {"activation": "elu"}, CIFAR, 10, [2_432, 51_264, 204_928, 131_136, 650]),
    "cifar10_cnn_plus_double": (
        CIFAR_CNN | {"convs_per_block": 2},
        CIFAR, 10, [2_432, 25_632, 51_264, 102_464, 204_928, 409_728, 131_136, 650],
    ),
    "cifar10_wide": ({"name": "vgg", "layers": WIDE, "bias": False}, CIFAR, 10, [*WIDE_CONVS, 2_560]),
    "tiny_wide": ({"name": "vgg", "layers": TINY_WIDE, "bias": False}, TINY, 200, [*WIDE_CONVS, 819_200]),
    "tiny_wide_32px": (
        {"name": "vgg", "layers": TINY_WIDE[:-1], "adaptive": 4, "bias": False}, CIFAR, 200, [*WIDE_CONVS, 819_200]
    ),
    "tiny_wide_128px": (
        {"name": "vgg", "layers": TINY_WIDE[:-1], "adaptive": 4, "bias": False}, (3, 128, 128), 200, [*WIDE_CONVS, 819_200]
    ),
    "tiny_deep": (
        {"name": "vgg", "layers": TINY_DEEP, "bias": False},
        TINY, 200, [*WIDE_CONVS, 1_181_184] + 3 * [2_360_832] + [102_400],
    ),
    "cifar10_deep_residual": (
        {"name": "deep_residual"},
        CIFAR, 10,
        [760, 20] + 8 * [910] + [9_100, 200] + 8 * [90_100] + [230_656, 512] + 8 * [590_080] + [1_180_160, 1_024]
        + [262_656, 256_500, 250_500, 50_100, 10_100, 10_100, 1_010],
    ),
    "cifar10_resnet18_transfer": (
        {"name": "resnet18", "trainable": ["layer4"]},
        (3, 224, 224), 10, [1_179_648 + 2_359_296 + 131_072 + 3 * 1_024, 2 * 2_359_296 + 2 * 1_024, 5_130],
    ),
    "scenes_unet": (
        {"name": "unet"},
        CIFAR, 20,
        [1_920, 74_112, 295_680, 1_181_184, 2_360_832, 524_544, 1_770_240, 131_200, 442_752, 32_832, 110_784, 5_140],
    ),
    "scenes_unet_sgd": (
        {"name": "unet"},
        CIFAR, 20,
        [1_920, 74_112, 295_680, 1_181_184, 2_360_832, 524_544, 1_770_240, 131_200, 442_752, 32_832, 110_784, 5_140],
    ),
    "scenes_unet_without_skips": (
        {"name": "unet", "skips": False},
        CIFAR, 20,
        [1_920, 74_112, 295_680, 1_181_184, 2_360_832, 524_544, 590_592, 131_200, 147_840, 32_832, 37_056, 5_140],
    ),
}  # fmt: skip

# Small, fast networks: at least one per family, several where a setting changes the computation.
SMALL = {
    "cnn": ({"name": "cnn", "channels": [4, 6], "pools": 2, "kernel": 5, "hidden": [8]}, (3, 8, 8)),
    "cnn_elu": (
        {"name": "cnn", "channels": [4, 6], "pools": 2, "hidden": [8, 7], "activation": "elu", "convs_per_block": 2}
        | {"batch_norm": True, "batch_norm_head": True, "init": "kaiming_uniform", "dropout": 0.05},
        (3, 8, 8),
    ),
    "wide": ({"name": "vgg", "layers": WIDE, "bias": False, "width": 0.1}, CIFAR),
    "wide_any_size": ({"name": "vgg", "layers": TINY_WIDE[:-1], "adaptive": 4, "width": 0.1}, CIFAR),
    "deep": ({"name": "vgg", "layers": TINY_DEEP, "bias": False, "width": 0.1}, TINY),
    "deep_residual": ({"name": "deep_residual", "width": 0.2}, CIFAR),
    "resnet18": ({"name": "resnet18"}, CIFAR),
    "resnet18_frozen": ({"name": "resnet18", "trainable": ["layer4"]}, CIFAR),
    "unet": ({"name": "unet", "width": 0.1}, CIFAR),
    "unet_without_skips": ({"name": "unet", "width": 0.1, "skips": False}, CIFAR),
}

pixels = st.integers(1, 40)


def build(keys, shape=CIFAR, classes=10):
    module = FAMILIES[keys["name"]]
    return module.build(module.Settings(**keys), shape, classes)


def layers_of(model, *kinds):
    return [module for module in model.modules() if isinstance(module, kinds)]


def sizes_of(model, *kinds):
    """Return the input and output channels or features of each layer."""
    return [
        (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else (layer.in_channels, layer.out_channels)
        for layer in layers_of(model, *kinds)
    ]


def names(model):
    return [type(layer).__name__ for layer in model.children()]


def test_experiments_of_assignments_c_d_and_e_have_these_networks(repository):
    """Except for the experiment whose architecture was selected on validation data."""
    values = read(repository / "params.yaml")
    experiments = {
        name: resolve(values, f"experiments.{name}", "official").settings
        for name, block in values["experiments"].items()
        if block["assignment"] in "CDE" and name != "cifar10_cnn_best"
    }
    assert experiments.keys() == EXPERIMENTS.keys() - {"scenes_unet_without_skips"}
    for name, train in experiments.items():
        keys, shape, _, _ = EXPERIMENTS[name]
        module, settings = load("model", train.model, name)
        assert settings == module.Settings(**keys), name
        image_shape = TINY if train.inputs.dataset == "tiny_imagenet" else CIFAR
        assert model_shape(Preprocessing(train.preprocess), image_shape) == shape, name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_number_of_parameters_is_that_of_the_reported_layers(name):
    keys, shape, classes, counts = EXPERIMENTS[name]
    with torch.device("meta"):
        model = build(keys, shape, classes)
    assert count_parameters(model) == sum(counts)


@pytest.mark.parametrize("name", ["cifar10_cnn", "cifar10_cnn_bn", "cifar10_cnn_plus_double"])
def test_layers_of_the_cnn_have_the_reported_numbers_of_parameters(name):
    keys, shape, classes, counts = EXPERIMENTS[name]
    parameters = [count_parameters(layer) for layer in build(keys, shape, classes)]
    assert [count for count in parameters if count] == counts


def test_cifar_cnn_has_the_reported_number_of_parameters():
    assert count_parameters(build(CIFAR_CNN)) == 390_410


@pytest.mark.parametrize(
    ("name", "changes", "fc"),
    [("cifar10_wide", [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), *3 * [(256, 256)]], (256, 10)),
     ("tiny_wide", [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), *3 * [(256, 256)]], (4096, 200)),
     ("tiny_wide_32px", [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), *3 * [(256, 256)]], (4096, 200)),
     ("tiny_wide_128px", [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), *3 * [(256, 256)]], (4096, 200)),
     ("tiny_deep", [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), *3 * [(256, 256)], (256, 512), *3 * [(512, 512)]],
      (512, 200))],
)  # fmt: skip
def test_vgg_has_the_reported_convolutions_and_no_final_bias(name, changes, fc):
    keys, shape, classes, _ = EXPERIMENTS[name]
    with torch.device("meta"):
        model = build(keys, shape, classes)
    convs = layers_of(model, nn.Conv2d)
    assert sizes_of(model, nn.Conv2d) == changes
    assert {(conv.kernel_size, conv.stride, conv.padding) for conv in convs} == {((3, 3), (1, 1), (1, 1))}
    assert sizes_of(model, nn.Linear) == [fc]
    assert model[-1].bias is None


def test_vgg_has_its_layers_in_order():
    conv = ["Conv2d", "BatchNorm2d", "ReLU"]
    wide = [*2 * conv, "MaxPool2d", *3 * conv, "MaxPool2d", *conv, "MaxPool2d", *2 * conv, "MaxPool2d", "Flatten", "Linear"]
    model = build({"name": "vgg", "layers": WIDE, "width": 0.1})
    assert names(model) == wide
    assert [pool.kernel_size for pool in layers_of(model, nn.MaxPool2d)] == [2, 2, 2, 4]
    assert model[-1].bias is not None


def test_deep_residual_has_the_reported_layers():
    with torch.device("meta"):
        model = build({"name": "deep_residual"})
    group = ["Conv2d", "BatchNorm2d", "ReLU", *4 * ["Block"], "MaxPool2d"]
    head = ["Flatten", *6 * ["Linear", "ReLU"], "Linear"]
    assert names(model) == [*3 * group, "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", *head]
    stems = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.padding[0]) for conv in stems] == [
        (3, 10, 5, 3), (10, 100, 3, 1), (100, 256, 3, 1), (256, 512, 3, 0),
    ]  # fmt: skip
    units = [512, 512, 500, 500, 100, 100, 100, 10]
    assert sizes_of(model, nn.Linear) == list(itertools.pairwise(units))
    assert [norm.num_features for norm in layers_of(model, nn.BatchNorm2d)] == [10, 100, 256, 512]


def test_unet_has_the_reported_layers():
    with torch.device("meta"):
        plain, model = build({"name": "unet", "skips": False}, classes=20), build({"name": "unet"}, classes=20)
    down = [(3, 64), (64, 128), (128, 256), (256, 512)]
    up = [(512, 256), (256, 128), (128, 64), (64, 20)]
    assert sizes_of(plain, nn.Conv2d) == [*down, (512, 512), (256, 256), (128, 128), (64, 64)]
    assert sizes_of(model, nn.Conv2d) == [*down, (512, 512), (256 + 512, 256), (128 + 256, 128), (64 + 128, 64)]
    assert sizes_of(plain, nn.ConvTranspose2d) == sizes_of(model, nn.ConvTranspose2d) == up


@pytest.mark.parametrize(("width", "expected"), [(0.001, [1, 1]), (0.25, [2, 4]), (1.0, [8, 15]), (2.0, [16, 30])])
def test_width_scales_all_channels_to_at_least_one(width, expected):
    a, b = expected
    assert sizes_of(build({"name": "vgg", "layers": [8, 15], "width": width}), nn.Conv2d) == [(3, a), (a, b)]
    assert sizes_of(build({"name": "unet", "channels": [8, 15], "width": width}), nn.ConvTranspose2d) == [(b, a), (a, 10)]
    deep = build({"name": "deep_residual", "channels": [8], "blocks": 1, "last": 15, "hidden": [8], "width": width}, (3, 6, 6))
    assert sizes_of(deep, nn.Conv2d, nn.Linear) == [(3, a), (a, a), (a, a), (a, b), (b, a), (a, 10)]


@settings(max_examples=15)
@given(
    rows=pixels,
    columns=pixels,
    kernel=st.sampled_from([1, 3, 5, 7]),
    convs=st.integers(1, 3),
    hidden=st.lists(st.integers(1, 5), max_size=2),
    batch_norm=st.booleans(),
    head=st.booleans(),
    pool_first=st.booleans(),
    dropout=st.sampled_from([None, 0.1]),
)
def test_cnn_has_its_layers_in_order_and_returns_one_logit_per_class(
    rows, columns, kernel, convs, hidden, batch_norm, head, pool_first, dropout
):
    pools = min(2, min(rows, columns).bit_length() - 1)
    model = build(
        {"name": "cnn", "channels": [2, 3], "pools": pools, "kernel": kernel, "convs_per_block": convs, "hidden": hidden}
        | {"batch_norm": batch_norm, "batch_norm_head": head, "pool_first": pool_first, "dropout": dropout}
        | {"activation": "elu"},
        (3, rows, columns), 4,
    )  # fmt: skip
    conv = ["Conv2d", *["BatchNorm2d"] * batch_norm, "ELU"]
    end = ["MaxPool2d", "ELU"] if pool_first else ["ELU", "MaxPool2d"]
    drop = ["Dropout"] * (dropout is not None)
    pooled, unpooled = [*(conv * convs)[:-1], *end, *drop], [*conv * convs, *drop]
    linear = ["Linear", *["BatchNorm1d"] * head]
    assert names(model) == [*pooled * pools, *unpooled * (2 - pools), "Flatten", *[*linear, "ELU"] * len(hidden), *linear]
    assert model(torch.rand(2, 3, rows, columns)).shape == (2, 4)


@settings(max_examples=15)
@given(rows=pixels, columns=pixels, n=st.integers(1, 3), width=st.sampled_from([0.5, 1.0]))
def test_vgg_returns_one_logit_per_class_on_images_of_any_size(rows, columns, n, width):
    layers = [4, "pool"] if min(rows, columns) > 1 else [4]
    model = build({"name": "vgg", "layers": layers, "width": width}, (3, rows, columns), 5)
    assert model(torch.rand(2, 3, rows, columns)).shape == (2, 5)
    adaptive = build({"name": "vgg", "layers": [4], "adaptive": n}, (3, rows * n, columns * n), 5)
    assert adaptive[-1].in_features == 4 * n * n
    assert adaptive(torch.rand(2, 3, rows * n, columns * n)).shape == (2, 5)


@settings(max_examples=15)
@given(rows=st.integers(14, 40), columns=st.integers(14, 40))
def test_deep_residual_returns_one_logit_per_class(rows, columns):
    keys = {"name": "deep_residual", "channels": [2, 3], "blocks": 1, "last": 4, "hidden": [5]}
    assert build(keys, (3, rows, columns), 7)(torch.rand(2, 3, rows, columns)).shape == (2, 7)


@settings(max_examples=15)
@given(
    rows=st.integers(1, 6), columns=st.integers(1, 6), depth=st.integers(1, 3), skips=st.booleans(), classes=st.integers(1, 5)
)
def test_unet_returns_one_logit_per_class_and_pixel(rows, columns, depth, skips, classes):
    size = rows << depth, columns << depth
    model = build({"name": "unet", "channels": [2, 3, 4][:depth], "skips": skips}, (3, *size), classes)
    assert model(torch.rand(2, 3, *size)).shape == (2, classes, *size)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 64)])
def test_resnet18_accepts_images_of_any_size(size):
    assert build({"name": "resnet18"}, (3, *size), 7)(torch.rand(2, 3, *size)).shape == (2, 7)


@pytest.mark.parametrize("name", SMALL)
def test_no_activation_works_in_place_and_every_module_runs_once(name):
    """Attribution methods hook modules; a module that runs twice or overwrites its input would falsify their results."""
    keys, shape = SMALL[name]
    model = build(keys, shape)
    leaves = [module for module in model.modules() if not list(module.children())]
    seen = []
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, _, output: seen.append((module, output, output.clone())))
    model(torch.rand(2, *shape))
    assert Counter(module for module, *_ in seen) == dict.fromkeys(leaves, 1)
    assert all(torch.equal(output, copy) for _, output, copy in seen)
    assert not [leaf for leaf in leaves if getattr(leaf, "inplace", False)]


@pytest.mark.parametrize("name", SMALL)
def test_every_trainable_parameter_has_a_gradient(name):
    keys, shape = SMALL[name]
    torch.manual_seed(0)
    model = build(keys, shape)
    logits = model(torch.randn(4, *shape))
    (logits * torch.randn_like(logits)).sum().backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        if parameter.requires_grad and parameter.dim() > 1:
            assert parameter.grad.count_nonzero(), key


@pytest.mark.parametrize("name", [name for name in SMALL if not name.startswith("cnn") or name == "cnn_elu"])
def test_batch_norm_has_the_defaults_of_pytorch(name):
    layers = layers_of(build(*SMALL[name]), nn.BatchNorm1d, nn.BatchNorm2d)
    assert layers
    assert {(layer.eps, layer.momentum, layer.affine, layer.track_running_stats) for layer in layers} == {
        (1e-5, 0.1, True, True)
    }


@pytest.mark.parametrize(
    ("keys", "digest"),
    [({"channels": [8, 16, 32], "pools": 2}, "7917967b308e0157de9e0436b37862dc6f99b64787f535ac44385926ddff077a"),
     ({"channels": [8, 16, 32], "pools": 2, "pool_first": True, "activation": "tanh"},
      "7917967b308e0157de9e0436b37862dc6f99b64787f535ac44385926ddff077a"),
     ({"channels": [4, 6], "pools": 1, "batch_norm": True, "dropout": 0.05},
      "8297b124c7dec8d184107dab4913d7a7c9f13680536b68b6d014896dafbbc3b4")],
)  # fmt: skip
def test_initial_weights_of_a_cnn_do_not_change(keys, digest):
    """The repository contains results of trained models, which other initial weights would invalidate."""
    torch.manual_seed(0)
    state_hash = hashlib.sha256()
    for name, content in bits(build({"name": "cnn"} | keys, (1, 28, 28)).state_dict()).items():
        state_hash.update(name.encode() + content)
    assert state_hash.hexdigest() == digest


def test_kaiming_uniform_draws_weights_within_its_bound_and_zeroes_biases():
    model = build(CIFAR_CNN | {"init": "kaiming_uniform"})
    for layer in layers_of(model, nn.Conv2d, nn.Linear):
        bound = (6 / layer.weight[0].numel()) ** 0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.count_nonzero()
    assert build(CIFAR_CNN)[-1].bias.count_nonzero()


@pytest.mark.parametrize("side", [16, 32, 64])
def test_adaptive_pool_matches_pytorch_if_sizes_divide(side):
    keys = {"name": "vgg", "layers": [2, "pool", 3]}
    model = build(keys | {"adaptive": 4}, (3, side, 2 * side))
    batch = torch.randn(2, 3, side, 2 * side)
    maps = model[:-3](batch)
    assert torch.equal(model[-3](maps), functional.adaptive_max_pool2d(maps, 4))
    assert model[-3].kernel_size == (side // 8, side // 4)


def test_adaptive_pool_matches_the_fixed_pool_at_the_nominal_size():
    nominal = build({"name": "vgg", "layers": TINY_WIDE, "width": 0.05}, TINY).eval()
    adaptive = build({"name": "vgg", "layers": TINY_WIDE[:-1], "adaptive": 4, "width": 0.05}, TINY).eval()
    adaptive.load_state_dict(nominal.state_dict())
    batch = torch.randn(2, *TINY)
    assert torch.equal(nominal(batch), adaptive(batch))
    for side in (32, 128):
        other = build({"name": "vgg", "layers": TINY_WIDE[:-1], "adaptive": 4, "width": 0.05}, (3, side, side))
        other.load_state_dict(nominal.state_dict())


def test_deep_residual_block_computes_its_formula():
    block = deep_residual.Block(3)
    batch = torch.randn(2, 3, 5, 5)
    residual = functional.conv2d(batch, block.conv1.weight, block.conv1.bias, padding=1).clamp(min=0)
    residual = functional.conv2d(residual, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(batch), batch + residual)


@pytest.mark.parametrize("skips", [True, False])
def test_unet_computes_its_formula(skips):
    model = build({"name": "unet", "channels": [2, 3, 4], "skips": skips}, (3, 16, 8), 5).eval()
    for norm in layers_of(model, nn.BatchNorm2d):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    weights = model.state_dict()

    def conv(maps, name):
        maps = functional.conv2d(maps, weights[f"{name}.0.weight"], weights[f"{name}.0.bias"], padding=1)
        norm = [weights[f"{name}.1.{key}"].view(1, -1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, weight, bias = norm
        return ((maps - mean) / torch.sqrt(variance + 1e-5) * weight + bias).clamp(min=0)

    def up(maps, name):
        return functional.conv_transpose2d(conv(maps, name), weights[f"{name}.3.weight"], weights[f"{name}.3.bias"], stride=2)

    def join(maps, skipped):
        return torch.cat([maps, skipped], dim=1) if skips else maps

    batch = torch.randn(2, 3, 16, 8)
    first = conv(batch, "down.0")
    second = conv(functional.max_pool2d(first, 2), "down.1")
    third = conv(functional.max_pool2d(second, 2), "down.2")
    maps = up(functional.max_pool2d(third, 2), "up.0")
    maps = up(join(maps, third), "up.1")
    torch.testing.assert_close(model(batch), up(join(maps, second), "up.2"))


def test_initial_weights_of_resnet18_are_those_of_torchvision():
    torch.manual_seed(3)
    expected = torchvision.models.resnet18(num_classes=10)
    torch.manual_seed(3)
    assert bits(build({"name": "resnet18"}).state_dict()) == bits(expected.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_resnet18_matches_torchvision(training):
    expected, model = torchvision.models.resnet18(num_classes=10), build({"name": "resnet18"})
    for norm in layers_of(expected, nn.BatchNorm2d):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2)
    model.load_state_dict(expected.state_dict())
    batch = torch.randn(4, 3, 64, 48)
    torch.testing.assert_close(model.train(training)(batch), expected.train(training)(batch))
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_resnet18_loads_the_weights_of_torchvision_except_its_head():
    weights = torchvision.models.resnet18().state_dict()
    del weights["fc.weight"], weights["fc.bias"]
    model = build({"name": "resnet18", "trainable": ["layer4"]})
    assert model.load_state_dict(weights, strict=False) == (["fc.weight", "fc.bias"], [])


@pytest.mark.parametrize(
    ("trainable", "trained"),
    [(["layer4"], ("layer4", "fc")), (["fc"], ("fc",)), ([], ("fc",)), (["bn1", "layer3"], ("bn1", "layer3", "fc")),
     (["fc", "layer4"], ("layer4", "fc"))],
)  # fmt: skip
def test_frozen_submodules_of_resnet18_do_not_change_in_training(trainable, trained):
    model = build({"name": "resnet18", "trainable": trainable})
    before = bits(model.state_dict())
    model.eval()
    model.train()
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1)
    model(torch.randn(4, *CIFAR)).square().sum().backward()
    optimizer.step()
    after = bits(model.state_dict())
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {name for name in after if name.startswith(trained)}


def test_frozen_submodules_of_resnet18_behave_as_in_evaluation():
    model = build({"name": "resnet18", "trainable": ["layer4"]})
    batch = torch.randn(2, *CIFAR)
    seen = []
    model.layer3.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    model.train()(batch)
    model.eval()(batch)
    assert torch.equal(*seen)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("keys", [{}, {"trainable": None}])
def test_all_of_resnet18_is_trained_by_default(keys):
    model = build({"name": "resnet18"} | keys)
    assert count_parameters(model) == sum(parameter.numel() for parameter in model.parameters()) == 11_181_642
    assert all(module.training for module in model.train().modules())


@pytest.mark.parametrize(
    ("keys", "shape", "message"),
    [(CIFAR_CNN | {"kernel": 4}, CIFAR,
      "model.kernel: 4 is even. Use an odd kernel, whose padding can preserve the image size."),
     (CIFAR_CNN, (3, 7, 32), "model.pools: 3 pools reduce an image of 7×32 pixels to nothing. Use fewer pools."),
     (CIFAR_CNN | {"pools": 4}, CIFAR, "model.pools: 4 pools, but 3 blocks. Use at most one pool per block."),
     ({"name": "vgg", "layers": WIDE}, (3, 32, 31),
      "model.layers: the pools reduce an image of 32×31 pixels to nothing. Use fewer."),
     ({"name": "vgg", "layers": [4, "pool"], "adaptive": 4}, (3, 16, 20),
      "model.adaptive: maps of 8×10 do not divide evenly into 4×4."),
     ({"name": "vgg", "layers": [4, "pool"], "adaptive": 4}, (3, 4, 4),
      "model.adaptive: maps of 2×2 do not divide evenly into 4×4."),
     ({"name": "deep_residual"}, (3, 29, 40),
      "model.channels: 3 widths reduce an image of 29×40 pixels to nothing. Use fewer."),
     ({"name": "unet"}, (3, 32, 40),
      "model.channels: 4 widths need images whose height and width are multiples of 16, not 32×40.")],
)  # fmt: skip
def test_impossible_network_is_refused(keys, shape, message):
    with pytest.raises(ParamsError) as error:
        build(keys, shape)
    assert str(error.value) == message


def test_deep_residual_accepts_the_smallest_possible_images():
    keys = {"name": "deep_residual", "width": 0.02}
    assert build(keys, (3, 30, 30))(torch.rand(2, 3, 30, 30)).shape == (2, 10)


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"name": "vgg", "layers": [4, "pol"]},
      "model.layers.1: invalid value 'pol': a layer is a number of channels of at most 65,536, pool or pool4."),
     ({"name": "vgg", "layers": [0]},
      "model.layers.0: invalid value 0: a layer is a number of channels of at most 65,536, pool or pool4."),
     ({"name": "vgg", "layers": [True]},
      "model.layers.0: invalid value True: a layer is a number of channels of at most 65,536, pool or pool4."),
     ({"name": "vgg", "layers": [4], "width": 0}, "model.width: invalid value 0: input should be greater than 0."),
     ({"name": "resnet18", "trainable": ["layer5"]},
      "model.trainable.0: invalid value 'layer5': input should be 'conv1', 'bn1', 'layer1', 'layer2', 'layer3'"),
     (CIFAR_CNN | {"kernels": 5}, "model.kernels: unknown key; did you mean 'kernel'?")],
)  # fmt: skip
def test_wrong_settings_are_named(keys, message):
    with pytest.raises(ParamsError) as error:
        load("model", Component(**keys), "model")
    assert str(error.value).startswith(message)


def test_settings_accept_values_as_read_from_yaml():
    _, loaded = load("model", Component(name="vgg", layers=WIDE, width=1, bias=False), "model")
    assert loaded.layers == WIDE
