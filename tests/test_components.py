"""Losses, optimisers and schedules by name: values by formula, default lengths of schedules, and error messages."""

import inspect
import io
import math
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
from torch import nn, optim
from torch.nn import functional

import labbook
from labbook.config import components
from labbook.config.components import Component, module_name, names
from labbook.errors import ParamsError
from labbook.training.components import (
    build_loss,
    build_optimizer,
    build_schedule,
    check_component,
    get_weight_decay,
)

LR = 0.1
OPTIMIZERS = ("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam", "RAdam", "RMSprop")
OPTIMIZERS += ("Rprop", "SGD")
WARM_UP = {
    "name": "SequentialLR",
    "schedulers": [{"name": "LinearLR", "start_factor": 0.1}, {"name": "CosineAnnealingLR"}],
    "milestones": [4],
    "interval": "step",
}
SCHEDULES = (
    {"name": "ConstantLR", "total_iters": 2},
    {"name": "StepLR", "step_size": 2, "interval": "step"},
    {"name": "MultiStepLR", "milestones": [1, 3]},
    {"name": "ExponentialLR", "gamma": 0.5},
    {"name": "LinearLR", "total_iters": 3},
    {"name": "CosineAnnealingLR", "interval": "step"},
    {"name": "CosineAnnealingWarmRestarts", "T_0": 3, "interval": "step"},
    {"name": "PolynomialLR", "power": 2},
    {"name": "OneCycleLR"},
    {"name": "CyclicLR", "max_lr": 0.5, "step_size_up": 3},
    {
        "name": "ChainedScheduler",
        "schedulers": [{"name": "ConstantLR", "total_iters": 3}, {"name": "ExponentialLR", "gamma": 0.9}],
    },
    WARM_UP,
)


def component(name, **keys):
    return Component(name=name, **keys)


def parameter(*values):
    return nn.Parameter(torch.tensor(values))


def descend(optimizer, weights, steps):
    """Minimise half the sum of squared weights, whose gradient is the weights; return the weights after each step."""
    update = inspect.unwrap(type(optimizer).step)
    path = []
    for _ in range(steps):
        weights.grad = weights.detach().clone()
        with torch.no_grad():
            update(optimizer)
        path.append(weights.detach().clone())
    return path


def training(keys, steps_per_epoch, epochs, *, optimizer="SGD", lr=LR):
    """Return a new optimiser and its schedule."""
    built = build_optimizer(component(optimizer, lr=lr), [parameter(1.0, 2.0)], "optimizer")
    return built, build_schedule(keys and component(**keys), built, steps_per_epoch, epochs, "schedule")


def run(optimizer, schedule, steps_per_epoch, start, stop):
    """Run the steps of a training as the engine does; return learning rate, momentum and betas of each step."""
    seen = []
    for step in range(start, stop):
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group.get("momentum"), group.get("betas")))
        descend(optimizer, group["params"][0], 1)
        schedule.after_step()
        if (step + 1) % steps_per_epoch == 0:
            schedule.after_epoch()
    return seen


def rates(keys, steps_per_epoch=1, epochs=10, lr=LR):
    """Return the learning rate of every step."""
    optimizer, schedule = training(keys, steps_per_epoch, epochs, lr=lr)
    return [rate for rate, *_ in run(optimizer, schedule, steps_per_epoch, 0, steps_per_epoch * epochs)]


# Losses


def logits_and_labels(*shape, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count, *size = shape
    logits = torch.randn(count, classes, *size, generator=generator)
    return logits, torch.randint(classes, shape, generator=generator)


def test_cross_entropy_is_that_of_torch_to_the_bit():
    logits, labels = logits_and_labels(64)
    loss = build_loss(component("CrossEntropyLoss"), "loss")
    assert torch.equal(loss(logits, labels), functional.cross_entropy(logits, labels))


def test_pixels_count_as_samples_of_one_batch():
    logits, labels = logits_and_labels(3, 4, 6)
    rows = logits.permute(0, 2, 3, 1).reshape(-1, 5)
    found = build_loss(component("CrossEntropyLoss"), "loss")(logits, labels)
    assert torch.equal(found, functional.cross_entropy(rows, labels.reshape(-1)))


def test_label_smoothing_by_formula():
    logits, smoothing = [2.0, 0.0, -1.0], 0.1
    total = sum(math.exp(value) for value in logits)
    nats = [math.log(total) - value for value in logits]
    expected = (1 - smoothing) * nats[0] + smoothing * sum(nats) / 3
    loss = build_loss(component("CrossEntropyLoss", label_smoothing=smoothing), "loss")
    assert loss(torch.tensor([logits]), torch.tensor([0])).item() == pytest.approx(expected, rel=1e-6)


def test_weights_of_classes_by_formula():
    nats = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))]  # logits (1, 0) of class 0, and (2, 0) of class 1
    loss = build_loss(component("CrossEntropyLoss", weight=[1, 3]), "loss")
    found = loss(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])).item()
    assert found == pytest.approx((nats[0] + 3 * nats[1]) / 4, rel=1e-6)


def test_weights_of_classes_follow_the_logits_to_their_device():
    loss = build_loss(component("CrossEntropyLoss", weight=[1, 3]), "loss")
    elsewhere = loss(torch.zeros(4, 2, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta"))
    assert elsewhere.device.type == "meta"
    assert loss(torch.zeros(1, 2), torch.tensor([0])).item() == pytest.approx(math.log(2))


def test_ignored_labels_do_not_count():
    logits, labels = logits_and_labels(2, 3, 3)
    labels[0] = 255
    found = build_loss(component("CrossEntropyLoss", ignore_index=255), "loss")(logits, labels)
    rest = build_loss(component("CrossEntropyLoss"), "loss")(logits[1:], labels[1:])
    assert found.item() == pytest.approx(rest.item(), rel=1e-6)


def test_margin_and_likelihood_losses_by_formula():
    scores, label = torch.tensor([[0.5, 0.2, -1.0]]), torch.tensor([0])
    margin = build_loss(component("MultiMarginLoss", margin=0.5, p=2), "loss")
    assert margin(scores, label).item() == pytest.approx((0.5 - 0.5 + 0.2) ** 2 / 3, rel=1e-5)
    assert build_loss(component("NLLLoss"), "loss")(scores, label).item() == -0.5


def test_losses_have_gradients():
    logits, labels = logits_and_labels(8)
    logits.requires_grad_()
    build_loss(component("CrossEntropyLoss", weight=[1, 1, 1, 1, 2]), "loss")(logits, labels).backward()
    assert logits.grad.abs().sum() > 0


# Optimisers


def test_three_steps_of_sgd_with_momentum_and_weight_decay_by_formula():
    lr, momentum, decay = 0.1, 0.9, 0.01
    settings = component("SGD", lr=lr, momentum=momentum, weight_decay=decay)
    weights = parameter(1.0, -2.0)
    found = descend(build_optimizer(settings, [weights], "optimizer"), weights, 3)
    for index, start in enumerate((1.0, -2.0)):
        weight, velocity = start, 0.0
        for step in range(3):
            velocity = momentum * velocity + weight + decay * weight
            weight -= lr * velocity
            assert found[step][index].item() == pytest.approx(weight, rel=1e-6)
    # The first two by hand: v = 1.01, w = 1 − 0.101; v = 0.909 + 1.01 × 0.899 = 1.81699, w = 0.899 − 0.181699.
    assert [weight[0].item() for weight in found[:2]] == pytest.approx([0.899, 0.717301], rel=1e-6)


def test_three_steps_of_adam_by_formula():
    lr, (beta1, beta2), eps = 0.05, (0.8, 0.95), 1e-8
    weights = parameter(1.0, -2.0)
    optimizer = build_optimizer(component("Adam", lr=lr, betas=[beta1, beta2]), [weights], "optimizer")
    assert optimizer.param_groups[0]["betas"] == (beta1, beta2)
    found = descend(optimizer, weights, 3)
    for index, start in enumerate((1.0, -2.0)):
        weight, mean, square = start, 0.0, 0.0
        for step in range(1, 4):
            gradient = weight
            mean = beta1 * mean + (1 - beta1) * gradient
            square = beta2 * square + (1 - beta2) * gradient**2
            weight -= lr * (mean / (1 - beta1**step)) / (math.sqrt(square / (1 - beta2**step)) + eps)
            assert found[step - 1][index].item() == pytest.approx(weight, rel=1e-5)
    assert found[0].tolist() == pytest.approx([0.95, -1.95], rel=1e-6)  # the first step is lr, whatever the gradient


def test_a_step_of_adamw_by_formula():
    weights = parameter(1.0)
    optimizer = build_optimizer(component("AdamW", lr=0.05, weight_decay=0.2), [weights], "optimizer")
    assert descend(optimizer, weights, 1)[0].item() == pytest.approx(1 - 0.05 * 0.2 - 0.05, rel=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_reduces_the_loss(name):
    weights = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
    start = weights.detach().square().sum()
    optimizer = build_optimizer(component(name, lr=0.01), [weights], "optimizer")
    assert type(optimizer) is getattr(optim, name)
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert descend(optimizer, weights, 5)[-1].square().sum() < start


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_optimizers_are_fused_where_torch_can(name):
    def fused(**keys):
        return build_optimizer(component(name, lr=0.1, **keys), [parameter(1.0)], "optimizer").param_groups[0]["fused"]

    assert fused() is True
    assert fused(fused=False) is False
    assert not fused(foreach=True)
    assert not fused(foreach=False)


def test_other_optimizers_have_the_defaults_of_torch():
    group = build_optimizer(component("RMSprop", lr=0.1), [parameter(1.0)], "optimizer").param_groups[0]
    expected = optim.RMSprop([parameter(1.0)], lr=0.1).param_groups[0]
    assert {key: value for key, value in group.items() if key != "params"} == {
        key: value for key, value in expected.items() if key != "params"
    }


def test_parameters_may_be_an_iterator():
    layer = nn.Linear(2, 3)
    optimizer = build_optimizer(component("SGD", lr=1), layer.parameters(), "optimizer")
    assert [id(parameter) for parameter in optimizer.param_groups[0]["params"]] == [id(layer.weight), id(layer.bias)]


def test_weight_decay_applies_to_weights_biases_and_batch_norm():
    """With gradients of zero, a step of SGD scales every parameter by 1 − lr · weight_decay."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(component("SGD", lr=0.5, weight_decay=0.2), model.parameters(), "optimizer").step()
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    for parameter in model.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 0.9))


def test_weight_decay_is_that_of_the_component_or_of_torch():
    assert get_weight_decay(component("SGD", lr=0.1, weight_decay=0.003)) == 0.003
    assert get_weight_decay(component("SGD", lr=0.1)) == 0
    assert get_weight_decay(component("AdamW", lr=0.1)) == 0.01
    assert get_weight_decay(component("AdamW", lr=0.1, weight_decay=0)) == 0
    assert get_weight_decay(component("Rprop", lr=0.1)) == 0


# Schedules


def test_learning_rate_is_constant_without_a_schedule():
    assert rates(None, 3, 2) == [LR] * 6


def test_multi_step_rate_drops_exactly_after_its_milestones():
    found = rates({"name": "MultiStepLR", "milestones": [5], "gamma": 0.1}, steps_per_epoch=2, epochs=8, lr=0.3)
    assert found == [0.3] * 10 + [0.3 * 0.1] * 6


def test_interval_of_a_schedule_may_be_a_step():
    keys = {"name": "MultiStepLR", "milestones": [3], "gamma": 0.5, "interval": "step"}
    assert rates(keys, steps_per_epoch=2, epochs=3) == [LR] * 3 + [LR * 0.5] * 3


def test_cosine_ends_with_the_training():
    expected = [0.01 + (LR - 0.01) * (1 + math.cos(math.pi * epoch / 10)) / 2 for epoch in range(10)]
    assert rates({"name": "CosineAnnealingLR", "eta_min": 0.01}) == pytest.approx(expected, rel=1e-12)
    found = rates({"name": "CosineAnnealingLR", "interval": "step"}, steps_per_epoch=5, epochs=4)
    assert found == pytest.approx([LR * (1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)], rel=1e-12)


def test_cosine_may_end_before_the_training():
    found = rates({"name": "CosineAnnealingLR", "T_max": 4}, epochs=5)
    assert found == pytest.approx([LR * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(5)], abs=1e-12)


def test_polynomial_ends_with_the_training():
    found = rates({"name": "PolynomialLR", "power": 2}, steps_per_epoch=3, epochs=4)
    assert found == pytest.approx([LR * (1 - epoch / 4) ** 2 for epoch in range(4) for _ in range(3)], rel=1e-12)


def one_cycle(step, total, peak):
    """The default one-cycle policy: cosine from peak / 25 to the peak in 30% of the steps, and to peak / 250,000."""
    top, low, end = 0.3 * total - 1, peak / 25, peak / 25 / 1e4
    if step <= top:
        return peak + (low - peak) / 2 * (1 + math.cos(math.pi * step / top))
    return end + (peak - end) / 2 * (1 + math.cos(math.pi * (step - top) / (total - 1 - top)))


def test_one_cycle_advances_by_step_and_ends_with_the_training():
    found = rates({"name": "OneCycleLR", "max_lr": 0.4}, steps_per_epoch=10, epochs=4, lr=0.1)
    assert found == pytest.approx([one_cycle(step, 40, 0.4) for step in range(40)], rel=1e-9)
    assert found[11] == max(found) == 0.4
    assert found[-1] == pytest.approx(0.4 / 250_000)


def test_one_cycle_peaks_at_the_rate_of_the_optimizer_by_default():
    assert max(rates({"name": "OneCycleLR"}, steps_per_epoch=10, lr=0.2)) == 0.2


def test_one_cycle_by_epoch():
    found = rates({"name": "OneCycleLR", "interval": "epoch"}, steps_per_epoch=3, epochs=10)
    assert found == pytest.approx([one_cycle(epoch, 10, LR) for epoch in range(10) for _ in range(3)], rel=1e-9)


def test_one_cycle_sets_the_momentum_of_the_optimizer_as_torch_does():
    optimizer, schedule = training({"name": "OneCycleLR"}, 10, 2, optimizer="Adam")
    betas = [first for *_, (first, _) in run(optimizer, schedule, 10, 0, 20)]
    assert betas[0] == betas[-1] == 0.95
    assert betas[5] == min(betas) == 0.85


def test_learning_rate_is_constant_after_the_last_step():
    for keys in ({"name": "OneCycleLR", "pct_start": 1}, {"name": "CosineAnnealingLR", "interval": "step"}):
        optimizer, schedule = training(keys, 5, 2)
        last = run(optimizer, schedule, 5, 0, 10)[-1][0]
        assert optimizer.param_groups[0]["lr"] == last


def test_cyclic_rate_starts_at_that_of_the_optimizer():
    found = rates({"name": "CyclicLR", "max_lr": 0.5, "step_size_up": 2}, steps_per_epoch=9, epochs=1)
    assert found == pytest.approx([0.1, 0.3, 0.5, 0.3, 0.1, 0.3, 0.5, 0.3, 0.1])


def test_warm_up_by_step_is_followed_by_a_cosine_over_the_remaining_steps():
    found = rates(WARM_UP, steps_per_epoch=5, epochs=4)
    warm_up = [LR * (0.1 + 0.9 * step / 4) for step in range(4)]
    cosine = [LR * (1 + math.cos(math.pi * step / 16)) / 2 for step in range(16)]
    assert found == pytest.approx(warm_up + cosine, rel=1e-12)
    assert found[4] == LR


def test_lengths_of_a_warm_up_may_be_set():
    linear = {"name": "LinearLR", "start_factor": 0.5, "total_iters": 2}
    keys = WARM_UP | {"schedulers": [linear, {"name": "CosineAnnealingLR", "T_max": 3}]}
    expected = [0.5, 0.75, 1, 1, *((1 + math.cos(math.pi * step / 3)) / 2 for step in range(4))]
    assert rates(keys, steps_per_epoch=8, epochs=1) == pytest.approx([LR * factor for factor in expected], abs=1e-12)


def test_three_schedules_in_a_sequence():
    inner = [{"name": "ConstantLR", "factor": 0.25}, {"name": "PolynomialLR"}, {"name": "ExponentialLR", "gamma": 0.5}]
    found = rates({"name": "SequentialLR", "schedulers": inner, "milestones": [2, 5]}, epochs=8)
    assert found == pytest.approx([LR * factor for factor in (0.25, 0.25, 1, 2 / 3, 1 / 3, 1, 0.5, 0.25)], rel=1e-12)


def test_chained_schedules_multiply():
    inner = [{"name": "ConstantLR", "factor": 0.5, "total_iters": 2}, {"name": "ExponentialLR", "gamma": 0.9}]
    found = rates({"name": "ChainedScheduler", "schedulers": inner}, epochs=5)
    assert found == pytest.approx([LR * 0.9**epoch * (0.5 if epoch < 2 else 1) for epoch in range(5)], rel=1e-12)


@pytest.mark.parametrize("keys", SCHEDULES, ids=lambda keys: keys["name"])
def test_torch_gives_no_warning_about_the_order_of_steps(keys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(set(rates(keys, steps_per_epoch=4, epochs=5))) > 1


@pytest.mark.parametrize("keys", SCHEDULES, ids=lambda keys: keys["name"])
@pytest.mark.parametrize("optimizer_name", ["SGD", "Adam"])
def test_a_resumed_schedule_continues_exactly(keys, optimizer_name):
    steps_per_epoch, epochs = 4, 5
    last = steps_per_epoch * epochs
    optimizer, schedule = training(keys, steps_per_epoch, epochs, optimizer=optimizer_name)
    expected = run(optimizer, schedule, steps_per_epoch, 0, last)
    assert len(set(expected)) > 1
    final = optimizer.param_groups[0]["lr"]
    for stop in range(last):
        optimizer, schedule = training(keys, steps_per_epoch, epochs, optimizer=optimizer_name)
        run(optimizer, schedule, steps_per_epoch, 0, stop)
        buffer = io.BytesIO()
        torch.save((optimizer.state_dict(), schedule.state_dict()), buffer)
        buffer.seek(0)
        optimizer_state, schedule_state = torch.load(buffer, weights_only=True)
        optimizer, schedule = training(keys, steps_per_epoch, epochs, optimizer=optimizer_name)
        optimizer.load_state_dict(optimizer_state)
        schedule.load_state_dict(schedule_state)
        assert run(optimizer, schedule, steps_per_epoch, stop, last) == expected[stop:]
        assert optimizer.param_groups[0]["lr"] == final


# Messages


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("optimizer", {"name": "sgd"}, ".name: unknown optimizer 'sgd'; did you mean 'SGD'? Known: ASGD, "),
        ("optimizer", {"name": "adamw"}, ".name: unknown optimizer 'adamw'; did you mean 'AdamW'?"),
        ("optimizer", {"name": "Lion"}, "To add one, create a file in src/labbook/optimizers/."),
        ("optimizer", {"name": "Optimizer"}, ".name: unknown optimizer 'Optimizer'"),
        ("optimizer", {"name": "LBFGS", "lr": 1}, ".name: LBFGS cannot be used here: its step takes a closure"),
        (
            "optimizer",
            {"name": "SparseAdam", "lr": 1},
            ".name: SparseAdam cannot be used here: it takes sparse gradients only.",
        ),
        ("optimizer", {"name": "SGD", "momentum": 0.9}, ".lr: missing. Set the learning rate of SGD."),
        ("optimizer", {"name": "SGD", "lr": 0}, ".lr: invalid value 0.0: a learning rate must be greater than 0."),
        ("optimizer", {"name": "SGD", "lr": -0.1}, ".lr: invalid value -0.1: a learning rate must be greater than 0."),
        ("optimizer", {"name": "SGD", "lr": "0.1"}, ".lr: invalid value '0.1': input should be a valid number."),
        ("optimizer", {"name": "SGD", "lr": True}, ".lr: invalid value True: input should be a valid number."),
        ("optimizer", {"name": "SGD", "lr": math.nan}, ".lr: invalid value nan: input should be a finite number."),
        (
            "optimizer",
            {"name": "SGD", "lr": 0.1, "momentun": 0.9},
            ".momentun: unknown argument; did you mean 'momentum'? Arguments of SGD: lr, momentum, dampening, weight_decay, ",
        ),
        ("optimizer", {"name": "SGD", "lr": 0.1, "params": []}, ".params: unknown argument. Arguments of SGD: lr, "),
        (
            "optimizer",
            {"name": "Adam", "lr": 0.1, "capturable": True},
            ".capturable: cannot be set here. Arguments of Adam: lr, ",
        ),
        ("optimizer", {"name": "SGD", "lr": 0.1, "nesterov": True}, ": SGD: Nesterov momentum requires a momentum"),
        ("optimizer", {"name": "SGD", "lr": 0.1, "momentum": -1}, ": SGD: Invalid momentum value: -1.0."),
        ("optimizer", {"name": "Adam", "lr": 0.1, "betas": [1]}, ".betas: invalid value [1]: expected a list of 2 numbers."),
        ("optimizer", {"name": "Adam", "lr": 0.1, "betas": 0.9}, ".betas: invalid value 0.9: expected a list of 2 numbers."),
        ("optimizer", {"name": "Adam", "lr": 0.1, "betas": [0.9, 1.5]}, ": Adam: Invalid beta parameter at index 1: 1.5."),
        ("loss", {"name": "cross_entropy"}, ".name: unknown loss 'cross_entropy'; did you mean 'CrossEntropyLoss'?"),
        ("loss", {"name": "Linear"}, "Known: CrossEntropyLoss, MultiMarginLoss, NLLLoss."),
        ("loss", {"name": "MSELoss"}, ".name: MSELoss cannot be used here: it does not compare logits with class labels."),
        (
            "loss",
            {"name": "CrossEntropyLoss", "label_smothing": 0.1},
            ".label_smothing: unknown argument; did you mean 'label_smoothing'? Arguments of CrossEntropyLoss: weight, ",
        ),
        ("loss", {"name": "CrossEntropyLoss", "reduction": "sum"}, ".reduction: cannot be set here."),
        ("loss", {"name": "CrossEntropyLoss", "label_smoothing": 2}, ": CrossEntropyLoss: label_smoothing must be between"),
        ("loss", {"name": "CrossEntropyLoss", "label_smoothing": "x"}, ".label_smoothing: invalid value 'x': input should be"),
        ("loss", {"name": "CrossEntropyLoss", "weight": [1, None]}, ".weight: invalid value [1, None]: input should be"),
        ("loss", {"name": "MultiMarginLoss", "p": 3}, ": MultiMarginLoss: only p == 1 and p == 2 supported."),
        (
            "schedule",
            {"name": "cosine_annealing"},
            "; did you mean 'CosineAnnealingLR'? Known: ChainedScheduler, ConstantLR, ",
        ),
        ("schedule", {"name": "LRScheduler"}, ".name: unknown schedule 'LRScheduler'"),
        ("schedule", {"name": "LambdaLR"}, ".name: LambdaLR cannot be used here: it takes a Python function. Write"),
        ("schedule", {"name": "ReduceLROnPlateau"}, ".name: ReduceLROnPlateau cannot be used here: it needs a validation"),
        ("schedule", {"name": "ExponentialLR"}, ".gamma: missing. ExponentialLR requires it."),
        (
            "schedule",
            {"name": "ExponentialLR", "gamma": 0.9, "interval": "batch"},
            ".interval: invalid value 'batch'. Use step or",
        ),
        ("schedule", {"name": "StepLR", "step_size": 0}, ".step_size: invalid value 0: it must be greater than 0."),
        ("schedule", {"name": "CosineAnnealingLR", "T_max": 0}, ".T_max: invalid value 0: it must be greater than 0."),
        (
            "schedule",
            {"name": "CosineAnnealingLR", "T_max": 2.5},
            ".T_max: invalid value 2.5: input should be a valid integer.",
        ),
        ("schedule", {"name": "MultiStepLR", "milestones": 5}, ".milestones: invalid value 5: input should be a valid list."),
        ("schedule", {"name": "MultiStepLR", "milestones": ["5"]}, ".milestones: invalid value ['5']: input should be a valid"),
        ("schedule", {"name": "OneCycleLR", "epochs": 5}, ".epochs: cannot be set here. Arguments of OneCycleLR: max_lr, "),
        (
            "schedule",
            {"name": "OneCycleLR", "anneal_strategy": "line"},
            ".anneal_strategy: invalid value 'line': input should be 'cos' or 'linear'.",
        ),
        ("schedule", {"name": "SequentialLR"}, ".schedulers: SequentialLR needs a list of schedules"),
        ("schedule", WARM_UP | {"milestones": []}, ".milestones: 2 schedulers need 1 milestones, but there are 0."),
        ("schedule", WARM_UP | {"milestones": [0]}, ".milestones: invalid value [0]: milestones must be at least 1 and"),
        ("schedule", WARM_UP | {"milestone": [4]}, ".milestone: unknown argument; did you mean 'milestones'?"),
        (
            "schedule",
            {"name": "ChainedScheduler", "schedulers": [{"name": "LinearLr"}]},
            ".schedulers.0.name: unknown schedule",
        ),
        ("schedule", {"name": "ChainedScheduler", "schedulers": [{}]}, ".schedulers.0.name: missing"),
        ("schedule", {"name": "ChainedScheduler", "schedulers": ["StepLR"]}, ".schedulers.0: "),
        (
            "schedule",
            {"name": "ChainedScheduler", "schedulers": [WARM_UP]},
            ".schedulers.0.name: SequentialLR cannot be a part of",
        ),
        (
            "schedule",
            {"name": "ChainedScheduler", "schedulers": [{"name": "OneCycleLR"}]},
            ".schedulers.0.name: OneCycleLR cannot be a part of ChainedScheduler.",
        ),
        (
            "schedule",
            {"name": "ChainedScheduler", "schedulers": [{"name": "StepLR", "step_size": 1, "interval": "step"}]},
            ".schedulers.0.interval: the parts of ChainedScheduler share one interval. Set experiments.x.train.schedule.int",
        ),
    ],
)
def test_an_invalid_component_is_refused_with_its_key(kind, keys, message):
    with pytest.raises(ParamsError) as caught:
        check_component(kind, component(**keys), f"experiments.x.train.{kind}")
    assert str(caught.value).startswith(f"experiments.x.train.{kind}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "CosineAnnealingLR", "T_max": 20}, "schedule.T_max: 20 epochs, but the training has 4: "),
        ({"name": "CosineAnnealingLR", "T_max": 50, "interval": "step"}, "schedule.T_max: 50 steps, but the training has 40: "),
        ({"name": "OneCycleLR", "total_steps": 41}, "schedule.total_steps: 41 steps, but the training has 40: "),
        (
            {"name": "OneCycleLR", "total_steps": 39},
            "schedule.total_steps: 39 steps, but the training has 40: OneCycleLR cannot continue after its end. Remove",
        ),
        ({"name": "PolynomialLR", "total_iters": 5}, "schedule.total_iters: 5 epochs, but the training has 4: "),
        ({"name": "LinearLR"}, "schedule.total_iters: 5 epochs by default, but the training has 4: "),
        ({"name": "ConstantLR", "total_iters": 6}, "schedule.total_iters: 6 epochs, but the training has 4: "),
        ({"name": "CyclicLR", "max_lr": 1}, "schedule.step_size_up: 2000 steps by default, but the training has 40: "),
        ({"name": "CosineAnnealingWarmRestarts", "T_0": 5}, "schedule.T_0: 5 epochs, but the training has 4: "),
        (WARM_UP | {"milestones": [40]}, "schedule.milestones: 40 steps, but the training has 40: none are left for the last"),
        (
            WARM_UP | {"schedulers": [{"name": "LinearLR"}, {"name": "CosineAnnealingLR", "T_max": 37}]},
            "schedule.schedulers.1.T_max: 37 steps, but its part of SequentialLR has 36: ",
        ),
    ],
)
def test_a_schedule_that_does_not_match_the_length_of_the_training_is_refused(keys, message):
    with pytest.raises(ParamsError) as caught:
        training(keys, 10, 4)
    assert str(caught.value).startswith(message)
    check_component("schedule", component(**keys), "schedule")  # valid for a training of another length


def test_a_warm_up_longer_than_its_milestone_is_refused_even_without_a_training():
    keys = WARM_UP | {"schedulers": [{"name": "LinearLR", "total_iters": 5}, {"name": "CosineAnnealingLR"}]}
    message = r"^schedule\.schedulers\.0\.total_iters: 5 steps, but its part of SequentialLR has 4: "
    with pytest.raises(ParamsError, match=message):
        training(keys, 10, 4)
    with pytest.raises(ParamsError, match=message):
        check_component("schedule", component(**keys), "schedule")


@pytest.mark.parametrize("keys", SCHEDULES, ids=lambda keys: keys["name"])
def test_valid_schedules_pass_the_check(keys):
    check_component("schedule", component(**keys), "schedule")


def test_valid_losses_and_optimizers_pass_the_check():
    for name in ("CrossEntropyLoss", "MultiMarginLoss", "NLLLoss"):
        check_component("loss", component(name), "loss")
    for name in OPTIMIZERS:
        check_component("optimizer", component(name, lr=0.1), "optimizer")


def test_class_weights_for_a_different_number_of_classes_are_refused():
    weighted = component("CrossEntropyLoss", weight=[1, 2])
    assert build_loss(weighted, "loss", classes=2)
    with pytest.raises(ParamsError, match=r"^loss: CrossEntropyLoss: weight tensor should be defined .* all 3 classes"):
        build_loss(weighted, "loss", classes=3)


def test_errors_of_torch_about_the_model_include_the_key():
    with pytest.raises(ParamsError, match=r"^optimizer: Muon: Muon only supports 2D parameters"):
        build_optimizer(component("Muon", lr=0.1), nn.Linear(2, 2).parameters(), "optimizer")


# Custom classes

CUSTOM = {
    "losses/brier.py": """
        import torch
        from torch import nn

        class Loss(nn.Module):
            def __init__(self, scale: float = 1.0):
                super().__init__()
                self.scale = scale

            def forward(self, logits, labels):
                target = nn.functional.one_hot(labels, logits.shape[1])
                return self.scale * (logits.softmax(1) - target).square().sum(1).mean()
        """,
    "optimizers/sign.py": """
        import torch

        class Optimizer(torch.optim.Optimizer):
            def __init__(self, params, lr: float, weight_decay=0.25):
                super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for weights in group["params"]:
                        weights -= group["lr"] * weights.grad.sign()
        """,
    "schedules/harmonic.py": """
        from torch.optim.lr_scheduler import LRScheduler

        class Scheduler(LRScheduler):
            def __init__(self, optimizer, half_life: int):
                self.half_life = half_life
                super().__init__(optimizer)

            def get_lr(self):
                return [lr / (1 + self.last_epoch / self.half_life) for lr in self.base_lrs]
        """,
}


@pytest.fixture
def custom_file(tmp_path, monkeypatch):
    """Return a function that writes the file of a custom class into a package folder for this test."""
    monkeypatch.setattr(components, "PACKAGE", tmp_path)
    monkeypatch.setattr(labbook, "__path__", [*labbook.__path__, str(tmp_path)])
    before = set(sys.modules)

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")

    yield write
    for name in set(sys.modules) - before:
        if name.startswith(("labbook.losses", "labbook.optimizers", "labbook.schedules")):
            del sys.modules[name]
    for folder in ("losses", "optimizers", "schedules"):
        vars(labbook).pop(folder, None)


def test_custom_classes_are_found_by_the_names_of_their_files(custom_file):
    assert names("optimizer") == []
    for path, text in CUSTOM.items():
        custom_file(path, text)
    assert [names(family) for family in ("loss", "optimizer", "schedule")] == [["brier"], ["sign"], ["harmonic"]]
    assert module_name("optimizer", "sign") == "labbook.optimizers.sign"


def test_custom_classes_are_used_like_those_of_torch(custom_file):
    for path, text in CUSTOM.items():
        custom_file(path, text)
    logits, labels = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])
    assert build_loss(component("brier", scale=3), "loss")(logits, labels).item() == pytest.approx(3 * 0.5)

    weights = parameter(1.0, -3.0)
    optimizer = build_optimizer(component("sign", lr=0.5), [weights], "optimizer")
    assert descend(optimizer, weights, 2)[-1].tolist() == [0, -2]
    assert get_weight_decay(component("sign", lr=0.5)) == 0.25

    assert rates({"name": "harmonic", "half_life": 2}, epochs=3) == [LR, LR / 1.5, LR / 2]
    assert rates({"name": "harmonic", "half_life": 1, "interval": "step"}, 2, 1) == [LR, LR / 2]
    sequence = {"name": "SequentialLR", "schedulers": [{"name": "LinearLR"}, {"name": "harmonic", "half_life": 1}]}
    assert rates(sequence | {"milestones": [2]}, epochs=4)[2:] == [LR, LR / 2]


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("optimizer", {"name": "sign"}, "optimizer.lr: missing. sign requires it."),
        ("optimizer", {"name": "sign", "lr": 0}, "optimizer.lr: invalid value 0.0: a learning rate must be greater than 0."),
        ("optimizer", {"name": "sign", "lr": 1, "lrs": 1}, "optimizer.lrs: unknown argument; did you mean 'lr'?"),
        ("optimizer", {"name": "sing", "lr": 1}, "optimizer.name: unknown optimizer 'sing'; did you mean 'sign'?"),
        (
            "schedule",
            {"name": "harmonic", "half_life": 0.5},
            "schedule.half_life: invalid value 0.5: input should be a valid integer",
        ),
    ],
)
def test_arguments_of_custom_classes_are_checked(custom_file, kind, keys, message):
    for path, text in CUSTOM.items():
        custom_file(path, text)
    with pytest.raises(ParamsError) as caught:
        check_component(kind, component(**keys), kind)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "optimizer.name: src/labbook/optimizers/mine.py defines no class Optimizer."),
        ("from torch.optim import Optimizer", "optimizer.name: src/labbook/optimizers/mine.py defines no class Optimizer."),
        ("class Optimizer: pass", "must derive from torch.optim.optimizer.Optimizer."),
        (
            "import nothing_of_this_name",
            "mine.py cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'.",
        ),
        ("class Optimizer(", "mine.py cannot be imported: SyntaxError: "),
        (
            "import torch\nclass Optimizer(torch.optim.LBFGS): pass",
            "optimizer.name: mine cannot be used here: its step takes a closure",
        ),
    ],
)
def test_incomplete_custom_files_are_named(custom_file, text, message):
    custom_file("optimizers/mine.py", text)
    with pytest.raises(ParamsError) as caught:
        check_component("optimizer", component("mine", lr=0.1), "optimizer")
    assert message in str(caught.value)


def test_arguments_of_custom_classes_may_have_any_name(custom_file):
    custom_file("schedules/late.py", CUSTOM["schedules/harmonic.py"].replace("half_life", "epochs"))
    assert rates({"name": "late", "epochs": 1}, epochs=2) == [LR, LR / 2]


def test_custom_loss_with_parameters_is_refused(custom_file):
    custom_file(
        "losses/mine.py", "from torch import nn\nclass Loss(nn.Linear):\n    def __init__(self): super().__init__(2, 2)"
    )
    with pytest.raises(ParamsError, match=r"^loss: mine has parameters, which the optimiser would not train"):
        check_component("loss", component("mine"), "loss")


def test_settings_do_not_import_torch():
    code = "import sys; import labbook.config.chosen, labbook.config.show; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
