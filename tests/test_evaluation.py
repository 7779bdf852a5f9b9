import csv
import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as oracle
from toolbox import never_asked

from labbook.core.errors import DataError
from labbook.core.packed import read_packed
from labbook.core.runtime import configure
from labbook.evaluation import BINS, calibration_error, classification, confusion_counts, reliability
from labbook.evaluation.classification import MISTAKES, write
from labbook.trained import load_trained

NAMES = ("zero", "one", "two", "three")
evaluate = functools.partial(classification.evaluate, ask=never_asked)


@st.composite
def predictions(draw):
    """Logits without ties, and labels; classes may be missing."""
    count = draw(st.integers(1, 40))
    logits = draw(arrays.arrays(np.float32, (count, 4), elements=st.floats(-8, 8, width=32), unique=True))
    return logits, draw(arrays.arrays(np.int64, count, elements=st.integers(0, 3)))


def one_hot(predicted, confidence=20.0):
    return (np.eye(4)[np.asarray(predicted)] * confidence).astype(np.float32)


@given(drawn=predictions())
def test_accuracies_and_confusion_are_those_of_scikit_learn(drawn):
    logits, labels = drawn
    found = evaluate(logits, labels, 0.5, NAMES)
    predicted = logits.argmax(axis=1)
    assert np.array_equal(found.confusion, oracle.confusion_matrix(labels, predicted, labels=range(4)))
    assert found.metrics["test_accuracy"] == pytest.approx(oracle.accuracy_score(labels, predicted), abs=1e-6)
    recall = oracle.recall_score(labels, predicted, labels=range(4), average=None, zero_division=np.nan)
    expected = [None if np.isnan(value) else pytest.approx(value, abs=1e-6) for value in recall]
    assert list(found.metrics["test_accuracy_per_class"].values()) == expected
    assert list(found.metrics["test_accuracy_per_class"]) == list(NAMES)
    assert found.metrics["chance_accuracy"] == pytest.approx(np.bincount(labels).max() / len(labels), abs=1e-6)


@given(drawn=predictions())
def test_confusion_rows_add_up_to_the_classes_and_columns_to_the_predictions(drawn):
    logits, labels = drawn
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
    shown = reliability(confidences, correct)
    assert [line["samples"] for line in shown] == [len(bins[index]) for index in sorted(bins)]
    weighted = sum(line["samples"] * abs(line["accuracy"] - line["confidence"]) for line in shown) / len(answers)
    assert weighted == pytest.approx(expected, abs=1e-4), "the bins are those that the error averages"


@pytest.mark.parametrize(
    ("confidence", "correct", "error"),
    [
        ([1.0] * 4, [True] * 4, 0.0),
        ([1.0] * 4, [False] * 4, 1.0),
        ([0.75] * 4, [True, True, True, False], 0.0),
        ([0.75] * 4, [True, False, False, False], 0.5),
        ([0.25, 0.95], [True, True], 0.4),
        ([0.61, 0.66], [True, False], 0.135),  # in one bin of 15
        ([0.66, 0.67], [True, False], 0.505),  # in two
    ],
)
def test_calibration_error_worked_out_by_hand(confidence, correct, error):
    assert calibration_error(np.array(confidence), np.array(correct)) == pytest.approx(error)


def test_perfect_classifier():
    labels = np.array([0, 1, 2, 3, 3, 1])
    found = evaluate(one_hot(labels), labels, 1.23456789, NAMES)
    assert found.metrics == {
        "test_loss": 1.234568,
        "test_accuracy": 1.0,
        "test_calibration_error": 0.0,
        "chance_accuracy": 0.333333,
        "test_accuracy_per_class": dict.fromkeys(NAMES, 1.0),
    }
    assert found.mistakes == []
    assert np.array_equal(found.confusion, np.diag([1, 2, 1, 2]))


def test_classifier_that_always_says_the_same():
    labels = np.array([0, 1, 1, 2])
    found = evaluate(one_hot([1] * 4), labels, 5.0, NAMES)
    assert found.metrics["test_accuracy"] == found.metrics["chance_accuracy"] == 0.5
    assert found.metrics["test_accuracy_per_class"] == {"zero": 0.0, "one": 1.0, "two": 0.0, "three": None}
    assert found.metrics["test_calibration_error"] == 0.5
    assert found.confusion.tolist() == [[0, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_class_that_the_test_set_lacks_has_no_accuracy():
    found = evaluate(one_hot([0, 3]), np.array([0, 0]), 1.0, NAMES)
    assert found.metrics["test_accuracy_per_class"] == {"zero": 0.5, "one": None, "two": None, "three": None}
    json.dumps(found.metrics, allow_nan=False)


@pytest.mark.parametrize("scale", [1e4, 3e38])
def test_huge_logits_are_no_trouble(scale):
    found = evaluate(one_hot([0, 1, 2], scale), np.array([0, 1, 0]), 1.0, NAMES)
    assert found.metrics["test_calibration_error"] == pytest.approx(1 / 3, abs=1e-6)
    assert found.mistakes == [{"index": 2, "actual": "zero", "predicted": "two", "confidence": 1.0}]


@given(drawn=predictions())
def test_mistakes_are_the_most_confident_ones_first(drawn):
    logits, labels = drawn
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
        assert mistake["confidence"] == pytest.approx(confidence[index], abs=5.1e-5)
    shown = [confidence[mistake["index"]] for mistake in mistakes]
    assert shown == pytest.approx(sorted(confidence[wrong], reverse=True)[:MISTAKES])


def random_evaluation():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (30, 1, 8, 8)).astype(np.uint8)
    return evaluate(generator.normal(size=(30, 4)).astype(np.float32), generator.integers(0, 4, 30), 1.0, NAMES), images


def read_confusion(file: Path) -> dict[tuple[str, str], int]:
    with file.open(encoding="utf-8", newline="") as opened:
        return {(row["actual"], row["predicted"]): int(row["count"]) for row in csv.DictReader(opened)}


def test_confusion_file_holds_every_pair_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluation, images = random_evaluation()
    files = write("x", evaluation, images, NAMES)
    assert files == {"confusion": "plots/confusion/x.csv", "samples": "plots/samples/x.png"}
    counts = read_confusion(Path(files["confusion"]))
    assert sum(counts.values()) == 30
    assert counts == {
        (actual, predicted): evaluation.confusion[row, column]
        for row, actual in enumerate(NAMES)
        for column, predicted in enumerate(NAMES)
    }


def test_files_have_the_same_bytes_every_time(tmp_path, monkeypatch):
    evaluation, images = random_evaluation()
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        written.append([Path(file).read_bytes() for file in write("x", evaluation, images, NAMES).values()])
    assert written[0] == written[1]
    assert written[0][1].startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_picture_is_drawn_for_few_mistakes_and_for_none(tmp_path, monkeypatch, count):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    labels = np.arange(8) % 4
    predicted = labels.copy()
    predicted[:count] = (predicted[:count] + 1) % 4
    images = np.full((8, 3, 5, 5), 128, np.uint8)
    file = write("x", evaluate(one_hot(predicted), labels, 1.0, NAMES), images, NAMES)["samples"]
    with Image.open(file) as picture:
        assert picture.size == (1080, 488)
        grey = np.count_nonzero(np.asarray(picture.convert("L")) == 128)
    assert (grey > 1000) == (count > 0)


def test_pixels_of_large_images_are_drawn_sharp(tmp_path, monkeypatch):
    """Smoothed ones blur the picture and make its file twice as large."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    red, blue = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    drawn = np.random.default_rng(0).integers(0, 2, (2, 64, 64, 1))
    images = np.where(drawn, red, blue).transpose(0, 3, 1, 2)
    file = write("x", evaluate(one_hot([1, 0]), np.array([0, 1]), 1.0, NAMES), images, NAMES)["samples"]
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    coloured = pixels[(pixels[..., 1] == 0) & (pixels.max(axis=2) > 200)]
    assert len(coloured) > 20000
    assert coloured[:, [0, 2]].min(axis=1).max() == 0


EXPERIMENT = "mnist_mlp_100"
EVALUATE = ("evaluate", EXPERIMENT, "--task", "classification", "--dataset", "mnist", "--device", "cpu", "--threads", "2")


def test_evaluate_stage_writes_figures_that_its_files_agree_with(prepared, run_stage):
    trained = run_stage("train", EXPERIMENT)
    assert (trained.returncode, trained.stderr) == (0, "")
    done = run_stage(*EVALUATE)
    assert (done.returncode, done.stderr) == (0, "")

    metrics = json.loads(Path(f"metrics/{EXPERIMENT}.json").read_text(encoding="utf-8"))
    card = json.loads(Path(f"models/cards/{EXPERIMENT}.json").read_text(encoding="utf-8"))
    summary = json.loads(Path(f"models/summaries/{EXPERIMENT}.json").read_text(encoding="utf-8"))
    assert card == summary | {"metrics": metrics, **{key: card[key] for key in ("mistakes", "reliability", "layers")}}
    assert [layer["kind"] for layer in card["layers"]] == ["Flatten", "Linear", "ReLU", "Linear"]
    assert sum(layer["parameters"] for layer in card["layers"]) == card["parameters"]
    assert sum(line["samples"] for line in card["reliability"]) == card["samples"]["test"]
    assert {key: metrics[key] for key in summary["best"]} == summary["best"]
    assert metrics["epochs_trained"] == 2
    assert metrics["test_accuracy"] > 3 * metrics["chance_accuracy"]

    packed = read_packed(prepared / "data/processed/mnist.safetensors")
    counts = read_confusion(Path(metrics["confusion"]))
    assert sum(counts.values()) == len(packed.test) == summary["samples"]["test"]
    hits = sum(count for (actual, predicted), count in counts.items() if actual == predicted)
    assert metrics["test_accuracy"] == pytest.approx(hits / len(packed.test), abs=1e-6)
    assert Path(metrics["samples"]).read_bytes().startswith(b"\x89PNG")
    for mistake in card["mistakes"]:
        assert str(packed.test.labels[mistake["index"]]) == mistake["actual"] != mistake["predicted"]

    weights = Path(f"models/weights/{EXPERIMENT}.safetensors")
    good = weights.read_bytes()
    device = configure("cpu", 2, seed=0)
    assert not load_trained(EXPERIMENT, packed, device)[1].model.training
    mend = rf"Run `dvc repro train@{EXPERIMENT}`\.$"
    for data in (b"", good[:1000], good[:-4], b"\xff" * 50):
        weights.write_bytes(data)
        with pytest.raises(DataError, match=rf"{EXPERIMENT}\.safetensors: damaged, or of another model .*{mend}"):
            load_trained(EXPERIMENT, packed, device)
    weights.unlink()
    with pytest.raises(DataError, match=rf"{EXPERIMENT}\.safetensors: not found\. {mend}"):
        load_trained(EXPERIMENT, packed, device)
    for text in ("{", "[]", "{}", json.dumps(summary | {"settings": {}})):
        Path(f"models/summaries/{EXPERIMENT}.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=rf"{EXPERIMENT}\.json: damaged, .*{mend}"):
            load_trained(EXPERIMENT, packed, device)


def test_evaluate_stage_without_weights_ends_with_one_message(prepared, run_stage):
    done = run_stage(*EVALUATE)
    assert done.returncode == 1
    message = f"models/summaries/{EXPERIMENT}.json: not found. Run `dvc repro train@{EXPERIMENT}`."
    assert done.stderr == f"error: {message}\n"
    assert not Path("metrics").exists()
