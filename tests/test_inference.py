"""Splits on the device, their batches, and the metrics of forward passes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from toolbox import CPU, UNIT, splits, toy_model
from torch.nn import functional

from labbook.config.images import Preprocess
from labbook.data.packed import Split
from labbook.training import inference
from labbook.training.inference import DeviceDataset, RunningMetrics, evaluate, model_shape, predict, to_device
from labbook.training.preprocessing import Preprocessing


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_device_dataset_yields_images_and_labels_in_order(tiny_packed, monkeypatch, at_once):
    monkeypatch.setattr(inference, "CONVERTED_AT_ONCE", at_once)
    inputs = to_device(tiny_packed.test, UNIT, CPU)
    expected = torch.from_numpy(tiny_packed.test.images).float() / 255
    monkeypatch.setattr(inference, "BATCH", 7)
    images, labels = zip(*inputs.batches(), strict=True)
    assert [len(part) for part in labels] == [7] * 6 + [3]
    assert torch.equal(torch.cat(images), expected)
    assert torch.cat(labels).tolist() == tiny_packed.test.labels.tolist()


@pytest.mark.parametrize(("side", "at_most"), [(28, 1000), (32, 1000), (64, 250), (224, 20), (2048, 1)])
def test_batch_size_decreases_with_image_size(side, at_most):
    """The memory of an evaluation must not grow with the size of the images."""
    inputs = DeviceDataset(torch.zeros(1, 1, 1, 1).expand(1100, side, side, 3), torch.zeros(1100, dtype=torch.long), None)
    images, _ = next(inputs.batches())
    assert images.shape == (at_most, 3, side, side)


def test_images_are_converted_in_parts(monkeypatch):
    split = Split(np.zeros((100, 1, 8, 8), np.uint8), np.zeros(100, np.int64))
    monkeypatch.setattr(inference, "CONVERTED_AT_ONCE", 9)
    sizes = []
    to_device(split, lambda images: sizes.append(len(images)) or UNIT(images), CPU)
    assert sizes == [1, *[9] * 11, 1]


def test_shape_of_a_models_inputs_follows_the_resize():
    assert model_shape(UNIT, (1, 28, 20)) == (1, 28, 20)
    assert model_shape(Preprocessing(Preprocess(resize=5)), (3, 28, 20)) == (3, 5, 5)


@given(samples=st.integers(1, 45), size=st.integers(1, 50), at_once=st.integers(0, 12), started=st.floats(0, 1))
def test_batches_follow_the_order_from_any_start(tiny_packed, samples, size, at_once, started):
    inputs = to_device(tiny_packed.test, UNIT, CPU)
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(samples))
    expected = torch.split(order, size)
    start = int(started * (len(expected) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "GATHER_BYTES", at_once * size * inputs.pixels[0].nbytes)
        batches = list(inputs.iter_batches(order, size, start))
    assert len(batches) == len(expected) - start
    for rows, (images, labels) in zip(expected[start:], batches, strict=True):
        assert torch.equal(images, inputs.pixels[rows].permute(0, 3, 1, 2))
        assert torch.equal(labels, inputs.labels[rows])


@pytest.mark.parametrize("training", [True, False])
def test_metrics_use_evaluation_mode_do_not_depend_on_batch_size_and_restore_the_mode(tiny_packed, monkeypatch, training):
    _, _, test = splits(tiny_packed)
    model = toy_model(tiny_packed, "cnn", dropout=0.5, batch_norm=True).train(training)
    loss, accuracy = evaluate(model, functional.cross_entropy, test)
    assert model.training is training
    logits, predict_loss = predict(model, functional.cross_entropy, test)
    assert predict_loss == loss
    model.eval()
    with torch.no_grad():
        reference = model(test.pixels.permute(0, 3, 1, 2))
    torch.testing.assert_close(logits, reference)
    expected = functional.cross_entropy(reference, test.labels).item()
    assert (loss, accuracy) == (pytest.approx(expected, rel=1e-6), float((reference.argmax(1) == test.labels).double().mean()))
    monkeypatch.setattr(inference, "BATCH", 7)
    assert evaluate(model, functional.cross_entropy, test) == (pytest.approx(expected, rel=1e-6), accuracy)
    torch.testing.assert_close(predict(model, functional.cross_entropy, test)[0], reference)


class LossError(Exception):
    """An error in the loss."""


@pytest.mark.parametrize("measure", [evaluate, predict])
def test_mode_is_restored_after_an_error(tiny_packed, measure):
    _, _, test = splits(tiny_packed)
    model = toy_model(tiny_packed).train()

    def loss(logits, labels):
        raise LossError

    with pytest.raises(LossError) as raised:  # keeps the frames of the error alive
        measure(model, loss, test)
    assert model.training
    assert torch.is_grad_enabled()
    assert raised.value


def test_logits_of_an_evaluation_require_no_gradient(tiny_packed):
    _, _, test = splits(tiny_packed)
    requires_grad = []

    def loss(logits, labels):
        requires_grad.append(logits.requires_grad)
        return functional.cross_entropy(logits, labels)

    evaluate(toy_model(tiny_packed), loss, test)
    assert requires_grad == [False]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    saved_after=st.integers(0, 8),
    limit=st.sampled_from([0, 10, 1 << 24]),
)
def test_restored_metrics_have_the_same_bits(sizes, saved_after, limit):
    generator = torch.Generator().manual_seed(len(sizes))
    batches = [
        (torch.rand((), generator=generator), torch.rand(size, 4, generator=generator), torch.arange(size) % 4)
        for size in sizes
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "LOGITS_LIMIT", limit)
        whole, first, second = RunningMetrics(), RunningMetrics(), RunningMetrics()
        for batch in batches:
            whole.add(*batch)
        for batch in batches[:saved_after]:
            first.add(*batch)
        second.load_state(first.state(), CPU)
        for metrics in (first, second):
            for batch in batches[saved_after:]:
                metrics.add(*batch)
        assert first.read() == second.read() == whole.read()


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    pixels=st.sampled_from([(), (2,), (2, 3)]),
    limit=st.sampled_from([0, 10, 50, 1 << 24]),
    data=st.data(),
)
def test_running_metrics_are_mean_loss_and_fraction_of_hits(sizes, pixels, limit, data):
    numbers = st.floats(-5, 5, width=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "LOGITS_LIMIT", limit)
        metrics, losses, hits = RunningMetrics(), [], []
        for size in sizes:
            logits = data.draw(arrays.arrays(np.float32, (size, 4, *pixels), elements=numbers))
            labels = data.draw(arrays.arrays(np.int64, (size, *pixels), elements=st.integers(0, 3)))
            loss = data.draw(numbers)
            metrics.add(torch.tensor(loss), torch.from_numpy(logits), torch.from_numpy(labels))
            losses += [loss] * size
            hits += (logits.argmax(axis=1) == labels).ravel().tolist()
        found = metrics.read()
    assert found == (pytest.approx(np.mean(losses), abs=1e-9), pytest.approx(np.mean(hits), abs=1e-12))
