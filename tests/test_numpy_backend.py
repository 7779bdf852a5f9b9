"""The numpy backend compared with the torch backend, from the same weights with the same order of samples."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from threadpoolctl import threadpool_info
from toolbox import bits, splits, toy_config, toy_model, toy_settings
from torch import nn

from labbook.config.train import Runtime
from labbook.errors import NumpyBackendError
from labbook.numpy_nn import step
from labbook.training import torch_step
from labbook.training.checkpoint import Checkpoint
from labbook.training.engine import fit
from labbook.training.experiment import train_experiment

TORCH = torch_step.build
NUMPY = step.build


def all_layers():
    """Return a model that contains every supported layer."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ELU(), nn.AvgPool2d(2)),
        nn.Flatten(), nn.LazyLinear(8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3),
    )  # fmt: skip


def train_model(packed, backend, build, optimizer="momentum", **settings):
    train, validation, test = splits(packed)
    torch.manual_seed(0)
    model = build()
    model(train.pixels[:2].permute(0, 3, 1, 2))  # initialise the lazy layer
    checkpoint = settings.pop("checkpoint", None)
    config = toy_config(optimizer, backend=backend, **settings)
    return fit(model, train, validation, test, config, checkpoint=checkpoint, checkpoint_seconds=0)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_loss_curve_matches_the_torch_backend(tiny_packed, optimizer):
    def build():
        return toy_model(tiny_packed)

    expected, result = (train_model(tiny_packed, backend, build, optimizer) for backend in (TORCH, NUMPY))
    for row, expected_row in zip(result.rows, expected.rows, strict=True):
        assert dataclasses.astuple(row) == pytest.approx(dataclasses.astuple(expected_row), abs=1e-5)
    assert result.rows[-1].train_loss < result.rows[0].train_loss, "the loss decreases"


def test_weights_of_every_layer_match_the_torch_backend(tiny_packed):
    expected, result = (train_model(tiny_packed, backend, all_layers, epochs=1) for backend in (TORCH, NUMPY))
    assert result.weights.keys() == expected.weights.keys()
    for name, tensor in expected.weights.items():
        torch.testing.assert_close(
            result.weights[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_momentum_and_weight_decay_match_the_formula(tiny_packed):
    """Two full-batch steps: v ← 0.8 v + g + 0.01 w and w ← w − 0.05 v, with the gradients of PyTorch's autograd."""
    train, _, _ = splits(tiny_packed)
    images, labels = train.pixels.permute(0, 3, 1, 2), train.labels
    model = toy_model(tiny_packed)
    velocities = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for _ in range(2):
        model.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        with torch.no_grad():
            for parameter, velocity in zip(model.parameters(), velocities, strict=True):
                velocity.mul_(0.8).add_(parameter.grad + 0.01 * parameter)
                parameter.sub_(0.05 * velocity)

    def optimizer(parameters):
        return torch.optim.SGD(parameters, lr=0.05, momentum=0.8, weight_decay=0.01)

    config = dataclasses.replace(toy_config(backend=NUMPY, epochs=2, batch_size=72), optimizer=optimizer)
    weights = fit(toy_model(tiny_packed), train, None, None, config).weights
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", ["nesterov", "dampening", "maximize"])
def test_unsupported_option_of_the_optimizer_is_refused(tiny_packed, option):
    options = {"momentum": 0.9, option: 0.5 if option == "dampening" else True}
    model = toy_model(tiny_packed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **options)
    with pytest.raises(NumpyBackendError, match=f"^backend: numpy does not support {option} of the optimizer SGD"):
        NUMPY(model, nn.functional.cross_entropy, optimizer, "float32")


def test_schedule_is_followed(tiny_packed):
    """From the second epoch on, the learning rate is 0 and no weight changes."""
    schedule = {"name": "MultiStepLR", "milestones": [1], "gamma": 0.0}
    result = train_model(tiny_packed, NUMPY, lambda: toy_model(tiny_packed), "sgd", schedule=schedule)
    assert [row.lr for row in result.rows] == [0.1, 0.0, 0.0]
    assert result.rows[1].val_loss == result.rows[2].val_loss


def test_resumed_training_is_identical_to_the_bit(tiny_packed, tmp_path):
    class Interrupted(Exception):
        pass

    class InterruptingCheckpoint(Checkpoint):
        def save(self, state):
            super().save(state)
            raise Interrupted

    uninterrupted = train_model(tiny_packed, NUMPY, all_layers)
    with pytest.raises(Interrupted):
        train_model(tiny_packed, NUMPY, all_layers, checkpoint=InterruptingCheckpoint(tmp_path / "state.pt"))
    resumed = train_model(tiny_packed, NUMPY, all_layers, checkpoint=Checkpoint(tmp_path / "state.pt"))
    assert bits(resumed.weights) == bits(uninterrupted.weights)
    assert resumed.rows == uninterrupted.rows


def test_experiment_trains_reproducibly_on_the_cpu(tiny_packed, tmp_path):
    settings = toy_settings(backend="numpy", threads=2)
    runtime = Runtime(seed=0, device="cuda:99")  # ignored: this backend trains on the CPU
    first, second = (
        train_experiment("toy", settings, runtime, tiny_packed, key="toy", checkpoints=tmp_path / str(run)) for run in range(2)
    )
    assert bits(first.weights) == bits(second.weights)
    assert first.device == "cpu"


def test_matrix_products_use_as_many_threads_as_torch(tiny_packed):
    """The last bits of sums depend on the number of threads, so it must not be the machine's number of cores."""
    model = toy_model(tiny_packed)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            NUMPY(model, nn.functional.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.1), "float32")
            assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {count}
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Dropout(0.5)),
            r"does not support Dropout\(p=0.5.*\)\. It supports sequences of Flatten,",
        ),
        (nn.Sequential(nn.Conv2d(1, 2, (3, 5))), r"does not support Conv2d\(1, 2, kernel_size=\(3, 5\)"),
        (
            nn.Sequential(nn.MaxPool2d(3, padding=1)),
            r"does not support MaxPool2d\(.*padding=1.*\), only MaxPool2d\(.*padding=0",
        ),
        (nn.Sequential(nn.Linear(2, 2).requires_grad_(False)), r"trains every layer, and Linear\(.*\) is frozen"),
    ],
)
def test_unsupported_layer_is_named(model, message):
    with pytest.raises(NumpyBackendError, match=f"^backend: numpy {message}"):
        step.convert(model)


@pytest.mark.parametrize(
    ("change", "supported"),
    [
        ({"optimizer": {"name": "Adam", "lr": 0.1}}, r"optimizer: \{name: SGD\}"),
        ({"loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.1}}, r"loss: \{name: CrossEntropyLoss\}"),
        ({"precision": "bf16"}, "precision: float32"),
        ({"watch": ["dead_units"]}, r"watch: \[\]"),
    ],
)
def test_unsupported_setting_is_refused(change, supported):
    with pytest.raises(ValidationError, match=f"backend: numpy supports only {supported}"):
        toy_settings(backend="numpy", **change)


def test_converted_layers_have_the_options_of_the_model():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4, eps=0.5, momentum=0.3), nn.ELU(alpha=0.4),
        nn.MaxPool2d(3, stride=1), nn.AvgPool2d(3, stride=2), nn.Flatten(), nn.BatchNorm1d(16, eps=0.25, momentum=0.6),
    )  # fmt: skip
    network = step.convert(copy.deepcopy(model))
    images = torch.randn(5, 1, 14, 14)
    np.testing.assert_allclose(network.forward(images.numpy()), model(images).detach().numpy(), rtol=1e-4, atol=1e-5)
    for name, expected in model.named_buffers():
        np.testing.assert_allclose(network.buffers[name], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_converted_layers_share_the_memory_of_the_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    network = step.convert(model)
    network.parameters["1.weight"][...] = 7
    assert model[1].weight.eq(7).all()
    np.testing.assert_array_equal(network.forward(np.zeros((1, 4), np.float32))[0], model[1].bias.detach().numpy())
