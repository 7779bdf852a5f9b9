"""The numpy backend beside PyTorch's, from the same weights in the same order."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from threadpoolctl import threadpool_info
from toolbox import bits, splits, toy_model, toy_plan, toy_settings
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


def everything():
    """Return a model with one of every layer that is supported."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ELU(), nn.AvgPool2d(2)),
        nn.Flatten(), nn.LazyLinear(8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3),
    )  # fmt: skip


def trained(packed, backend, make, optimizer="momentum", **keys):
    train, validation, test = splits(packed)
    torch.manual_seed(0)
    model = make()
    model(train.pixels[:2].permute(0, 3, 1, 2))  # the lazy layer learns its size
    checkpoint = keys.pop("checkpoint", None)
    plan = toy_plan(optimizer, backend=backend, **keys)
    return fit(model, train, validation, test, plan, checkpoint=checkpoint, checkpoint_seconds=0)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_loss_curve_is_that_of_pytorch_from_the_same_weights_in_the_same_order(tiny_packed, optimizer):
    def make():
        return toy_model(tiny_packed)

    usual, ours = (trained(tiny_packed, backend, make, optimizer) for backend in (TORCH, NUMPY))
    for row, expected in zip(ours.rows, usual.rows, strict=True):
        assert dataclasses.astuple(row) == pytest.approx(dataclasses.astuple(expected), abs=1e-5)
    assert ours.rows[-1].train_loss < ours.rows[0].train_loss, "something is learnt"


def test_every_layer_learns_as_pytorchs_does(tiny_packed):
    few = {"epochs": 1}
    usual, ours = (trained(tiny_packed, backend, everything, **few) for backend in (TORCH, NUMPY))
    assert ours.weights.keys() == usual.weights.keys()
    for name, tensor in usual.weights.items():
        torch.testing.assert_close(
            ours.weights[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_momentum_and_weight_decay_are_those_of_the_formula(tiny_packed):
    """Two steps on the whole split: v ← 0.8 v + g + 0.01 w and w ← w − 0.05 v, with the gradients of PyTorch's autograd."""
    train, _, _ = splits(tiny_packed)
    images, labels = train.pixels.permute(0, 3, 1, 2), train.labels
    twin = toy_model(tiny_packed)
    velocity = [torch.zeros_like(parameter) for parameter in twin.parameters()]
    for _ in range(2):
        twin.zero_grad()
        nn.functional.cross_entropy(twin(images), labels).backward()
        with torch.no_grad():
            for parameter, moving in zip(twin.parameters(), velocity, strict=True):
                moving.mul_(0.8).add_(parameter.grad + 0.01 * parameter)
                parameter.sub_(0.05 * moving)

    def optimizer(parameters):
        return torch.optim.SGD(parameters, lr=0.05, momentum=0.8, weight_decay=0.01)

    plan = dataclasses.replace(toy_plan(backend=NUMPY, epochs=2, batch_size=72), optimizer=optimizer)
    found = fit(toy_model(tiny_packed), train, None, None, plan).weights
    for name, tensor in twin.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", ["nesterov", "dampening", "maximize"])
def test_option_of_the_optimizer_that_is_not_supported_is_refused(tiny_packed, option):
    keys = {"momentum": 0.9, option: 0.5 if option == "dampening" else True}
    model = toy_model(tiny_packed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **keys)
    with pytest.raises(NumpyBackendError, match=f"^backend: numpy does not support {option} of the optimizer SGD"):
        NUMPY(model, nn.functional.cross_entropy, optimizer, "float32")


def test_schedule_is_followed(tiny_packed):
    """The rate is 0 from the second epoch on, and then nothing moves."""
    schedule = {"name": "MultiStepLR", "milestones": [1], "gamma": 0.0}
    run = trained(tiny_packed, NUMPY, lambda: toy_model(tiny_packed), "sgd", schedule=schedule)
    assert [row.lr for row in run.rows] == [0.1, 0.0, 0.0]
    assert run.rows[1].val_loss == run.rows[2].val_loss


def test_interrupted_training_ends_with_the_same_bits(tiny_packed, tmp_path):
    class Interrupted(Exception):
        pass

    class Stops(Checkpoint):
        def save(self, state):
            super().save(state)
            raise Interrupted

    whole = trained(tiny_packed, NUMPY, everything)
    with pytest.raises(Interrupted):
        trained(tiny_packed, NUMPY, everything, checkpoint=Stops(tmp_path / "state.pt"))
    resumed = trained(tiny_packed, NUMPY, everything, checkpoint=Checkpoint(tmp_path / "state.pt"))
    assert bits(resumed.weights) == bits(whole.weights)
    assert resumed.rows == whole.rows


def test_experiment_is_trained_on_the_cpu_to_the_same_bytes_every_time(tiny_packed, tmp_path):
    settings = toy_settings(backend="numpy", threads=2)
    runtime = Runtime(seed=0, device="cuda:99")  # whatever device the others train on
    first, second = (
        train_experiment("toy", settings, runtime, tiny_packed, key="toy", checkpoints=tmp_path / str(run)) for run in range(2)
    )
    assert bits(first.weights) == bits(second.weights)
    assert first.device == "cpu"


def test_products_use_as_many_threads_as_torch(tiny_packed):
    """The last bits of their sums depend on it, so a training must not take the number of the machine's cores."""
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
def test_layer_that_is_not_supported_is_named(model, message):
    with pytest.raises(NumpyBackendError, match=f"^backend: numpy {message}"):
        step.twin_of(model)


@pytest.mark.parametrize(
    ("change", "supported"),
    [
        ({"optimizer": {"name": "Adam", "lr": 0.1}}, r"optimizer: \{name: SGD\}"),
        ({"loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.1}}, r"loss: \{name: CrossEntropyLoss\}"),
        ({"precision": "bf16"}, "precision: float32"),
        ({"watch": ["dead_units"]}, r"watch: \[\]"),
    ],
)
def test_setting_that_the_backend_does_not_support_is_refused(change, supported):
    with pytest.raises(ValidationError, match=f"backend: numpy supports only {supported}"):
        toy_settings(backend="numpy", **change)


def test_options_of_layers_are_those_of_the_model():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4, eps=0.5, momentum=0.3), nn.ELU(alpha=0.4),
        nn.MaxPool2d(3, stride=1), nn.AvgPool2d(3, stride=2), nn.Flatten(), nn.BatchNorm1d(16, eps=0.25, momentum=0.6),
    )  # fmt: skip
    twin = step.twin_of(copy.deepcopy(model))
    images = torch.randn(5, 1, 14, 14)
    np.testing.assert_allclose(twin.forward(images.numpy()), model(images).detach().numpy(), rtol=1e-4, atol=1e-5)
    for name, expected in model.named_buffers():
        np.testing.assert_allclose(twin.buffers[name], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_twin_works_on_the_memory_of_the_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    twin = step.twin_of(model)
    twin.parameters["1.weight"][...] = 7
    assert model[1].weight.eq(7).all()
    np.testing.assert_array_equal(twin.forward(np.zeros((1, 4), np.float32))[0], model[1].bias.detach().numpy())
