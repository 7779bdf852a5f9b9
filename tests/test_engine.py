import dataclasses
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from toolbox import CPU, Noise, bits, build_optimizer, splits, toy_model, toy_plan, toy_settings
from torch import Tensor
from torch.nn import functional

from labbook.augmentations.none import Scaled
from labbook.core import inference
from labbook.core.errors import TrainingError
from labbook.core.inference import Inputs, Tally, measure, place, predict
from labbook.core.packed import Packed, Split
from labbook.core.settings import Runtime, TrainSettings
from labbook.schedules import constant, step
from labbook.stopping import never, patience, window
from labbook.training import progress
from labbook.training.engine import fit
from labbook.training.experiment import Outcome, train_experiment
from labbook.training.history import Row, write_history
from labbook.training.progress import show_progress


@dataclass(frozen=True)
class Recorded(Inputs):
    """A split that remembers which rows each batch was made of."""

    drawn: list[Tensor] = field(default_factory=list)

    def shuffled(self, order: Tensor, size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, batch in zip(torch.split(order, size)[start:], super().shuffled(order, size, start), strict=True):
            self.drawn.append(rows)
            yield batch


def recorded(inputs: Inputs) -> Recorded:
    return Recorded(inputs.pixels, inputs.labels, inputs.convert)


def step_schedule(at_epochs, factor):
    return step.build(step.Settings(name="step", at_epochs=at_epochs, factor=factor))


def patience_rule(validations):
    return patience.build(patience.Settings(name="patience", validations=validations))


@pytest.mark.parametrize(("kind", "optimizer"), [("mlp", "sgd"), ("mlp", "momentum"), ("mlp", "adam"), ("cnn", "adam")])
def test_separable_classes_are_learnt(tiny_packed, kind, optimizer):
    train, validation, test = splits(tiny_packed)
    model = toy_model(tiny_packed, kind)
    plan = toy_plan(optimizer, epochs=15, batch_size=8)
    rows = fit(model, train, validation, test, plan).rows
    assert rows[-1].train_loss < 0.5 * rows[0].train_loss
    assert min(rows[-1].train_accuracy, rows[-1].val_accuracy, rows[-1].test_accuracy) > 0.9
    assert measure(model, plan.loss, test) == (rows[-1].test_loss, rows[-1].test_accuracy)


@pytest.mark.parametrize(
    ("kind", "optimizer", "keys"),
    [
        ("mlp", "sgd", {}),
        ("mlp", "momentum", {"dropout": 0.3}),
        ("cnn", "adam", {"batch_norm": True, "dropout": 0.2}),
    ],
)
def test_training_equals_a_loop_written_by_hand_to_the_bit(tiny_packed, kind, optimizer, keys):
    train = recorded(place(tiny_packed.train, Scaled().fixed, CPU))
    model = toy_model(tiny_packed, kind, **keys)
    plan = toy_plan(optimizer, epochs=3, schedule=step_schedule([3], 0.1))
    trained = fit(model, train, None, None, plan)

    images, labels = torch.from_numpy(tiny_packed.train.images), torch.from_numpy(tiny_packed.train.labels)
    by_hand = toy_model(tiny_packed, kind, **keys)
    optimiser = build_optimizer(optimizer, by_hand.parameters())
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


@given(samples=st.integers(1, 40), batch_size=st.integers(1, 45), drop_last=st.booleans(), seed=st.integers(0, 99))
def test_an_epoch_goes_once_through_the_split_in_an_order_of_its_own(samples, batch_size, drop_last, seed):
    split = Split(np.zeros((samples, 1, 2, 2), np.uint8), np.zeros(samples, np.int64))
    train = recorded(place(split, Scaled().fixed, CPU))
    plan = toy_plan(epochs=2, batch_size=batch_size, drop_last=drop_last, seed=seed, lr=1e-3)
    if drop_last and batch_size > samples:
        with pytest.raises(TrainingError, match=f"batch_size: {batch_size} leaves no full batch of {samples} samples"):
            fit(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), train, None, None, plan)
        return
    rows = fit(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), train, None, None, plan).rows
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


def test_order_depends_on_seed_and_epoch_alone(tiny_packed):
    def orders(seed, **changes):
        torch.manual_seed(changes.pop("global_seed", 0))
        train = recorded(splits(tiny_packed)[0])
        fit(toy_model(tiny_packed, **changes), train, None, None, toy_plan(epochs=2, seed=seed))
        return torch.cat(train.drawn).tolist()

    same = orders(3)
    assert orders(3, global_seed=9, kind="cnn", dropout=0.5) == same
    assert orders(4) != same


def test_learning_rate_of_the_step_schedule_stands_in_every_row(tiny_packed):
    train, _, _ = splits(tiny_packed)
    plan = toy_plan(lr=0.08, epochs=7, schedule=step_schedule([6, 3], 0.5))
    rows = fit(toy_model(tiny_packed), train, None, None, plan).rows
    assert [row.lr for row in rows] == [0.08, 0.08, 0.04, 0.04, 0.04, 0.02, 0.02]


@given(drops=st.lists(st.integers(2, 30), min_size=1, max_size=4), factor=st.floats(0.01, 0.99), epoch=st.integers(1, 35))
def test_step_schedule_multiplies_by_its_factor_at_every_drop_behind(drops, factor, epoch):
    expected = 1.0
    for drop in drops:
        if epoch >= drop:
            expected *= factor
    assert step_schedule(drops, factor)(epoch) == pytest.approx(expected)


@given(epoch=st.integers(1, 1000))
def test_constant_schedule_changes_nothing(epoch):
    assert constant.build(constant.Settings(name="constant"))(epoch) == 1


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 100])
def test_rows_come_every_so_many_steps_and_after_the_last(tiny_packed, every):
    train, validation, _ = splits(tiny_packed)
    steps = 5  # of 72 samples in batches of 16
    rows = fit(toy_model(tiny_packed), train, validation, None, toy_plan(validate_every=every, epochs=3)).rows
    assert [row.step for row in rows] == sorted({*range(every, 3 * steps + 1, every), 3 * steps})
    assert [row.epoch for row in rows] == [math.ceil(row.step / steps) for row in rows]


def test_rows_in_between_add_up_to_the_epoch_and_change_no_weight(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    whole = fit(toy_model(tiny_packed, dropout=0.3), train, validation, None, toy_plan(epochs=1))
    parts = fit(toy_model(tiny_packed, dropout=0.3), train, validation, None, toy_plan(epochs=1, validate_every=1))
    assert bits(whole.weights) == bits(parts.weights)
    sizes = [16, 16, 16, 16, 8]
    for name in ("train_loss", "train_accuracy"):
        mean = sum(size * getattr(row, name) for size, row in zip(sizes, parts.rows, strict=True)) / 72
        assert getattr(whole.rows[0], name) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("keep", ["best_validation_loss", "best_validation_accuracy"])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_kept_weights_are_those_of_the_best_row(tiny_packed, keep, kind):
    """Validation labels are mixed up, so that the best row is not the last one."""
    train, validation, _ = splits(tiny_packed)
    validation = dataclasses.replace(validation, labels=validation.labels.roll(1))
    plan = toy_plan("adam", epochs=12, keep=keep)
    trained = fit(toy_model(tiny_packed, kind, dropout=0.2), train, validation, None, plan)
    if keep == "best_validation_loss":
        best = min(range(12), key=lambda index: trained.rows[index].val_loss)
    else:
        best = max(range(12), key=lambda index: trained.rows[index].val_accuracy)
    assert trained.kept == best < 11

    again = toy_model(tiny_packed, kind, seed=1, dropout=0.2)
    again.load_state_dict(trained.weights)
    row = trained.rows[best]
    assert measure(again, plan.loss, validation) == (row.val_loss, row.val_accuracy)


def test_last_weights_are_kept_where_that_is_asked_for(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    model = toy_model(tiny_packed)
    trained = fit(model, train, validation, None, toy_plan())
    assert trained.kept == 2
    assert bits(trained.weights) == bits(model.state_dict())


def test_patience_stops_training_when_validation_gets_no_better(tiny_packed):
    train, validation, _ = splits(tiny_packed)
    wrong = dataclasses.replace(validation, labels=validation.labels.roll(1))
    plan = toy_plan("adam", epochs=40, stopping=patience_rule(3), keep="best_validation_loss")
    trained = fit(toy_model(tiny_packed), train, wrong, None, plan)
    losses = [row.val_loss for row in trained.rows]
    assert len(losses) < 40
    assert trained.kept == losses.index(min(losses)) == len(losses) - 4

    unstopped = fit(toy_model(tiny_packed), train, wrong, None, dataclasses.replace(plan, stopping=toy_plan().stopping))
    assert unstopped.rows[: len(losses)] == trained.rows
    assert len(unstopped.rows) == 40


@given(losses=st.lists(st.floats(0, 10) | st.integers(0, 3).map(float), max_size=30), validations=st.integers(1, 6))
def test_patience_counts_validations_since_the_last_new_minimum(losses, validations):
    waited, lowest = 0, math.inf
    for loss in losses:
        waited, lowest = (0, loss) if loss < lowest else (waited + 1, lowest)
    assert patience_rule(validations)(losses) == (waited >= validations)


@given(losses=st.lists(st.integers(0, 5), max_size=9), validations=st.integers(2, 5))
def test_window_stops_when_the_first_of_the_last_losses_is_their_minimum(losses, validations):
    rule = window.build(window.Settings(name="window", validations=validations))
    last = losses[-validations:]
    assert rule(losses) == (len(last) == validations and all(loss >= last[0] for loss in last))


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


def test_bf16_is_the_same_bytes_every_time(tiny_packed):
    plan = toy_plan("adam", precision="bf16")
    one, two = (fit(toy_model(tiny_packed, "cnn"), *splits(tiny_packed), plan) for _ in range(2))
    assert bits(one.weights) == bits(two.weights)


def test_labels_of_pixels_are_learnt(tiny_packed):
    images = tiny_packed.train.images
    split = Split(images, (images[:, 0] > 120).astype(np.uint8))
    inputs = place(split, Scaled().fixed, CPU)
    model = torch.nn.Conv2d(1, 2, 1)
    rows = fit(model, inputs, None, inputs, toy_plan("adam", epochs=20, lr=0.2)).rows
    assert rows[-1].test_accuracy > 0.95 > rows[0].train_accuracy
    loss, accuracy = measure(model, functional.cross_entropy, inputs)
    assert (loss, accuracy) == (rows[-1].test_loss, rows[-1].test_accuracy)


def test_order_by_class_shows_all_of_a_class_before_the_next(tiny_packed):
    train, _, _ = splits(tiny_packed)
    plan = toy_plan(order="by_class", epochs=2)
    seen = recorded(train)
    fit(toy_model(tiny_packed), seen, None, None, plan)
    steps = plan.steps_per_epoch(len(train))
    for epoch in (seen.drawn[:steps], seen.drawn[steps:]):
        rows = torch.cat(epoch)
        assert sorted(rows.tolist()) == list(range(len(train)))
        labels = train.labels[rows]
        assert torch.equal(labels, labels.sort().values)
        assert all((rows[labels == label].diff() > 0).all() for label in labels.unique()), "and in their own order within it"


@given(losses=st.lists(st.floats(0, 10), max_size=30))
def test_never_never_stops(losses):
    assert not never.build(never.Settings(name="never"))(losses)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_test_curve_changes_no_weight(tiny_packed, optimizer):
    train, validation, test = splits(tiny_packed)
    keys = {"kind": "cnn", "batch_norm": True, "dropout": 0.3}
    plan = toy_plan(optimizer, keep="best_validation_accuracy", epochs=5)
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


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_loss_that_is_no_longer_finite_ends_training_with_what_to_do(tiny_packed, split):
    """One huge step spoils what is measured after it; the training loss is that of the steps before."""
    train, validation, test = splits(tiny_packed)
    plan = toy_plan(lr=1e30, batch_size=16 if split == "train" else 72)
    message = rf"^the {split} loss is (nan|inf) at epoch 1, step \d\. Lower the learning rate \(optimizer\.lr\)\.$"
    with pytest.raises(TrainingError, match=message):
        fit(toy_model(tiny_packed), train, validation if split == "val" else None, test if split == "test" else None, plan)


def test_random_augmentation_draws_from_a_generator_of_its_own(tiny_packed):
    train, validation, _ = splits(tiny_packed)

    def run(**changes):
        return fit(toy_model(tiny_packed), train, validation, None, toy_plan(augmentation=Noise(), **changes))

    one = run()
    torch.rand(7)
    assert bits(run().weights) == bits(one.weights)
    assert bits(run(seed=1).weights) != bits(one.weights)
    assert bits(fit(toy_model(tiny_packed), train, validation, None, toy_plan()).weights) != bits(one.weights)


def test_augmentation_gets_every_training_batch_and_no_other(tiny_packed):
    seen = []

    class Spy(Noise):
        def random(self, images, generator):
            seen.append((images.clone(), generator.initial_seed()))
            return images

    train, validation, test = splits(tiny_packed)
    train = recorded(train)
    fit(toy_model(tiny_packed), train, validation, test, toy_plan(augmentation=Spy(), seed=5, epochs=2))
    assert len(seen) == len(train.drawn) == 10
    for (images, seed), rows in zip(seen, train.drawn, strict=True):
        assert torch.equal(images, train.pixels[rows].permute(0, 3, 1, 2))
        assert seed == 5


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_same_run_gives_the_same_bytes(tiny_packed, kind):
    train, validation, test = splits(tiny_packed)
    plan = toy_plan("adam", augmentation=Noise(), keep="best_validation_loss")
    one, two = (fit(toy_model(tiny_packed, kind, dropout=0.3), train, validation, test, plan) for _ in range(2))
    assert bits(one.weights) == bits(two.weights)
    assert one.rows == two.rows
    other = fit(toy_model(tiny_packed, kind, seed=1, dropout=0.3), train, validation, test, plan)
    assert bits(other.weights) != bits(one.weights)


def test_bytes_converted_batch_by_batch_give_the_same_bits(tiny_packed, monkeypatch):
    """As datasets do that would be too large as float32."""
    plan = toy_plan("momentum", augmentation=Noise())
    kept = splits(tiny_packed)
    monkeypatch.setattr(inference, "FLOAT_LIMIT", 0)
    converted = splits(tiny_packed)
    assert {inputs.pixels.dtype for inputs in kept} == {torch.float32}
    assert {inputs.pixels.dtype for inputs in converted} == {torch.uint8}
    one, two = (fit(toy_model(tiny_packed, "cnn", dropout=0.3), *inputs, plan) for inputs in (kept, converted))
    assert bits(one.weights) == bits(two.weights)
    assert one.rows == two.rows


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_placed_split_gives_images_and_labels_in_order(tiny_packed, monkeypatch, at_once):
    monkeypatch.setattr(inference, "PLACED_AT_ONCE", at_once)
    inputs = place(tiny_packed.test, Scaled().fixed, CPU)
    expected = torch.from_numpy(tiny_packed.test.images).float() / 255
    monkeypatch.setattr(inference, "BATCH", 7)
    images, labels = zip(*inputs.batches(), strict=True)
    assert [len(part) for part in labels] == [7] * 6 + [3]
    assert torch.equal(torch.cat(images), expected)
    assert torch.cat(labels).tolist() == tiny_packed.test.labels.tolist()


@pytest.mark.parametrize(("side", "at_most"), [(28, 1000), (32, 1000), (64, 250), (224, 20), (2048, 1)])
def test_forward_passes_take_no_more_pixels_of_large_images(side, at_most):
    """So that the memory of an evaluation does not grow with the size of the images."""
    inputs = Inputs(torch.zeros(1, 1, 1, 1).expand(1100, side, side, 3), torch.zeros(1100, dtype=torch.long), None)
    images, _ = next(inputs.batches())
    assert images.shape == (at_most, 3, side, side)


def test_images_are_placed_without_a_second_copy_of_the_split(monkeypatch):
    split = Split(np.zeros((100, 1, 8, 8), np.uint8), np.zeros(100, np.int64))
    monkeypatch.setattr(inference, "PLACED_AT_ONCE", 9)
    seen = []
    place(split, lambda images: seen.append(len(images)) or Scaled().fixed(images), CPU)
    assert seen == [1, *[9] * 11, 1]


@given(
    samples=st.integers(1, 45),
    size=st.integers(1, 50),
    at_once=st.integers(0, 12),
    started=st.floats(0, 1),
)
def test_shuffled_batches_are_rows_of_the_order_wherever_they_start(tiny_packed, samples, size, at_once, started):
    inputs = place(tiny_packed.test, Scaled().fixed, CPU)
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(samples))
    expected = torch.split(order, size)
    start = int(started * (len(expected) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "GATHER_BYTES", at_once * size * inputs.pixels[0].nbytes)
        batches = list(inputs.shuffled(order, size, start))
    assert len(batches) == len(expected) - start
    for rows, (images, labels) in zip(expected[start:], batches, strict=True):
        assert torch.equal(images, inputs.pixels[rows].permute(0, 3, 1, 2))
        assert torch.equal(labels, inputs.labels[rows])


@pytest.mark.parametrize("training", [True, False])
def test_measuring_is_the_same_in_any_batches_and_leaves_the_mode_as_it_was(tiny_packed, monkeypatch, training):
    _, _, test = splits(tiny_packed)
    model = toy_model(tiny_packed, dropout=0.5).train(training)
    loss, accuracy = measure(model, functional.cross_entropy, test)
    assert model.training is training
    logits, again = predict(model, functional.cross_entropy, test)
    assert again == loss
    expected = functional.cross_entropy(logits, test.labels).item()
    assert (loss, accuracy) == (pytest.approx(expected, rel=1e-6), float((logits.argmax(1) == test.labels).double().mean()))
    monkeypatch.setattr(inference, "BATCH", 7)
    assert measure(model, functional.cross_entropy, test) == (pytest.approx(expected, rel=1e-6), accuracy)
    torch.testing.assert_close(predict(model, functional.cross_entropy, test)[0], logits)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    pixels=st.sampled_from([(), (2,), (2, 3)]),
    limit=st.sampled_from([0, 10, 50, 1 << 24]),
    data=st.data(),
)
def test_tally_gives_the_mean_over_samples_and_the_fraction_of_hits(sizes, pixels, limit, data):
    numbers = st.floats(-5, 5, width=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "LOGITS_LIMIT", limit)
        tally, losses, hits = Tally(), [], []
        for size in sizes:
            logits = data.draw(arrays.arrays(np.float32, (size, 4, *pixels), elements=numbers))
            labels = data.draw(arrays.arrays(np.int64, (size, *pixels), elements=st.integers(0, 3)))
            loss = data.draw(numbers)
            tally.add(torch.tensor(loss), torch.from_numpy(logits), torch.from_numpy(labels))
            losses += [loss] * size
            hits += (logits.argmax(axis=1) == labels).ravel().tolist()
        found = tally.read()
    assert found == (pytest.approx(np.mean(losses), abs=1e-9), pytest.approx(np.mean(hits), abs=1e-12))


def test_show_is_told_of_every_row_and_of_steps_in_between(tiny_packed):
    told = []
    train, validation, _ = splits(tiny_packed)
    plan = toy_plan(batch_size=1, epochs=3, validate_every=150)
    trained = fit(toy_model(tiny_packed), train, validation, None, plan, show=lambda done, row: told.append((done, row)))
    assert [row for _, row in told if row] == trained.rows
    assert [done for done, row in told if row is None] == [100, 200]
    assert [done for done, _ in told] == [100, 150, 200, 216]


ROWS = [Row(1, 5, 0.1, 1.0, 0.5), Row(2, 10, 0.1, 0.5, 0.75, 0.6, 0.625)]


def test_progress_is_a_line_at_the_end_and_one_every_few_seconds_when_nobody_watches(capsys, monkeypatch):
    def run():
        with show_progress("x", 10) as show:
            show(5, ROWS[0])
            show(7, None)
            show(10, ROWS[1])
        return capsys.readouterr().out

    last = "x: step 10 of 10, epoch 2, train 0.7500, val 0.6250\n"
    assert run() == last
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1)
    assert run() == "x: step 5 of 10, epoch 1, train 0.5000\n" + last


def test_progress_is_a_bar_when_a_person_watches(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress("my_experiment", 10) as show:
        for row in (None, *ROWS):
            show(row.step if row else 2, row)
    shown = terminal.getvalue()
    assert "my_experiment" in shown
    assert "epoch 2, train 0.7500, val 0.6250" in shown


def test_history_has_a_line_a_row_with_empty_cells_for_what_is_not_watched(tmp_path):
    rows = [Row(1, 5, 0.1 + 0.2, 1.23456789, 0.5), Row(2, 10, 1e-05, 1 / 3, 1.0, 0.25, 0.75, 2.0, 2 / 3)]
    write_history(tmp_path / "history.tsv", rows)
    assert (tmp_path / "history.tsv").read_text(encoding="utf-8") == (
        "epoch\tstep\tlr\ttrain_loss\ttrain_accuracy\tval_loss\tval_accuracy\ttest_loss\ttest_accuracy\n"
        "1\t5\t0.30000000000000004\t1.234568\t0.5\t\t\t\t\n"
        "2\t10\t1e-05\t0.333333\t1.0\t0.25\t0.75\t2.0\t0.666667\n"
    )


def train_toy(packed: Packed, folder: Path, **changes) -> Outcome:
    runtime = Runtime(seed=0, device="cpu", threads=2)
    return train_experiment("x", toy_settings(**changes), runtime, packed, key="experiments.x.train", checkpoints=folder)


def with_other_images(packed: Packed, part: str) -> Packed:
    """Replace the images of the test set, of the validation split, or of what is left to train on."""
    if part == "test":
        return dataclasses.replace(packed, test=Split(255 - packed.test.images, packed.test.labels))
    rows = np.zeros(len(packed.train), dtype=bool)
    rows[packed.validation] = True
    images = packed.train.images.copy()
    images[rows if part == "validation" else ~rows] ^= 255
    return dataclasses.replace(packed, train=Split(images, packed.train.labels), digest=part)


@pytest.mark.parametrize(("part", "same"), [("test", True), ("validation", True), ("train", False)])
def test_experiment_learns_from_nothing_but_what_is_left_to_train_on(tiny_packed, tmp_path, part, same):
    weights = bits(train_toy(tiny_packed, tmp_path, test_curve=True).weights)
    other = with_other_images(tiny_packed, part)
    assert (bits(train_toy(other, tmp_path, test_curve=True).weights) == weights) is same


def test_experiment_without_validation_learns_from_the_validation_split_too(tiny_packed, tmp_path):
    weights = bits(train_toy(tiny_packed, tmp_path, validation=False).weights)
    other = with_other_images(tiny_packed, "validation")
    assert bits(train_toy(other, tmp_path, validation=False).weights) != weights


def test_summary_tells_what_was_trained(tiny_packed, tmp_path):
    stopping = {"name": "patience", "validations": 1}
    changes = {"epochs": 30, "stopping": stopping, "keep": "best_validation_loss", "test_curve": True}
    outcome = train_toy(tiny_packed, tmp_path, **changes)
    summary, rows = outcome.summary, outcome.rows
    assert summary["samples"] == {"train": 72, "val": 18, "test": 45}
    assert (summary["dataset"], summary["source"], summary["image_shape"]) == ("toy", "embedded", (1, 6, 6))
    assert summary["parameters"] == 36 * 16 + 16 + 16 * 3 + 3
    assert (summary["epochs"], summary["epochs_trained"]) == (30, len(rows))
    assert summary["stopped_early"] is (len(rows) < 30)
    assert summary["best_epoch"] == min(rows, key=lambda row: row.val_loss).epoch
    assert summary["last"]["val_loss"] == round(rows[-1].val_loss, 6)
    assert summary["best"]["val_loss"] == round(min(row.val_loss for row in rows), 6)
    assert not [name for block in ("last", "best") for name in summary[block] if name.startswith("test")]
    assert TrainSettings.model_validate(summary["settings"]) == toy_settings(**changes)
    assert outcome.timing["seconds"] > 0


def test_loss_of_pixels_is_their_mean_with_its_gradients():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    labels = torch.randint(3, (2, 4, 5), generator=generator)
    loss = toy_plan().loss
    (ours,) = torch.autograd.grad(loss(logits, labels), logits)
    (theirs,) = torch.autograd.grad(functional.cross_entropy(logits, labels), logits)
    torch.testing.assert_close(loss(logits, labels), functional.cross_entropy(logits, labels))
    torch.testing.assert_close(ours, theirs)
