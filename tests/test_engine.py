"""The training loop: convergence, the order of samples, rows of the history, and selection of weights."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toolbox import CPU, UNIT, add_noise, bits, splits, toy_config, toy_model
from torch import Tensor
from torch.nn import functional

from labbook.config.early_stopping import EarlyStopping
from labbook.data.packed import Split
from labbook.errors import TrainingError
from labbook.training import engine, inference
from labbook.training.early_stopping import should_stop
from labbook.training.engine import fit
from labbook.training.inference import DeviceDataset, evaluate, to_device
from labbook.training.streams import derived_seed

STEPS = 5  # an epoch of the toy data: 72 samples in batches of 16


@dataclass(frozen=True)
class RecordingDataset(DeviceDataset):
    """A split that records the rows of each batch."""

    drawn: list[Tensor] = field(default_factory=list)

    def iter_batches(self, order: Tensor, size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, batch in zip(torch.split(order, size)[start:], super().iter_batches(order, size, start), strict=True):
            self.drawn.append(rows)
            yield batch


def record_batches(inputs: DeviceDataset) -> RecordingDataset:
    return RecordingDataset(inputs.pixels, inputs.labels, inputs.convert)


def patience(count: int):
    return functools.partial(should_stop, EarlyStopping(patience=count))


def with_wrong_labels(validation: DeviceDataset) -> DeviceDataset:
    """Shift the labels, so that validation gets worse during training and the best row is an early one."""
    return dataclasses.replace(validation, labels=validation.labels.roll(1))


def linear(features: int = 4) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(features, 2))


# Convergence


@pytest.mark.parametrize(("kind", "optimizer"), [("mlp", "sgd"), ("mlp", "momentum"), ("mlp", "adam"), ("cnn", "adam")])
def test_training_fits_separable_classes(tiny_packed, kind, optimizer):
    train, validation, test = splits(tiny_packed)
    model = toy_model(tiny_packed, kind)
    config = toy_config(optimizer, epochs=15, batch_size=8)
    rows = fit(model, train, validation, test, config).rows
    assert rows[-1].train_loss < 0.5 * rows[0].train_loss
    assert min(rows[-1].train_accuracy, rows[-1].val_accuracy, rows[-1].test_accuracy) > 0.9
    assert evaluate(model, config.loss, test) == (rows[-1].test_loss, rows[-1].test_accuracy)


REFERENCE_OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, fused=True),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, fused=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, weight_decay=0.001, fused=True),
}


@pytest.mark.parametrize(
    ("kind", "optimizer", "keys"),
    [
        ("mlp", "sgd", {}),
        ("mlp", "momentum", {"dropout": 0.3}),
        ("cnn", "adam", {"batch_norm": True, "dropout": 0.2}),
    ],
)
def test_training_is_bit_identical_to_a_plain_loop(tiny_packed, kind, optimizer, keys):
    train = record_batches(to_device(tiny_packed.train, UNIT, CPU))
    model = toy_model(tiny_packed, kind, **keys)
    schedule = {"name": "MultiStepLR", "milestones": [2], "gamma": 0.1}
    trained = fit(model, train, None, None, toy_config(optimizer, epochs=3, schedule=schedule))

    images, labels = torch.from_numpy(tiny_packed.train.images), torch.from_numpy(tiny_packed.train.labels)
    reference = toy_model(tiny_packed, kind, **keys)
    optimiser = REFERENCE_OPTIMIZERS[optimizer](reference.parameters())
    steps = len(train.drawn) // 3
    for epoch in range(3):
        if epoch == 2:
            for group in optimiser.param_groups:
                group["lr"] *= 0.1
        losses, correct = [], 0
        for rows in train.drawn[epoch * steps : (epoch + 1) * steps]:
            batch = (images[rows].float() / 255).to(memory_format=torch.channels_last)
            optimiser.zero_grad()
            logits = reference(batch)
            loss = functional.cross_entropy(logits, labels[rows])
            loss.backward()
            optimiser.step()
            losses += [loss.item()] * len(rows)
            correct += int((logits.argmax(1) == labels[rows]).sum())
        assert trained.rows[epoch].train_loss == pytest.approx(sum(losses) / len(losses), rel=1e-12)
        assert trained.rows[epoch].train_accuracy == correct / len(losses)
    assert bits(trained.weights) == bits(reference.state_dict())


def test_training_fits_pixel_labels(tiny_packed):
    images = tiny_packed.train.images
    split = Split(images, (images[:, 0] > 120).astype(np.uint8))
    inputs = to_device(split, UNIT, CPU)
    model = torch.nn.Conv2d(1, 2, 1)
    rows = fit(model, inputs, None, inputs, toy_config("adam", epochs=20, lr=0.2)).rows
    assert rows[-1].test_accuracy > 0.95 > rows[0].train_accuracy
    assert evaluate(model, functional.cross_entropy, inputs) == (rows[-1].test_loss, rows[-1].test_accuracy)


def test_bf16_trains_close_to_float32_and_keeps_float32_weights(tiny_packed):
    train, validation, test = splits(tiny_packed)
    runs = {}
    for precision in ("float32", "bf16"):
        model = toy_model(tiny_packed, "cnn", batch_norm=True)
        runs[precision] = fit(model, train, validation, test, toy_config("adam", epochs=8, precision=precision))
    full, half = runs["float32"], runs["bf16"]
    assert {tensor.dtype for tensor in half.weights.values()} <= {torch.float32, torch.int64}
    assert bits(half.weights) != bits(full.weights)
    assert half.rows[-1].test_accuracy > 0.9
    assert half.rows[-1].train_loss == pytest.approx(full.rows[-1].train_loss, abs=0.05)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_non_finite_loss_ends_training_with_advice(tiny_packed, split):
    """Losses after one huge step are not finite; a row has the training loss of the steps before it."""
    train, validation, test = splits(tiny_packed)
    config = toy_config(lr=1e30, batch_size=16 if split == "train" else 72)
    message = rf"^the {split} loss is (nan|inf) at epoch 1, step \d\. Lower the learning rate \(optimizer\.lr\)\.$"
    with pytest.raises(TrainingError, match=message):
        fit(toy_model(tiny_packed), train, validation if split == "val" else None, test if split == "test" else None, config)


# Order of the samples


@given(samples=st.integers(1, 40), batch_size=st.integers(1, 45), drop_last=st.booleans(), seed=st.integers(0, 99))
def test_an_epoch_visits_every_sample_once_in_a_new_order(samples, batch_size, drop_last, seed):
    split = Split(np.zeros((samples, 1, 2, 2), np.uint8), np.zeros(samples, np.int64))
    train = record_batches(to_device(split, UNIT, CPU))
    config = toy_config(epochs=2, batch_size=batch_size, drop_last=drop_last, seed=seed, lr=1e-3)
    if drop_last and batch_size > samples:
        with pytest.raises(TrainingError, match=f"with drop_last, {samples} samples do not fill a batch of {batch_size}"):
            fit(linear(), train, None, None, config)
        return
    rows = fit(linear(), train, None, None, config).rows
    steps = samples // batch_size if drop_last else math.ceil(samples / batch_size)
    assert [row.step for row in rows] == [steps, 2 * steps]
    assert [row.epoch for row in rows] == [1, 2]
    sizes = [batch_size] * (samples // batch_size) + ([] if drop_last else [samples % batch_size] * (samples % batch_size > 0))
    assert [len(drawn) for drawn in train.drawn] == sizes * 2
    first, second = torch.cat(train.drawn[:steps]).tolist(), torch.cat(train.drawn[steps:]).tolist()
    for order in (first, second):
        assert len(set(order)) == len(order) == sum(sizes)
        assert set(order) <= set(range(samples))
    if samples >= 12:
        assert first != second


def orders(packed, seed, epochs=2, **keys):
    """Return the order of each epoch."""
    torch.manual_seed(keys.pop("global_seed", 0))
    train = record_batches(splits(packed)[0])
    fit(toy_model(packed, **keys), train, None, None, toy_config(epochs=epochs, seed=seed))
    return [torch.cat(train.drawn[epoch * STEPS : (epoch + 1) * STEPS]).tolist() for epoch in range(epochs)]


def test_order_depends_only_on_seed_and_epoch(tiny_packed):
    same = orders(tiny_packed, 3)
    assert orders(tiny_packed, 3, global_seed=9, kind="cnn", dropout=0.5) == same
    assert orders(tiny_packed, 4) != same


def test_orders_of_neighbouring_seeds_and_epochs_are_all_different(tiny_packed):
    """They would not be if the order were drawn from seed + epoch."""
    drawn = [tuple(order) for seed in range(4) for order in orders(tiny_packed, seed, epochs=4)]
    assert len(set(drawn)) == 16


def test_order_by_class_finishes_each_class_before_the_next(tiny_packed):
    train, _, _ = splits(tiny_packed)
    config = toy_config(order="by_class", epochs=2)
    recording = record_batches(train)
    fit(toy_model(tiny_packed), recording, None, None, config)
    for epoch in (recording.drawn[:STEPS], recording.drawn[STEPS:]):
        rows = torch.cat(epoch)
        assert sorted(rows.tolist()) == list(range(len(train)))
        labels = train.labels[rows]
        assert torch.equal(labels, labels.sort().values)
        assert all((rows[labels == label].diff() > 0).all() for label in labels.unique()), (
            "samples of a class keep their stored order"
        )


# The learning rate


def test_every_row_has_the_learning_rate_of_an_epoch_schedule(tiny_packed):
    train, _, _ = splits(tiny_packed)
    config = toy_config(lr=0.08, epochs=7, schedule={"name": "MultiStepLR", "milestones": [2, 5], "gamma": 0.5})
    rows = fit(toy_model(tiny_packed), train, None, None, config).rows
    assert [row.lr for row in rows] == [0.08, 0.08, 0.04, 0.04, 0.04, 0.02, 0.02]


def test_row_has_the_learning_rate_of_its_last_step_with_a_step_schedule(tiny_packed):
    """A warm-up from a quarter of the rate over four steps: 0.02, 0.035, 0.05, 0.065, then 0.08."""
    train, _, _ = splits(tiny_packed)
    warm_up = {"name": "LinearLR", "start_factor": 0.25, "total_iters": 4, "interval": "step"}
    for every, expected in ((1, [0.02, 0.035, 0.05, 0.065, 0.08]), (2, [0.035, 0.065, 0.08]), (5, [0.08])):
        config = toy_config(lr=0.08, epochs=1, validate_every=every, schedule=warm_up)
        rows = fit(toy_model(tiny_packed), train, None, None, config).rows
        assert [row.lr for row in rows] == pytest.approx(expected)


def test_steps_use_the_learning_rate_of_their_row(tiny_packed):
    """Plain SGD on the whole split: the change of the weights is the rate times the gradient."""
    train, _, _ = splits(tiny_packed)
    model = toy_model(tiny_packed)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    updates = []

    def measure(step, row):
        for parameter, old in zip(model.parameters(), before, strict=True):
            updates.append((row.lr, (old - parameter.detach()).norm() / parameter.grad.norm()))
            old.copy_(parameter.detach())

    ramp = {"name": "LinearLR", "start_factor": 0.1, "total_iters": 3, "interval": "step"}
    config = toy_config(lr=0.1, epochs=4, batch_size=72, schedule=ramp)
    fit(model, train, None, None, config, progress=measure)
    assert [rate for rate, _ in updates[:: len(before)]] == pytest.approx([0.01, 0.04, 0.07, 0.1])
    assert all(float(ratio) == pytest.approx(rate, rel=1e-3) for rate, ratio in updates)


# Rows of the history


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 100])
def test_rows_are_recorded_at_every_interval_and_after_the_last_step(tiny_packed, every):
    train, validation, _ = splits(tiny_packed)
    rows = fit(toy_model(tiny_packed), train, validation, None, toy_config(validate_every=every, epochs=3)).rows
    assert [row.step for row in rows] == sorted({*range(every, 3 * STEPS + 1, every), 3 * STEPS})
    assert [row.epoch for row in rows] == [math.ceil(row.step / STEPS) for row in rows]


@pytest.mark.parametrize("select", ["best_val_loss", "best_val_accuracy"])
@pytest.mark.parametrize(
    ("every", "expected"), [(1, list(range(1, 16))), (2, [2, 4, 6, 8, 10, 12, 14]), (4, [4, 8, 12]), (7, [7, 14]), (15, [15])]
)
def test_incomplete_last_interval_has_no_row_if_validation_selects_weights(tiny_packed, select, every, expected):
    train, validation, _ = splits(tiny_packed)
    trained = fit(toy_model(tiny_packed), train, validation, None, toy_config(validate_every=every, select=select))
    assert [row.step for row in trained.rows] == expected
    assert trained.steps == 3 * STEPS, "the last steps are trained without a row"


@pytest.mark.parametrize("select", ["last", "best_val_loss"])
def test_training_shorter_than_an_interval_has_one_row(tiny_packed, select):
    train, validation, _ = splits(tiny_packed)
    trained = fit(toy_model(tiny_packed), train, validation, None, toy_config(validate_every=100, select=select))
    assert [row.step for row in trained.rows] == [15]
    assert trained.selected_row == 0


def test_incomplete_last_interval_is_neither_selected_nor_stops_training(tiny_packed):
    """Every row is better than those before it, and the model after the last step is better than at the last row."""
    train, _, _ = splits(tiny_packed)
    val_losses = []
    config = toy_config(
        validate_every=4, select="best_val_loss", should_stop=lambda losses: val_losses.append(list(losses)) or False
    )
    model = toy_model(tiny_packed)
    trained = fit(model, train, train, None, config)
    losses = [row.val_loss for row in trained.rows]
    assert losses == sorted(losses, reverse=True)
    assert val_losses == [losses[:1], losses[:2], losses]
    assert trained.selected_row == 2
    assert evaluate(model, config.loss, train)[0] < losses[-1], "the model has also taken the last steps"
    model.load_state_dict(trained.weights)
    assert evaluate(model, config.loss, train)[0] == losses[-1]


def test_last_weights_are_those_after_an_incomplete_last_interval(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    every, whole = (
        fit(toy_model(tiny_packed), train, validation, None, toy_config(validate_every=steps)) for steps in (4, None)
    )
    assert (every.steps, whole.steps) == (15, 15)
    assert bits(every.weights) == bits(whole.weights)
    assert every.rows[-1].val_loss == whole.rows[-1].val_loss
    assert every.selected_row == len(every.rows) - 1 == 3


def test_rows_within_an_epoch_average_to_its_row_and_change_no_weight(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    whole = fit(toy_model(tiny_packed, dropout=0.3), train, validation, None, toy_config(epochs=1))
    parts = fit(toy_model(tiny_packed, dropout=0.3), train, validation, None, toy_config(epochs=1, validate_every=1))
    assert bits(whole.weights) == bits(parts.weights)
    sizes = [16, 16, 16, 16, 8]
    for name in ("train_loss", "train_accuracy"):
        mean = sum(size * getattr(row, name) for size, row in zip(sizes, parts.rows, strict=True)) / 72
        assert getattr(whole.rows[0], name) == pytest.approx(mean, rel=1e-12)


def test_progress_callback_gets_every_row_and_every_hundredth_step(tiny_packed):
    updates = []
    train, validation, _ = splits(tiny_packed)
    config = toy_config(batch_size=1, epochs=3, validate_every=150)
    trained = fit(
        toy_model(tiny_packed), train, validation, None, config, progress=lambda step, row: updates.append((step, row))
    )
    assert [row for _, row in updates if row] == trained.rows
    assert [step for step, row in updates if row is None] == [100, 200]
    assert [step for step, _ in updates] == [100, 150, 200, 216]


# Selection and early stopping


@pytest.mark.parametrize("select", ["best_val_loss", "best_val_accuracy"])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_selected_weights_are_those_of_the_best_row(tiny_packed, select, kind):
    train, validation, _ = splits(tiny_packed)
    validation = with_wrong_labels(validation)
    config = toy_config("adam", epochs=12, select=select)
    trained = fit(toy_model(tiny_packed, kind, dropout=0.2), train, validation, None, config)
    if select == "best_val_loss":
        best = min(range(12), key=lambda index: trained.rows[index].val_loss)
    else:
        best = max(range(12), key=lambda index: trained.rows[index].val_accuracy)  # the first of equal values
    assert trained.selected_row == best < 11

    other = toy_model(tiny_packed, kind, seed=1, dropout=0.2)
    other.load_state_dict(trained.weights)
    row = trained.rows[best]
    assert evaluate(other, config.loss, validation) == (row.val_loss, row.val_accuracy)


@pytest.mark.parametrize(("select", "expected"), [("best_val_loss", 3), ("best_val_accuracy", 2), ("last", 4)])
def test_selection_follows_the_metric_that_it_names(tiny_packed, monkeypatch, select, expected):
    """The first of equal rows is selected."""
    measured = iter([(0.5, 0.6), (0.4, 0.5), (0.9, 0.7), (0.3, 0.65), (0.3, 0.7)])
    monkeypatch.setattr(engine, "evaluate", lambda *arguments: next(measured))
    train, validation, _ = splits(tiny_packed)
    assert fit(toy_model(tiny_packed), train, validation, None, toy_config(epochs=5, select=select)).selected_row == expected


def test_last_weights_are_selected_by_default(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    model = toy_model(tiny_packed)
    trained = fit(model, train, with_wrong_labels(validation), None, toy_config())
    assert trained.selected_row == 2
    assert bits(trained.weights) == bits(model.state_dict())


def test_training_stops_at_the_row_that_meets_the_stopping_rule(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    wrong = with_wrong_labels(validation)
    config = toy_config("adam", epochs=40, should_stop=patience(3), select="best_val_loss")
    trained = fit(toy_model(tiny_packed), train, wrong, None, config)
    losses = [row.val_loss for row in trained.rows]
    assert len(losses) < 40
    assert trained.selected_row == losses.index(min(losses)) == len(losses) - 4
    assert trained.steps == len(losses) * STEPS

    unstopped = fit(toy_model(tiny_packed), train, wrong, None, dataclasses.replace(config, should_stop=lambda losses: False))
    assert unstopped.rows[: len(losses)] == trained.rows
    assert len(unstopped.rows) == 40


# Reproducibility


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_repeated_training_gives_the_same_bytes(tiny_packed, kind):
    train, validation, test = splits(tiny_packed)
    config = toy_config("adam", augment=add_noise, select="best_val_loss")
    one, two = (fit(toy_model(tiny_packed, kind, dropout=0.3), train, validation, test, config) for _ in range(2))
    assert bits(one.weights) == bits(two.weights)
    assert one.rows == two.rows
    other = fit(toy_model(tiny_packed, kind, seed=1, dropout=0.3), train, validation, test, config)
    assert bits(other.weights) != bits(one.weights)


def test_bf16_gives_the_same_bytes_every_time(tiny_packed):
    config = toy_config("adam", precision="bf16")
    one, two = (fit(toy_model(tiny_packed, "cnn"), *splits(tiny_packed), config) for _ in range(2))
    assert bits(one.weights) == bits(two.weights)


def test_converting_batch_by_batch_gives_the_same_bits(tiny_packed, monkeypatch):
    """Datasets that are too large in float32 are converted this way."""
    config = toy_config("momentum", augment=add_noise)
    kept = splits(tiny_packed)
    monkeypatch.setattr(inference, "FLOAT_LIMIT", 0)
    converted = splits(tiny_packed)
    assert {inputs.pixels.dtype for inputs in kept} == {torch.float32}
    assert {inputs.pixels.dtype for inputs in converted} == {torch.uint8}
    one, two = (fit(toy_model(tiny_packed, "cnn", dropout=0.3), *inputs, config) for inputs in (kept, converted))
    assert bits(one.weights) == bits(two.weights)
    assert one.rows == two.rows


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_test_curve_changes_no_weight(tiny_packed, optimizer):
    train, validation, test = splits(tiny_packed)
    keys = {"kind": "cnn", "batch_norm": True, "dropout": 0.3}
    config = toy_config(optimizer, select="best_val_accuracy", epochs=5)
    with_curve = fit(toy_model(tiny_packed, **keys), train, validation, test, config)
    without_curve = fit(toy_model(tiny_packed, **keys), train, validation, None, config)
    assert bits(with_curve.weights) == bits(without_curve.weights)
    assert [dataclasses.replace(row, test_loss=None, test_accuracy=None) for row in with_curve.rows] == without_curve.rows
    assert all(row.test_loss > 0 for row in with_curve.rows)


def test_validation_changes_no_weight(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    with_validation, without = (
        fit(toy_model(tiny_packed, dropout=0.3), train, split, None, toy_config()) for split in (validation, None)
    )
    assert bits(with_validation.weights) == bits(without.weights)
    assert {(row.val_loss, row.val_accuracy) for row in without.rows} == {(None, None)}


# Augmentation


def test_only_training_batches_are_augmented(tiny_packed):
    seen = []

    def spy(images, generator):
        seen.append(images.clone())
        return images

    train, validation, test = splits(tiny_packed)
    train = record_batches(train)
    fit(toy_model(tiny_packed), train, validation, test, toy_config(augment=spy, epochs=2))
    assert len(seen) == len(train.drawn) == 10
    for images, rows in zip(seen, train.drawn, strict=True):
        assert torch.equal(images, train.pixels[rows].permute(0, 3, 1, 2))


def test_augmentation_changes_the_weights_reproducibly(tiny_packed):
    train, validation, _ = splits(tiny_packed)

    def run(**changes):
        return bits(
            fit(toy_model(tiny_packed), train, validation, None, toy_config(**({"augment": add_noise} | changes))).weights
        )

    one = run()
    torch.rand(7)  # advances torch's global generator, from which augmentation does not draw
    assert run() == one
    assert run(seed=1) != one
    assert run(augment=None) != one


def augmentation_draws(packed, seed, epochs=2, **keys):
    """Return the numbers that augmentation draws, one per batch, and the bits of the trained weights."""
    numbers = []

    def draw(images, generator):
        numbers.append(torch.rand(1, generator=generator, dtype=torch.float64).item())
        return images

    train, _, _ = splits(packed)
    config = toy_config(augment=draw, seed=seed, epochs=epochs)
    return numbers, bits(fit(toy_model(packed, **keys), train, None, None, config).weights)


def test_augmentation_draws_from_a_separate_random_stream(tiny_packed):
    numbers, weights = augmentation_draws(tiny_packed, 5, dropout=0.3)
    assert len(set(numbers)) == 10
    other, _ = augmentation_draws(tiny_packed, 6, dropout=0.3)
    assert not set(numbers) & set(other), "another seed gives different numbers"
    same, _ = augmentation_draws(tiny_packed, 5, kind="cnn")
    assert same == numbers, "the numbers do not depend on the model"

    def first(generator):
        return torch.rand(1, generator=generator, dtype=torch.float64).item()

    others = [torch.Generator().manual_seed(5), *(torch.Generator().manual_seed(derived_seed(5, epoch)) for epoch in (1, 2))]
    assert numbers[0] not in {first(generator) for generator in others}, "weights, dropout and orders have separate streams"

    train, _, _ = splits(tiny_packed)
    without = fit(toy_model(tiny_packed, dropout=0.3), train, None, None, toy_config(seed=5, epochs=2))
    assert weights == bits(without.weights), "its draws change neither order nor dropout"
