"""Metrics of a classifier, means over seeds, and the evaluate stage."""

import csv
import dataclasses
import functools
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special
from sklearn import metrics as reference
from toolbox import unused_compute_logits

from labbook.data.packed import PackedDataset, read_packed
from labbook.errors import DataError
from labbook.evaluation import (
    BINS,
    calibration_error,
    confusion_counts,
    encode_predictions,
    probabilities,
    reliability_bins,
    seed_predictions,
    stack_predictions,
    write_confusion,
)
from labbook.evaluation.evaluate import METRICS, evaluate_experiment, flat_metrics
from labbook.evaluation.predictions import recompute_confusion, recompute_diagnostics, recompute_metrics
from labbook.evaluation.restore import read_summary, restore_seed
from labbook.evaluation.tasks import classification
from labbook.evaluation.tasks.classification import MISTAKES
from labbook.training.runtime import configure

NAMES = ("zero", "one", "two", "three")
evaluate = functools.partial(classification.evaluate, compute_logits=unused_compute_logits)


@st.composite
def predictions(draw):
    """Draw logits without ties, and labels; classes may be missing."""
    count = draw(st.integers(1, 40))
    logits = draw(arrays.arrays(np.float32, (count, 4), elements=st.floats(-8, 8, width=32), unique=True))
    return logits, draw(arrays.arrays(np.int64, count, elements=st.integers(0, 3)))


def one_hot(predicted, confidence=20.0):
    return (np.eye(4)[np.asarray(predicted)] * confidence).astype(np.float32)


@given(sample=predictions())
def test_accuracies_and_confusion_match_scikit_learn(sample):
    logits, labels = sample
    evaluation = evaluate(logits, labels, 0.5, NAMES)
    predicted = logits.argmax(axis=1)
    assert np.array_equal(evaluation.confusion, reference.confusion_matrix(labels, predicted, labels=range(4)))
    assert evaluation.metrics["test_accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted), abs=1e-6)
    recall = reference.recall_score(labels, predicted, labels=range(4), average=None, zero_division=np.nan)
    expected = [None if np.isnan(value) else pytest.approx(value, abs=1e-6) for value in recall]
    assert list(evaluation.metrics["test_accuracy_per_class"].values()) == expected
    assert list(evaluation.metrics["test_accuracy_per_class"]) == list(NAMES)
    assert evaluation.metrics["chance_accuracy"] == pytest.approx(np.bincount(labels).max() / len(labels), abs=1e-6)


def test_probabilities_are_computed_in_double_precision():
    logits = np.random.default_rng(0).normal(scale=4, size=(50, 4)).astype(np.float32)
    expected = special.softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(probabilities(logits), expected, rtol=1e-13)
    stored = encode_predictions(logits, np.zeros(50, np.int64))["confidence"]
    assert stored.tolist() == np.rint(65535 * expected.max(axis=1)).tolist()


@given(sample=predictions())
def test_confusion_rows_add_up_to_the_classes_and_columns_to_the_predictions(sample):
    logits, labels = sample
    predicted = logits.argmax(axis=1)
    counts = confusion_counts(labels, predicted, 4)
    assert np.array_equal(counts.sum(axis=1), np.bincount(labels, minlength=4))
    assert np.array_equal(counts.sum(axis=0), np.bincount(predicted, minlength=4))
    assert np.trace(counts) == np.count_nonzero(labels == predicted)


@given(answers=st.lists(st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 1 / 15, 0.2, 0.6, 1.0]), st.booleans()), min_size=1))
def test_calibration_error_is_the_weighted_gap_of_every_bin(answers):
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in answers:
        bins.setdefault(min(math.floor(confidence * BINS), BINS - 1), []).append((confidence, right))
    expected = 0.0
    for members in bins.values():
        accuracy = sum(right for _, right in members) / len(members)
        confidence = sum(confidence for confidence, _ in members) / len(members)
        expected += len(members) / len(answers) * abs(accuracy - confidence)
    confidences, correct = (np.array(values) for values in zip(*answers, strict=True))
    assert calibration_error(confidences, correct) == pytest.approx(expected, abs=1e-12)
    assert 0 <= calibration_error(confidences, correct) <= 1
    shown = reliability_bins(confidences, correct)
    assert [line["samples"] for line in shown] == [len(bins[index]) for index in sorted(bins)]
    weighted = sum(line["samples"] * abs(line["accuracy"] - line["confidence"]) for line in shown) / len(answers)
    assert weighted == pytest.approx(expected, abs=1e-4), "the calibration error averages these bins"


@pytest.mark.parametrize(
    ("confidence", "correct", "error"),
    [
        ([1.0] * 4, [True] * 4, 0.0),
        ([1.0] * 4, [False] * 4, 1.0),
        ([0.75] * 4, [True, True, True, False], 0.0),
        ([0.75] * 4, [True, False, False, False], 0.5),
        ([0.25, 0.95], [True, True], 0.4),
        ([0.61, 0.66], [True, False], 0.135),  # the same bin of 15
        ([0.66, 0.67], [True, False], 0.505),  # two bins
    ],
)
def test_calibration_error_of_small_examples(confidence, correct, error):
    assert calibration_error(np.array(confidence), np.array(correct)) == pytest.approx(error)


def test_perfect_classifier():
    labels = np.array([0, 1, 2, 3, 3, 1])
    evaluation = evaluate(one_hot(labels), labels, 1.23456789, NAMES)
    assert evaluation.metrics == {
        "test_loss": 1.234568,
        "test_accuracy": 1.0,
        "test_ece": 0.0,
        "chance_accuracy": 0.333333,
        "test_accuracy_per_class": dict.fromkeys(NAMES, 1.0),
    }
    assert evaluation.mistakes == []
    assert np.array_equal(evaluation.confusion, np.diag([1, 2, 1, 2]))


def test_constant_classifier():
    labels = np.array([0, 1, 1, 2])
    evaluation = evaluate(one_hot([1] * 4), labels, 5.0, NAMES)
    assert evaluation.metrics["test_accuracy"] == evaluation.metrics["chance_accuracy"] == 0.5
    assert evaluation.metrics["test_accuracy_per_class"] == {"zero": 0.0, "one": 1.0, "two": 0.0, "three": None}
    assert evaluation.metrics["test_ece"] == 0.5
    assert evaluation.confusion.tolist() == [[0, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_class_without_test_samples_has_no_accuracy():
    evaluation = evaluate(one_hot([0, 3]), np.array([0, 0]), 1.0, NAMES)
    assert evaluation.metrics["test_accuracy_per_class"] == {"zero": 0.5, "one": None, "two": None, "three": None}
    json.dumps(evaluation.metrics, allow_nan=False)


@pytest.mark.parametrize("scale", [1e4, 3e38])
def test_huge_logits_do_not_overflow(scale):
    evaluation = evaluate(one_hot([0, 1, 2], scale), np.array([0, 1, 0]), 1.0, NAMES)
    assert evaluation.metrics["test_ece"] == pytest.approx(1 / 3, abs=1e-6)
    assert evaluation.mistakes == [{"index": 2, "actual": "zero", "predicted": "two", "confidence": 1.0}]


@given(sample=predictions())
def test_mistakes_are_the_most_confident_ones_first(sample):
    logits, labels = sample
    odds = np.exp(logits.astype(np.float64))
    confidence = (odds / odds.sum(axis=1, keepdims=True)).max(axis=1)
    wrong = [index for index in range(len(labels)) if logits[index].argmax() != labels[index]]
    mistakes = evaluate(logits, labels, 1.0, NAMES).mistakes
    assert len(mistakes) == min(MISTAKES, len(wrong))
    for mistake in mistakes:
        index = mistake["index"]
        assert index in wrong
        assert mistake["actual"] == NAMES[labels[index]]
        assert mistake["predicted"] == NAMES[logits[index].argmax()]
        assert mistake["confidence"] == pytest.approx(confidence[index], abs=6e-5)
    shown = [confidence[mistake["index"]] for mistake in mistakes]
    assert shown == pytest.approx(sorted(confidence[wrong], reverse=True)[:MISTAKES], abs=1 / 65535)


def test_equally_confident_mistakes_are_listed_in_the_order_of_the_test_set():
    """Twelve of thirteen predictions are wrong with equal confidence: index 2 is right, and the last two are not listed."""
    labels = np.array([0, 0, 1, *[0] * 10])
    evaluation = evaluate(one_hot([1] * 13), labels, 1.0, NAMES)
    assert [mistake["index"] for mistake in evaluation.mistakes] == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]


def read_counts(file: Path) -> dict[tuple[str, str], int]:
    with file.open(encoding="utf-8", newline="") as opened:
        return {(row["actual"], row["predicted"]): int(row["count"]) for row in csv.DictReader(opened)}


def test_confusion_file_contains_every_pair_once_with_the_actual_class_first(tmp_path):
    counts = np.arange(16).reshape(4, 4)
    write_confusion(tmp_path / "x.csv", counts, NAMES)
    assert read_counts(tmp_path / "x.csv") == {
        (actual, predicted): 4 * row + column for row, actual in enumerate(NAMES) for column, predicted in enumerate(NAMES)
    }


def test_predictions_are_stored_with_their_confidence():
    logits = np.log([[0.6, 0.2, 0.2], [0.125, 0.125, 0.75], [1e-9, 1.0, 1e-9]]).astype(np.float32)
    stored = encode_predictions(logits, np.array([1, 2, 1]))
    assert stored["labels"].tolist() == [1, 2, 1]
    assert stored["predicted"].tolist() == [0, 2, 1]
    assert stored["confidence"].tolist() == [39321, 49151, 65535], "rounded to multiples of 1/65535"
    assert [stored[key].dtype for key in ("labels", "predicted", "confidence")] == [np.uint8, np.uint8, np.uint16]
    large = encode_predictions(np.eye(300, dtype=np.float32), np.arange(300)[::-1])
    assert (large["predicted"].tolist(), large["labels"].tolist()) == (list(range(300)), list(range(300))[::-1])


def test_predictions_of_several_seeds_are_stacked_and_labels_stored_once():
    labels = np.array([0, 1], dtype=np.uint8)
    seeds = [{"labels": labels, "predicted": np.array([seed, 1], dtype=np.uint8)} for seed in range(3)]
    stacked = stack_predictions(seeds)
    assert stacked["labels"].tolist() == [0, 1]
    assert stacked["predicted"].tolist() == [[0, 1], [1, 1], [2, 1]]
    assert seed_predictions(stacked, 2)["predicted"].tolist() == [2, 1]
    assert seed_predictions(stacked, 2)["labels"].tolist() == [0, 1]


@given(sample=predictions())
def test_all_metrics_except_the_loss_are_recomputed_from_the_predictions(sample):
    logits, labels = sample
    evaluation = evaluate(logits, labels, 0.5, NAMES)
    stored = stack_predictions([encode_predictions(-logits, labels), evaluation.predictions])
    assert {"test_loss": 0.5, **recompute_metrics(stored, 1, NAMES)} == evaluation.metrics
    assert np.array_equal(recompute_confusion(stored, 1, NAMES), evaluation.confusion)
    shown = recompute_diagnostics(stack_predictions([evaluation.predictions]), "classification", NAMES)
    assert (shown["mistakes"], shown["reliability"]) == (evaluation.mistakes, evaluation.reliability)


def test_a_card_shows_mistakes_and_calibration_of_the_first_seed():
    """The first seed misclassifies the first sample, the second seed the last one."""
    labels = np.array([0, 1, 2])
    stored = stack_predictions([encode_predictions(one_hot(predicted), labels) for predicted in ([3, 1, 2], [0, 1, 3])])
    shown = recompute_diagnostics(stored, "classification", NAMES)
    assert shown["mistakes"] == [{"index": 0, "actual": "zero", "predicted": "three", "confidence": 1.0}]
    stored["confidence"][0] = 0
    assert [line["confidence"] for line in recompute_diagnostics(stored, "classification", NAMES)["reliability"]] == [0.0]


def make_seed(test_accuracy: float, **changes) -> dict:
    test = {"test_accuracy": test_accuracy, "test_loss": 0.5 * test_accuracy, "test_ece": 0.1 * test_accuracy}
    return {"train_accuracy": 0.95, "val_accuracy": 0.85, "test": test} | changes


def test_metrics_of_an_experiment_are_means_over_its_seeds():
    seeds = [make_seed(0.8), make_seed(0.6, train_accuracy=0.75, val_accuracy=0.65)]
    assert flat_metrics(seeds) == {
        "test_accuracy": 0.7,
        "test_sd": 0.141421,  # √0.02
        "test_loss": 0.35,
        "test_ece": 0.07,
        "val_accuracy": 0.75,
        "train_accuracy": 0.85,
        "test_miou": None,
    }


def test_metrics_of_every_experiment_have_the_same_keys():
    one = flat_metrics([make_seed(0.8, val_accuracy=None)])
    segmenter = flat_metrics([{"train_accuracy": 0.9, "val_accuracy": None, "test": {
        "test_accuracy": 0.8, "test_loss": 0.5, "test_miou": 0.25}}])  # fmt: skip
    assert tuple(one) == tuple(segmenter) == METRICS
    assert (one["test_sd"], one["val_accuracy"], one["test_miou"]) == (None, None, None)
    assert (segmenter["test_ece"], segmenter["test_miou"]) == (None, 0.25)


def test_a_metric_that_a_seed_lacks_has_no_mean():
    evaluation = flat_metrics([make_seed(0.8), make_seed(0.6, val_accuracy=None)])
    assert (evaluation["val_accuracy"], evaluation["train_accuracy"]) == (None, 0.95)


EXPERIMENT = "mnist_mlp_100"
EVALUATE = ("evaluate", EXPERIMENT, "--device", "cpu")


def test_evaluate_stage_writes_consistent_files(prepared, run_stage, edit_params):
    edit_params(lambda values: values["experiments"][EXPERIMENT]["train"].update(seeds=2))
    for stage in (("train", EXPERIMENT), EVALUATE):
        completed = run_stage(*stage)
        assert (completed.returncode, completed.stderr) == (0, "")

    metrics = json.loads(Path(f"metrics/{EXPERIMENT}.json").read_text(encoding="utf-8"))
    folder = Path(f"models/cards/{EXPERIMENT}")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    summary = json.loads(Path(f"models/trained/{EXPERIMENT}/summary.json").read_text(encoding="utf-8"))
    assert {key: value for key, value in card.items() if key in summary and key != "seeds"} == {
        key: value for key, value in summary.items() if key != "seeds"
    }
    assert [{key: value for key, value in seed.items() if key != "test"} for seed in card["seeds"]] == summary["seeds"]
    assert card["metrics"] == card["seeds"][0]["test"] != card["seeds"][1]["test"]
    files = [Path(f"models/trained/{EXPERIMENT}/seed-{seed}.safetensors") for seed in (0, 1)]
    assert card["weights"] == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert [layer["kind"] for layer in card["layers"]] == ["Flatten", "Linear", "ReLU", "Linear"]
    assert sum(layer["parameters"] for layer in card["layers"]) == card["parameters"]
    assert sum(line["samples"] for line in card["reliability"]) == card["samples"]["test"]

    accuracies = [seed["test"]["test_accuracy"] for seed in card["seeds"]]
    assert metrics["test_accuracy"] == pytest.approx(sum(accuracies) / 2, abs=1e-6)
    assert metrics["test_sd"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / math.sqrt(2), abs=1e-6)
    assert min(accuracies) > 3 * card["metrics"]["chance_accuracy"]

    packed = read_packed(prepared / "data/processed/mnist.safetensors")
    counts = read_counts(Path(f"plots/confusion/{EXPERIMENT}.csv"))
    assert sum(counts.values()) == len(packed.test) == summary["samples"]["test"]
    hits = sum(count for (actual, predicted), count in counts.items() if actual == predicted)
    assert accuracies[0] == pytest.approx(hits / len(packed.test), abs=1e-6), "the counts are those of the first seed"
    with np.load(folder / "predictions.npz") as predictions:
        assert predictions["predicted"].shape == predictions["confidence"].shape == (2, len(packed.test))
        right = (predictions["predicted"] == packed.test.labels).mean(axis=1)
        assert (predictions["labels"] == packed.test.labels).all()
    assert right == pytest.approx(accuracies, abs=1e-6)
    for mistake in card["mistakes"]:
        assert str(packed.test.labels[mistake["index"]]) == mistake["actual"] != mistake["predicted"]
    assert not Path("results").exists(), "the ledger contains only results on official data"
    assert Path(f"plots/samples/{EXPERIMENT}.png").read_bytes().startswith(b"\x89PNG")
    assert all((folder / f"{kind}.pdf").read_bytes().startswith(b"%PDF") for kind in ("confusion", "samples"))

    check_messages_about_damaged_files(packed, summary)


def check_messages_about_damaged_files(packed: PackedDataset, summary: dict) -> None:
    device, fix = configure("cpu", 2, seed=0), rf"Run `dvc repro train@{EXPERIMENT}`\.$"
    _, settings = read_summary(EXPERIMENT)
    restored = restore_seed(EXPERIMENT, 1, settings, packed, device)
    assert not restored.model.training
    other = dataclasses.replace(packed, digest="another")
    with pytest.raises(DataError, match=f"{EXPERIMENT} was trained on a different version of mnist. {fix}"):
        evaluate_experiment(EXPERIMENT, summary, settings, other, device)
    weights = Path(f"models/trained/{EXPERIMENT}/seed-1.safetensors")
    good = weights.read_bytes()
    for data in (b"", good[:1000], good[:-4], b"\xff" * 50):
        weights.write_bytes(data)
        with pytest.raises(DataError, match=rf"seed-1\.safetensors: damaged, or weights of another model .*{fix}"):
            restore_seed(EXPERIMENT, 1, settings, packed, device)
    weights.unlink()
    with pytest.raises(DataError, match=rf"seed-1\.safetensors: not found\. {fix}"):
        restore_seed(EXPERIMENT, 1, settings, packed, device)
    for text in ("{", "[]", "{}", json.dumps(summary | {"settings": {}})):
        Path(f"models/trained/{EXPERIMENT}/summary.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=rf"summary\.json: damaged, .*{fix}"):
            read_summary(EXPERIMENT)


def test_evaluate_stage_without_weights_ends_with_one_message(prepared, run_stage):
    completed = run_stage(*EVALUATE)
    assert completed.returncode == 1
    message = f"models/trained/{EXPERIMENT}/summary.json: not found. Run `dvc repro train@{EXPERIMENT}`."
    assert completed.stderr == f"error: {message}\n"
    assert not Path("metrics").exists()
