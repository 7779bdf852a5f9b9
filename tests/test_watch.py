"""Gradient norms and dead units, which can be recorded during training."""

import dataclasses
import math
from functools import partial

import pytest
import torch
from toolbox import CPU, UNIT, splits, toy_config, toy_model
from torch import nn
from torch.nn import functional

from labbook.training.engine import fit
from labbook.training.inference import to_device
from labbook.training.watch import dead_units, gradient_norms, measure_watched


def count_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_gradient_norms_are_those_of_weights_and_biases_together(tiny_packed):
    model = toy_model(tiny_packed, hidden=[7, 5])
    images, labels = torch.rand(20, 1, 6, 6), torch.arange(20) % 3
    loss = functional.cross_entropy(model(images), labels)
    loss.backward()
    norms = gradient_norms(model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert list(norms) == list(layers) == ["1", "3", "5"]
    loss = functional.cross_entropy(model(images), labels)
    for name, layer in layers.items():
        weight, bias = torch.autograd.grad(loss, (layer.weight, layer.bias), retain_graph=True)
        assert norms[name] == pytest.approx(math.sqrt(float((weight**2).sum() + (bias**2).sum())), rel=1e-5)


def test_frozen_layers_have_no_gradient_norm(tiny_packed):
    model = toy_model(tiny_packed)
    model[1].requires_grad_(False)
    functional.cross_entropy(model(torch.rand(3, 1, 6, 6)), torch.arange(3)).backward()
    assert list(gradient_norms(model)) == ["3"]


def partly_dead_model() -> nn.Sequential:
    """Build two layers: one unit alive for some inputs, two for all, one for none; then one alive for all, four for none."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        for layer in model[1::2]:
            layer.weight.zero_()
            layer.bias.fill_(-1.0)
        model[1].weight[0] = 1.0
        model[1].bias[0] = -12.5  # between the smallest and the largest sum of 36 pixels
        model[1].bias[1:3] = 0.5
        model[3].bias[0] = 1e-6
    return model


def test_unit_is_dead_when_it_is_zero_for_every_input(tiny_packed):
    train, _, _ = splits(tiny_packed)
    model = partly_dead_model()
    sums = train.pixels.sum(dim=(1, 2, 3))
    assert sums.min() < 12.5 < sums.max()
    assert dead_units(model, train) == pytest.approx({"2": 0.25, "4": 0.8})


def test_unit_that_is_active_in_one_batch_is_alive(tiny_packed, monkeypatch):
    """Every image is a batch here."""
    monkeypatch.setattr("labbook.training.inference.BATCH", 1)
    train, _, _ = splits(tiny_packed)
    assert len(list(train.batches())) > 1
    assert dead_units(partly_dead_model(), train) == pytest.approx({"2": 0.25, "4": 0.8})


def test_channel_of_a_convolution_counts_as_a_unit(tiny_packed):
    train, _, _ = splits(tiny_packed)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([1.0, -1.0, 0.0, -2.0]))
    assert dead_units(model, train) == {"1": 0.75}


@pytest.mark.parametrize("training", [True, False])
def test_model_is_unchanged(tiny_packed, training):
    train, _, _ = splits(tiny_packed)
    model = toy_model(tiny_packed, dropout=0.5).train(training)
    assert dead_units(model, train) == dead_units(model, train), "dropout is off during evaluation"
    assert (model.training, count_hooks(model)) == (training, 0)


def test_batch_norm_uses_its_running_statistics_and_keeps_them(tiny_packed):
    """Every pixel is below the running mean, but some are above the mean of their batch."""
    train, _, _ = splits(tiny_packed)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.ReLU()).train()
    model[1].running_mean.fill_(2.0)
    assert dead_units(model, train) == {"2": 1.0}
    assert model[1].running_mean.eq(2.0).all()


def test_dead_units_are_counted_on_the_training_split(tiny_packed):
    """One unit of the first layer is alive only for bright images, and the images of the other splits are black."""
    train, validation, test = splits(tiny_packed)
    validation, test = (dataclasses.replace(split, pixels=torch.zeros_like(split.pixels)) for split in (validation, test))
    config = dataclasses.replace(toy_config(epochs=1, watch=("dead_units",)), optimizer=partial(torch.optim.SGD, lr=0.0))
    assert fit(partly_dead_model(), train, validation, test, config).watched == [{"dead_units": {"2": 0.25, "4": 0.8}}]


def test_model_is_unchanged_after_an_error(tiny_packed):
    wrong = to_device(tiny_packed.train, lambda images: UNIT(images)[:, :, :5], CPU)
    model = toy_model(tiny_packed)
    with pytest.raises(RuntimeError):
        dead_units(model, wrong)
    assert (model.training, count_hooks(model)) == (True, 0)


def test_only_requested_quantities_are_measured_to_six_significant_digits(tiny_packed):
    train, _, _ = splits(tiny_packed)
    model = toy_model(tiny_packed)
    functional.cross_entropy(model(torch.rand(3, 1, 6, 6)), torch.arange(3)).backward()
    assert measure_watched([], model, train) == {}
    assert list(measure_watched(["dead_units"], model, train)) == ["dead_units"]
    norms = measure_watched(["gradient_norms", "dead_units"], model, train)["gradient_norms"]
    assert norms == {name: float(f"{norm:.6g}") for name, norm in gradient_norms(model).items()}


def test_watched_quantities_have_one_entry_per_row_and_change_no_weight(tiny_packed):
    train, _, _ = splits(tiny_packed)
    configs = (toy_config(validate_every=2, watch=watched) for watched in (("gradient_norms", "dead_units"), ()))
    watched, unwatched = (fit(toy_model(tiny_packed), train, None, None, config) for config in configs)
    assert len(watched.watched) == len(watched.rows) > 3
    assert all(set(row) == {"gradient_norms", "dead_units"} for row in watched.watched)
    assert watched.rows == unwatched.rows
    assert all(torch.equal(tensor, unwatched.weights[name]) for name, tensor in watched.weights.items())
