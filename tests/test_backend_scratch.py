import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from toolbox import bits, splits, toy_model, toy_plan, toy_settings
from torch import nn

from labbook.backends.pytorch import step as pytorch
from labbook.backends.scratch import step as scratch
from labbook.core.errors import ScratchError
from labbook.core.settings import Runtime
from labbook.training.checkpoint import Checkpoint
from labbook.training.engine import fit
from labbook.training.experiment import train_experiment

TORCH = pytorch.build
NUMPY = scratch.build


def everything():
    """Hold one of every layer that there is from scratch."""
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


def test_schedule_and_kept_weights_hold_from_scratch_too(tiny_packed):
    keys = {"schedule": lambda epoch: 0.0 if epoch > 1 else 1.0}
    run = trained(tiny_packed, NUMPY, lambda: toy_model(tiny_packed), "sgd", **keys)
    assert [row.lr for row in run.rows] == [0.1, 0.0, 0.0]
    assert run.rows[1].val_loss == run.rows[2].val_loss, "nothing moves without a learning rate"


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
    settings = toy_settings(backend="scratch")
    runtime = Runtime(seed=0, device="auto", threads=2)
    first, second = (
        train_experiment("toy", settings, runtime, tiny_packed, key="toy", checkpoints=tmp_path / str(run)) for run in range(2)
    )
    assert bits(first.weights) == bits(second.weights)
    assert first.summary["device"] == "cpu"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), r"scratch has no Dropout\(p=0.5.*\)\. There are: Flatten, Linear"),
        (nn.Sequential(nn.Conv2d(1, 2, (3, 5))), r"scratch has no Conv2d\(1, 2, kernel_size=\(3, 5\)"),
        (nn.Sequential(nn.MaxPool2d(3, padding=1)), r"scratch has no MaxPool2d\(.*padding=1.*\), only MaxPool2d\(.*padding=0"),
        (nn.Sequential(nn.Linear(2, 2).requires_grad_(False)), r"every layer, and Linear\(.*\) is not to be learnt"),
    ],
)
def test_layer_that_is_not_there_is_named(model, message):
    with pytest.raises(ScratchError, match=message):
        scratch.twin_of(model)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"optimizer": {"name": "adam", "lr": 0.1}}, "optimizer"),
        ({"precision": "bf16"}, "precision"),
        ({"watch": ["dead_units"]}, "watch"),
    ],
)
def test_setting_that_scratch_cannot_follow_is_refused(change, key):
    with pytest.raises(ValidationError, match=f"backend: scratch has only .* for {key}"):
        toy_settings(backend="scratch", **change)


def test_twin_works_on_the_memory_of_the_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    twin = scratch.twin_of(model)
    twin.parameters["1.weight"][...] = 7
    assert model[1].weight.eq(7).all()
    np.testing.assert_array_equal(twin.forward(np.zeros((1, 4), np.float32))[0], model[1].bias.detach().numpy())
