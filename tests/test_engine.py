"""The training loop: what it learns, in which order, which rows it records, and which weights it selects."""

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
from toolbox import CPU, UNIT, add_noise, bits, splits, toy_model, toy_plan
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
class Recorded(DeviceDataset):
    """A split that remembers which rows each batch was made of."""

    drawn: list[Tensor] = field(default_factory=list)

    def iter_batches(self, order: Tensor, size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, batch in zip(torch.split(order, size)[start:], super().iter_batches(order, size, start), strict=True):
            self.drawn.append(rows)
            yield batch


def recorded(inputs: DeviceDataset) -> Recorded:
    return Recorded(inputs.pixels, inputs.labels, inputs.convert)


def patience(count: int):
    return functools.partial(should_stop, EarlyStopping(patience=count))


def with_wrong_labels(validation: DeviceDataset) -> DeviceDataset:
    """Mix up the labels: what is learnt makes validation worse, so that the best row is an early one."""
    return dataclasses.replace(validation, labels=validation.labels.roll(1))


def linear(features: int = 4) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(features, 2))


# What is learnt


@pytest.mark.parametrize(("kind", "optimizer"), [("mlp", "sgd"), ("mlp", "momentum"), ("mlp", "adam"), ("cnn", "adam")])
def test_separable_classes_are_learnt(tiny_packed, kind, optimizer):
    train, validation, test = splits(tiny_packed)
    model = toy_model(tiny_packed, kind)
    plan = toy_plan(optimizer, epochs=15, batch_size=8)
    rows = fit(model, train, validation, test, plan).rows
    assert rows[-1].train_loss < 0.5 * rows[0].train_loss
    assert min(rows[-1].train_accuracy, rows[-1].val_accuracy, rows[-1].test_accuracy) > 0.9
    assert evaluate(model, plan.loss, test) == (rows[-1].test_loss, rows[-1].test_accuracy)


BY_HAND = {
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
    train = recorded(to_device(tiny_packed.train, UNIT, CPU))
    model = toy_model(tiny_packed, kind, **keys)
    schedule = {"name": "MultiStepLR", "milestones": [2], "gamma": 0.1}
    trained = fit(model, train, None, None, toy_plan(optimizer, epochs=3, schedule=schedule))

    images, labels = torch.from_numpy(tiny_packed.train.images), torch.from_numpy(tiny_packed.train.labels)
    by_hand = toy_model(tiny_packed, kind, **keys)
    optimiser = BY_HAND[optimizer](by_hand.parameters())
    steps = len(train.drawn) // 3
    for epoch in range(3):
        if epoch == 2:
            for group in optimiser.param_groups:
                group["lr"] *= 0.1
        losses, correct = [], 0
        for rows in train.drawn[epoch * steps : (epoch + 1) * steps]:
            batch = (images[rows].float() / 255).to(memory_format=torch.channels_last)
            optimiser.zero_grad()
            logits = by_hand(batch)
            loss = functional.cross_entropy(logits, labels[rows])
            loss.backward()
            optimiser.step()
            losses += [loss.item()] * len(rows)
            correct += int((logits.argmax(1) == labels[rows]).sum())
        assert trained.rows[epoch].train_loss == pytest.approx(sum(losses) / len(losses), rel=1e-12)
        assert trained.rows[epoch].train_accuracy == correct / len(losses)
    assert bits(trained.weights) == bits(by_hand.state_dict())


def test_pixel_labels_are_learnt(tiny_packed):
    images = tiny_packed.train.images
    split = Split(images, (images[:, 0] > 120).astype(np.uint8))
    inputs = to_device(split, UNIT, CPU)
    model = torch.nn.Conv2d(1, 2, 1)
    rows = fit(model, inputs, None, inputs, toy_plan("adam", epochs=20, lr=0.2)).rows
    assert rows[-1].test_accuracy > 0.95 > rows[0].train_accuracy
    assert evaluate(model, functional.cross_entropy, inputs) == (rows[-1].test_loss, rows[-1].test_accuracy)


def test_bf16_trains_close_to_float32_and_keeps_float32_weights(tiny_packed):
    train, validation, test = splits(tiny_packed)
    runs = {}
    for precision in ("float32", "bf16"):
        model = toy_model(tiny_packed, "cnn", batch_norm=True)
        runs[precision] = fit(model, train, validation, test, toy_plan("adam", epochs=8, precision=precision))
    full, half = runs["float32"], runs["bf16"]
    assert {tensor.dtype for tensor in half.weights.values()} <= {torch.float32, torch.int64}
    assert bits(half.weights) != bits(full.weights)
    assert half.rows[-1].test_accuracy > 0.9
    assert half.rows[-1].train_loss == pytest.approx(full.rows[-1].train_loss, abs=0.05)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_loss_that_is_not_finite_ends_training_with_a_remedy(tiny_packed, split):
    """One huge step spoils what is measured after it; the training loss is that of the steps before."""
    train, validation, test = splits(tiny_packed)
    plan = toy_plan(lr=1e30, batch_size=16 if split == "train" else 72)
    message = rf"^the {split} loss is (nan|inf) at epoch 1, step \d\. Lower the learning rate \(optimizer\.lr\)\.$"
    with pytest.raises(TrainingError, match=message):
        fit(toy_model(tiny_packed), train, validation if split == "val" else None, test if split == "test" else None, plan)


# In which order


@given(samples=st.integers(1, 40), batch_size=st.integers(1, 45), drop_last=st.booleans(), seed=st.integers(0, 99))
def test_an_epoch_visits_every_sample_once_in_a_new_order(samples, batch_size, drop_last, seed):
    split = Split(np.zeros((samples, 1, 2, 2), np.uint8), np.zeros(samples, np.int64))
    train = recorded(to_device(split, UNIT, CPU))
    plan = toy_plan(epochs=2, batch_size=batch_size, drop_last=drop_last, seed=seed, lr=1e-3)
    if drop_last and batch_size > samples:
        with pytest.raises(TrainingError, match=f"with drop_last, {samples} samples do not fill a batch of {batch_size}"):
            fit(linear(), train, None, None, plan)
        return
    rows = fit(linear(), train, None, None, plan).rows
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
    train = recorded(splits(packed)[0])
    fit(toy_model(packed, **keys), train, None, None, toy_plan(epochs=epochs, seed=seed))
    return [torch.cat(train.drawn[epoch * STEPS : (epoch + 1) * STEPS]).tolist() for epoch in range(epochs)]


def test_order_depends_only_on_seed_and_epoch(tiny_packed):
    same = orders(tiny_packed, 3)
    assert orders(tiny_packed, 3, global_seed=9, kind="cnn", dropout=0.5) == same
    assert orders(tiny_packed, 4) != same


def test_orders_of_neighbouring_seeds_and_epochs_are_all_different(tiny_packed):
    """They would not be if the order were drawn from seed + epoch."""
    drawn = [tuple(order) for seed in range(4) for order in orders(tiny_packed, seed, epochs=4)]
    assert len(set(drawn)) == 16


def test_order_by_class_shows_all_of_a_class_before_the_next(tiny_packed):
    train, _, _ = splits(tiny_packed)
    plan = toy_plan(order="by_class", epochs=2)
    seen = recorded(train)
    fit(toy_model(tiny_packed), seen, None, None, plan)
    for epoch in (seen.drawn[:STEPS], seen.drawn[STEPS:]):
        rows = torch.cat(epoch)
        assert sorted(rows.tolist()) == list(range(len(train)))
        labels = train.labels[rows]
        assert torch.equal(labels, labels.sort().values)
        assert all((rows[labels == label].diff() > 0).all() for label in labels.unique()), "and in their own order within it"


# The learning rate


def test_every_row_has_the_rate_of_a_schedule_by_epoch(tiny_packed):
    train, _, _ = splits(tiny_packed)
    plan = toy_plan(lr=0.08, epochs=7, schedule={"name": "MultiStepLR", "milestones": [2, 5], "gamma": 0.5})
    rows = fit(toy_model(tiny_packed), train, None, None, plan).rows
    assert [row.lr for row in rows] == [0.08, 0.08, 0.04, 0.04, 0.04, 0.02, 0.02]


def test_row_has_the_rate_of_its_last_step_with_a_schedule_by_step(tiny_packed):
    """A warm-up from a quarter of the rate over four steps: 0.02, 0.035, 0.05, 0.065, then 0.08."""
    train, _, _ = splits(tiny_packed)
    warm_up = {"name": "LinearLR", "start_factor": 0.25, "total_iters": 4, "interval": "step"}
    for every, expected in ((1, [0.02, 0.035, 0.05, 0.065, 0.08]), (2, [0.035, 0.065, 0.08]), (5, [0.08])):
        plan = toy_plan(lr=0.08, epochs=1, validate_every=every, schedule=warm_up)
        rows = fit(toy_model(tiny_packed), train, None, None, plan).rows
        assert [row.lr for row in rows] == pytest.approx(expected)


def test_steps_are_taken_with_the_rate_in_their_row(tiny_packed):
    """Plain SGD on the whole split: the change of the weights is the rate times the gradient."""
    train, _, _ = splits(tiny_packed)
    model = toy_model(tiny_packed)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    moved = []

    def watch(done, row):
        for parameter, old in zip(model.parameters(), before, strict=True):
            moved.append((row.lr, (old - parameter.detach()).norm() / parameter.grad.norm()))
            old.copy_(parameter.detach())

    ramp = {"name": "LinearLR", "start_factor": 0.1, "total_iters": 3, "interval": "step"}
    plan = toy_plan(lr=0.1, epochs=4, batch_size=72, schedule=ramp)
    fit(model, train, None, None, plan, show=watch)
    assert [rate for rate, _ in moved[:: len(before)]] == pytest.approx([0.01, 0.04, 0.07, 0.1])
    assert all(float(found) == pytest.approx(rate, rel=1e-3) for rate, found in moved)


# Rows of the history


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 100])
def test_rows_are_recorded_at_every_interval_and_after_the_last_step(tiny_packed, every):
    train, validation, _ = splits(tiny_packed)
    rows = fit(toy_model(tiny_packed), train, validation, None, toy_plan(validate_every=every, epochs=3)).rows
    assert [row.step for row in rows] == sorted({*range(every, 3 * STEPS + 1, every), 3 * STEPS})
    assert [row.epoch for row in rows] == [math.ceil(row.step / STEPS) for row in rows]


@pytest.mark.parametrize("select", ["best_val_loss", "best_val_accuracy"])
@pytest.mark.parametrize(
    ("every", "expected"), [(1, list(range(1, 16))), (2, [2, 4, 6, 8, 10, 12, 14]), (4, [4, 8, 12]), (7, [7, 14]), (15, [15])]
)
def test_incomplete_last_interval_has_no_row_if_validation_selects_weights(tiny_packed, select, every, expected):
    train, validation, _ = splits(tiny_packed)
    trained = fit(toy_model(tiny_packed), train, validation, None, toy_plan(validate_every=every, select=select))
    assert [row.step for row in trained.rows] == expected
    assert trained.steps == 3 * STEPS, "it trains all the same"


@pytest.mark.parametrize("select", ["last", "best_val_loss"])
def test_training_shorter_than_an_interval_has_one_row(tiny_packed, select):
    train, validation, _ = splits(tiny_packed)
    trained = fit(toy_model(tiny_packed), train, validation, None, toy_plan(validate_every=100, select=select))
    assert [row.step for row in trained.rows] == [15]
    assert trained.kept == 0


def test_incomplete_last_interval_is_neither_selected_nor_stops_training(tiny_packed):
    """Every row is better than those before it, and the model after the last step is better than at the last row."""
    train, _, _ = splits(tiny_packed)
    asked = []
    plan = toy_plan(validate_every=4, select="best_val_loss", stop=lambda losses: asked.append(list(losses)) or False)
    model = toy_model(tiny_packed)
    trained = fit(model, train, train, None, plan)
    losses = [row.val_loss for row in trained.rows]
    assert losses == sorted(losses, reverse=True)
    assert asked == [losses[:1], losses[:2], losses]
    assert trained.kept == 2
    assert evaluate(model, plan.loss, train)[0] < losses[-1], "the model itself has taken the last steps"
    model.load_state_dict(trained.weights)
    assert evaluate(model, plan.loss, train)[0] == losses[-1]


def test_last_weights_are_those_after_an_incomplete_last_interval(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    every, whole = (fit(toy_model(tiny_packed), train, validation, None, toy_plan(validate_every=steps)) for steps in (4, None))
    assert (every.steps, whole.steps) == (15, 15)
    assert bits(every.weights) == bits(whole.weights)
    assert every.rows[-1].val_loss == whole.rows[-1].val_loss
    assert every.kept == len(every.rows) - 1 == 3


def test_rows_in_between_add_up_to_the_epoch_and_change_no_weight(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    whole = fit(toy_model(tiny_packed, dropout=0.3), train, validation, None, toy_plan(epochs=1))
    parts = fit(toy_model(tiny_packed, dropout=0.3), train, validation, None, toy_plan(epochs=1, validate_every=1))
    assert bits(whole.weights) == bits(parts.weights)
    sizes = [16, 16, 16, 16, 8]
    for name in ("train_loss", "train_accuracy"):
        mean = sum(size * getattr(row, name) for size, row in zip(sizes, parts.rows, strict=True)) / 72
        assert getattr(whole.rows[0], name) == pytest.approx(mean, rel=1e-12)


def test_progress_callback_gets_every_row_and_some_steps_in_between(tiny_packed):
    told = []
    train, validation, _ = splits(tiny_packed)
    plan = toy_plan(batch_size=1, epochs=3, validate_every=150)
    trained = fit(toy_model(tiny_packed), train, validation, None, plan, show=lambda done, row: told.append((done, row)))
    assert [row for _, row in told if row] == trained.rows
    assert [done for done, row in told if row is None] == [100, 200]
    assert [done for done, _ in told] == [100, 150, 200, 216]


# Selection and early stopping


@pytest.mark.parametrize("select", ["best_val_loss", "best_val_accuracy"])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_selected_weights_are_those_of_the_best_row(tiny_packed, select, kind):
    train, validation, _ = splits(tiny_packed)
    validation = with_wrong_labels(validation)
    plan = toy_plan("adam", epochs=12, select=select)
    trained = fit(toy_model(tiny_packed, kind, dropout=0.2), train, validation, None, plan)
    if select == "best_val_loss":
        best = min(range(12), key=lambda index: trained.rows[index].val_loss)
    else:
        best = max(range(12), key=lambda index: trained.rows[index].val_accuracy)  # of equal ones the first
    assert trained.kept == best < 11

    again = toy_model(tiny_packed, kind, seed=1, dropout=0.2)
    again.load_state_dict(trained.weights)
    row = trained.rows[best]
    assert evaluate(again, plan.loss, validation) == (row.val_loss, row.val_accuracy)


@pytest.mark.parametrize(("select", "expected"), [("best_val_loss", 3), ("best_val_accuracy", 2), ("last", 4)])
def test_selection_follows_the_metric_that_it_names(tiny_packed, monkeypatch, select, expected):
    """Of equal rows the first is selected."""
    measured = iter([(0.5, 0.6), (0.4, 0.5), (0.9, 0.7), (0.3, 0.65), (0.3, 0.7)])
    monkeypatch.setattr(engine, "evaluate", lambda *arguments: next(measured))
    train, validation, _ = splits(tiny_packed)
    assert fit(toy_model(tiny_packed), train, validation, None, toy_plan(epochs=5, select=select)).kept == expected


def test_last_weights_are_selected_by_default(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    model = toy_model(tiny_packed)
    trained = fit(model, train, with_wrong_labels(validation), None, toy_plan())
    assert trained.kept == 2
    assert bits(trained.weights) == bits(model.state_dict())


def test_training_stops_early_at_the_row_that_meets_the_rule(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    wrong = with_wrong_labels(validation)
    plan = toy_plan("adam", epochs=40, stop=patience(3), select="best_val_loss")
    trained = fit(toy_model(tiny_packed), train, wrong, None, plan)
    losses = [row.val_loss for row in trained.rows]
    assert len(losses) < 40
    assert trained.kept == losses.index(min(losses)) == len(losses) - 4
    assert trained.steps == len(losses) * STEPS

    unstopped = fit(toy_model(tiny_packed), train, wrong, None, dataclasses.replace(plan, stop=lambda losses: False))
    assert unstopped.rows[: len(losses)] == trained.rows
    assert len(unstopped.rows) == 40


# What changes no weight, and what does


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_same_run_gives_the_same_bytes(tiny_packed, kind):
    train, validation, test = splits(tiny_packed)
    plan = toy_plan("adam", augment=add_noise, select="best_val_loss")
    one, two = (fit(toy_model(tiny_packed, kind, dropout=0.3), train, validation, test, plan) for _ in range(2))
    assert bits(one.weights) == bits(two.weights)
    assert one.rows == two.rows
    other = fit(toy_model(tiny_packed, kind, seed=1, dropout=0.3), train, validation, test, plan)
    assert bits(other.weights) != bits(one.weights)


def test_bf16_gives_the_same_bytes_every_time(tiny_packed):
    plan = toy_plan("adam", precision="bf16")
    one, two = (fit(toy_model(tiny_packed, "cnn"), *splits(tiny_packed), plan) for _ in range(2))
    assert bits(one.weights) == bits(two.weights)


def test_converting_batch_by_batch_gives_the_same_bits(tiny_packed, monkeypatch):
    """Datasets that are too large as float32 are converted this way."""
    plan = toy_plan("momentum", augment=add_noise)
    kept = splits(tiny_packed)
    monkeypatch.setattr(inference, "FLOAT_LIMIT", 0)
    converted = splits(tiny_packed)
    assert {inputs.pixels.dtype for inputs in kept} == {torch.float32}
    assert {inputs.pixels.dtype for inputs in converted} == {torch.uint8}
    one, two = (fit(toy_model(tiny_packed, "cnn", dropout=0.3), *inputs, plan) for inputs in (kept, converted))
    assert bits(one.weights) == bits(two.weights)
    assert one.rows == two.rows


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_test_curve_changes_no_weight(tiny_packed, optimizer):
    train, validation, test = splits(tiny_packed)
    keys = {"kind": "cnn", "batch_norm": True, "dropout": 0.3}
    plan = toy_plan(optimizer, select="best_val_accuracy", epochs=5)
    watched = fit(toy_model(tiny_packed, **keys), train, validation, test, plan)
    unwatched = fit(toy_model(tiny_packed, **keys), train, validation, None, plan)
    assert bits(watched.weights) == bits(unwatched.weights)
    assert [dataclasses.replace(row, test_loss=None, test_accuracy=None) for row in watched.rows] == unwatched.rows
    assert all(row.test_loss > 0 for row in watched.rows)


def test_validation_changes_no_weight(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    with_it, without = (
        fit(toy_model(tiny_packed, dropout=0.3), train, watched, None, toy_plan()) for watched in (validation, None)
    )
    assert bits(with_it.weights) == bits(without.weights)
    assert {(row.val_loss, row.val_accuracy) for row in without.rows} == {(None, None)}


# Augmentation


def test_all_training_batches_and_no_others_are_augmented(tiny_packed):
    seen = []

    def spy(images, generator):
        seen.append(images.clone())
        return images

    train, validation, test = splits(tiny_packed)
    train = recorded(train)
    fit(toy_model(tiny_packed), train, validation, test, toy_plan(augment=spy, epochs=2))
    assert len(seen) == len(train.drawn) == 10
    for images, rows in zip(seen, train.drawn, strict=True):
        assert torch.equal(images, train.pixels[rows].permute(0, 3, 1, 2))


def test_augmentation_changes_the_weights_reproducibly(tiny_packed):
    train, validation, _ = splits(tiny_packed)

    def run(**changes):
        return bits(
            fit(toy_model(tiny_packed), train, validation, None, toy_plan(**({"augment": add_noise} | changes))).weights
        )

    one = run()
    torch.rand(7)  # of torch's global generator, from which augmentation draws nothing
    assert run() == one
    assert run(seed=1) != one
    assert run(augment=None) != one


def drawn_by_augmentation(packed, seed, epochs=2, **keys):
    """Return the numbers that an augmentation draws, one for each batch, and the bits that are learnt in spite of them."""
    numbers = []

    def draw(images, generator):
        numbers.append(torch.rand(1, generator=generator, dtype=torch.float64).item())
        return images

    train, _, _ = splits(packed)
    plan = toy_plan(augment=draw, seed=seed, epochs=epochs)
    return numbers, bits(fit(toy_model(packed, **keys), train, None, None, plan).weights)


def test_augmentation_draws_from_a_separate_random_stream(tiny_packed):
    numbers, weights = drawn_by_augmentation(tiny_packed, 5, dropout=0.3)
    assert len(set(numbers)) == 10
    other, _ = drawn_by_augmentation(tiny_packed, 6, dropout=0.3)
    assert not set(numbers) & set(other), "another seed draws other numbers"
    same, _ = drawn_by_augmentation(tiny_packed, 5, kind="cnn")
    assert same == numbers, "whatever the model is and draws"

    def first(generator):
        return torch.rand(1, generator=generator, dtype=torch.float64).item()

    others = [torch.Generator().manual_seed(5), *(torch.Generator().manual_seed(derived_seed(5, epoch)) for epoch in (1, 2))]
    assert numbers[0] not in {first(generator) for generator in others}, "weights, dropout and orders have other streams"

    train, _, _ = splits(tiny_packed)
    without = fit(toy_model(tiny_packed, dropout=0.3), train, None, None, toy_plan(seed=5, epochs=2))
    assert weights == bits(without.weights), "and what it draws changes neither order nor dropout"
