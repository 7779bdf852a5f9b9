"""Metrics of a classifier of points, and the shape of its decision boundary."""

import json

import numpy as np
import pytest
import torch
from toolbox import CPU, toy_settings, unused_compute_logits

from labbook.config.train import Runtime
from labbook.errors import ParamsError
from labbook.evaluation.evaluate import evaluate_model
from labbook.evaluation.restore import restore
from labbook.evaluation.tasks import toy2d
from labbook.evaluation.tasks.toy2d import SIDE, boundary_metrics, evaluate
from labbook.training.experiment import train_experiment

Y, X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
CLASSES = ("below", "above")


def polygon(corners: int) -> np.ndarray:
    """Return margins that are zero on a regular polygon."""
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.max([X * np.cos(angle) + Y * np.sin(angle) for angle in angles], axis=0) - 60


def test_circle_turns_uniformly():
    metrics = boundary_metrics(np.hypot(X, Y) - 80)
    assert metrics["boundary_pieces"] == 1
    assert metrics["boundary_turning"] == pytest.approx(360, abs=8)
    assert metrics["boundary_corners"] == pytest.approx(0.1, abs=0.06)


@pytest.mark.parametrize("corners", [3, 5, 9])
def test_polygon_turns_at_its_corners(corners):
    metrics = boundary_metrics(polygon(corners))
    assert metrics["boundary_pieces"] == 1
    assert metrics["boundary_turning"] == pytest.approx(360, abs=2)
    assert metrics["boundary_corners"] > 0.85


@pytest.mark.parametrize("angle", [0, 20, 45, 73, 90])
def test_line_does_not_turn(angle):
    margins = X * np.cos(np.radians(angle)) + Y * np.sin(np.radians(angle)) - 7.3
    metrics = boundary_metrics(margins)
    assert metrics["boundary_pieces"] == 1
    assert metrics["boundary_turning"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("margins", [np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), 0.2), -1 - X**2])
def test_single_class_has_no_boundary(margins):
    assert boundary_metrics(margins) == {"boundary_pieces": 0, "boundary_turning": None, "boundary_corners": None}


def test_metrics_include_every_piece():
    metrics = boundary_metrics(np.abs(X) - 40)
    assert metrics["boundary_pieces"] == 2
    assert metrics["boundary_turning"] == pytest.approx(0, abs=0.01)


def compute_logits(images: np.ndarray) -> np.ndarray:
    """Return logits of a model that predicts the second class if x > 100."""
    x = images[:, 0, 0, 0].astype(np.float32)
    return np.stack([np.zeros_like(x), x - 100], axis=1)


def evaluate_random_points():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 2, 1, 1)).astype(np.uint8)
    labels = (images[:, 0, 0, 0] > 120).astype(np.int64)
    return evaluate(compute_logits(images), labels, 0.25, CLASSES, compute_logits), images, labels


def test_evaluation_has_metrics_of_the_classifier_and_its_boundary():
    evaluation, images, labels = evaluate_random_points()
    x = images[:, 0, 0, 0]
    assert evaluation.metrics["test_accuracy"] == pytest.approx(((x > 100) == (labels == 1)).mean(), abs=1e-6)
    assert evaluation.metrics["test_loss"] == 0.25
    assert evaluation.confusion.tolist() == [[(x <= 100).sum(), ((x > 100) & (x <= 120)).sum()], [0, (x > 120).sum()]]
    assert (evaluation.metrics["boundary_pieces"], evaluation.metrics["boundary_turning"]) == (1, 0)
    assert evaluation.mistakes == []
    json.dumps(evaluation.metrics, allow_nan=False)
    assert evaluation.predictions["predicted"].tolist() == (x > 100).tolist()
    assert (evaluation.labels == labels).all()
    assert evaluation.probability_map.shape == (SIDE, SIDE)
    assert (evaluation.probability_map[:, 101:] > 0.5).all(), "x is the column"
    assert (evaluation.probability_map[:, :100] < 0.5).all()


def test_more_than_two_classes_raise_params_error():
    with pytest.raises(ParamsError, match="task: toy2d is for two classes, but the dataset has 3"):
        evaluate(np.zeros((1, 3), np.float32), np.zeros(1, np.int64), 1.0, ("a", "b", "c"), unused_compute_logits)


@pytest.mark.usefixtures("workdir")  # provides the file of empty pretrained weights
def test_probability_map_contains_the_outputs_of_the_model(rings_packed):
    settings = toy_settings(
        inputs={"dataset": "rings", "pretrained": "none"}, task="toy2d", validation=False, batch_size=300, epochs=1,
        preprocess={"mean": 0.5, "std": 0.25}, optimizer={"name": "SGD", "lr": 1.0},
    )  # fmt: skip
    result = train_experiment("x", settings, Runtime(seed=0, device="cpu"), rings_packed, key="x")
    restored = restore(settings, rings_packed, result.weights, CPU)
    evaluation = evaluate_model(toy2d, restored, rings_packed, CPU)
    point = torch.tensor([200, 31], dtype=torch.uint8).reshape(1, 2, 1, 1)
    probability = restored.model(restored.convert(point)).detach().softmax(1)[0, 1]
    assert evaluation.probability_map[31, 200] == pytest.approx(float(probability), abs=1e-6)
