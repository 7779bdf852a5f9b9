"""Constraints of the assignments on models."""

import contextlib

import pytest
from toolbox import toy_settings
from torch import nn

from labbook.config.train import Constraint, Runtime
from labbook.errors import ConstraintError, ParamsError
from labbook.training.constraints import check_constraint, count_parameters
from labbook.training.experiment import train_experiment


def small() -> nn.Sequential:
    """Two hidden layers of 3 and 2 units, and 4·3+3 + 3·2+2 + 2·2+2 = 29 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))


def convolutional() -> nn.Sequential:
    """Two convolutions with batch norm at both and dropout at one."""
    first = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout())
    return nn.Sequential(first, nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))


def dropout_after_one_conv() -> nn.Sequential:
    """Two convolutions with two dropouts after the second, and one more dropout after a Linear."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.ReLU(),
        nn.Conv2d(2, 2, 3),
        nn.Dropout(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(2, 2),
        nn.Dropout(),
    )


def dropout_after_linear() -> nn.Sequential:
    """A convolution, a Linear, and dropout after the Linear only."""
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2), nn.Dropout())


SATISFIED = [
    (small, {}, 0.0),
    (small, {"parameters": 29}, 0.0),
    (small, {"parameters_below": 30}, 0.0),
    (small, {"hidden_units_at_most": 5}, 0.0),
    (small, {"hidden_layers_at_least": 2}, 0.0),
    (small, {"layers_allowed": ["Flatten", "Linear", "ReLU", "Dropout"]}, 0.0),
    (small, {"weight_decay": True}, 1e-9),
    (small, {"weight_decay": False}, 0.0),
    (convolutional, {"layers_at_every_conv": ["BatchNorm2d"]}, 0.0),
    (lambda: nn.Linear(2, 2), {"hidden_units_at_most": 0, "hidden_layers_at_least": 0}, 0.0),
]

# A model, a constraint that it violates, its weight decay, and the message.
VIOLATED = [
    (small, {"parameters": 28}, 0.0, "requires 28, but the model has 29"),
    (small, {"parameters": 30}, 0.0, "requires 30, but the model has 29"),
    (small, {"parameters_below": 29}, 0.0, "requires fewer than 29, but the model has 29"),
    (small, {"hidden_units_at_most": 4}, 0.0, "requires at most 4, but the model has 5"),
    (small, {"hidden_layers_at_least": 3}, 0.0, "requires at least 3, but the model has 2"),
    (small, {"layers_allowed": ["Linear"]}, 0.0, "requires only Linear, but the model has Flatten, ReLU"),
    (small, {"weight_decay": True}, 0.0, "requires weight_decay above 0 in the optimizer, but the model has 0.0"),
    (
        convolutional,
        {"layers_at_every_conv": ["BatchNorm2d", "Dropout"]},
        0.0,
        "requires Dropout after each Conv2d, but the model has it after 1 of 2",
    ),
    (
        dropout_after_one_conv,
        {"layers_at_every_conv": ["Dropout"]},
        0.0,
        "requires Dropout after each Conv2d, but the model has it after 1 of 2",
    ),
    (
        dropout_after_linear,
        {"layers_at_every_conv": ["Dropout"]},
        0.0,
        "requires Dropout after each Conv2d, but the model has it after 0 of 1",
    ),
    (
        small,
        {"layers_at_every_conv": ["Dropout"]},
        0.0,
        "requires Dropout after each Conv2d, but the model has it after 0 of 0",
    ),
]


@pytest.mark.parametrize(("model", "constraint", "weight_decay"), SATISFIED)
def test_satisfied_constraint_passes(model, constraint, weight_decay):
    check_constraint(model(), Constraint(**constraint), weight_decay, "experiments.x.train.constraint")


@pytest.mark.parametrize(("model", "constraint", "weight_decay", "message"), VIOLATED)
def test_violated_constraint_is_named_with_the_actual_value(model, constraint, weight_decay, message):
    (key,) = constraint
    with pytest.raises(ConstraintError, match=rf"^experiments\.x\.train\.constraint\.{key}: {message}\. Change the model"):
        check_constraint(model(), Constraint(**constraint), weight_decay, "experiments.x.train.constraint")


def test_every_key_of_a_constraint_is_tested_satisfied_and_violated():
    keys = set(Constraint.model_fields)
    assert {key for _, constraint, _ in SATISFIED for key in constraint} == keys
    assert {key for _, constraint, _, _ in VIOLATED for key in constraint} == keys


def test_frozen_parameters_are_not_counted():
    model = small()
    model[1].requires_grad_(False)
    assert count_parameters(model) == 29 - 15


def test_experiment_that_violates_its_constraint_is_not_trained(tiny_packed, tmp_path):
    model = {"name": "mlp", "hidden": [100, 1]}
    settings = toy_settings(model=model, constraint={"hidden_units_at_most": 100})
    runtime = Runtime(seed=0, device="cpu")
    with pytest.raises(ParamsError, match=r"e\.x\.train\.constraint\.hidden_units_at_most: requires at most 100, .* has 101\."):
        train_experiment("x", settings, runtime, tiny_packed, key="e.x.train", checkpoints=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("weight_decay", "accepted"), [(None, False), (0.0, False), (0.01, True)])
def test_weight_decay_of_the_optimizer_reaches_the_constraint(tiny_packed, tmp_path, weight_decay, accepted):
    optimizer = {"name": "SGD", "lr": 0.1} | ({} if weight_decay is None else {"weight_decay": weight_decay})
    settings = toy_settings(optimizer=optimizer, constraint={"weight_decay": True}, epochs=1)
    raised = contextlib.nullcontext() if accepted else pytest.raises(ConstraintError, match=r"^x\.constraint\.weight_decay: ")
    with raised:
        train_experiment("x", settings, Runtime(seed=0, device="cpu"), tiny_packed, key="x", checkpoints=tmp_path)
