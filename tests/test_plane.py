"""Metrics of a classifier of points: what its boundary is like."""

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
    """Margins that are zero on a regular polygon."""
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.max([X * np.cos(angle) + Y * np.sin(angle) for angle in angles], axis=0) - 60


def test_circle_bends_everywhere():
    found = boundary_metrics(np.hypot(X, Y) - 80)
    assert found["boundary_pieces"] == 1
    assert found["boundary_turning"] == pytest.approx(360, abs=8)
    assert found["boundary_corners"] == pytest.approx(0.1, abs=0.06)


@pytest.mark.parametrize("corners", [3, 5, 9])
def test_polygon_bends_in_few_places(corners):
    found = boundary_metrics(polygon(corners))
    assert found["boundary_pieces"] == 1
    assert found["boundary_turning"] == pytest.approx(360, abs=2)
    assert found["boundary_corners"] > 0.85


@pytest.mark.parametrize("angle", [0, 20, 45, 73, 90])
def test_line_bends_nowhere(angle):
    margins = X * np.cos(np.radians(angle)) + Y * np.sin(np.radians(angle)) - 7.3
    found = boundary_metrics(margins)
    assert found["boundary_pieces"] == 1
    assert found["boundary_turning"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("margins", [np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), 0.2), -1 - X**2])
def test_one_class_everywhere_is_no_boundary(margins):
    assert boundary_metrics(margins) == {"boundary_pieces": 0, "boundary_turning": None, "boundary_corners": None}


def test_every_piece_counts():
    found = boundary_metrics(np.abs(X) - 40)
    assert found["boundary_pieces"] == 2
    assert found["boundary_turning"] == pytest.approx(0, abs=0.01)


def asked(images: np.ndarray) -> np.ndarray:
    """A model for which the second class lies to the right of the byte 100, whatever y is."""
    x = images[:, 0, 0, 0].astype(np.float32)
    return np.stack([np.zeros_like(x), x - 100], axis=1)


def evaluation():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 2, 1, 1)).astype(np.uint8)
    labels = (images[:, 0, 0, 0] > 120).astype(np.int64)
    return evaluate(asked(images), labels, 0.25, CLASSES, asked), images, labels


def test_metrics_are_those_of_a_classifier_and_of_its_boundary():
    found, images, labels = evaluation()
    x = images[:, 0, 0, 0]
    assert found.metrics["test_accuracy"] == pytest.approx(((x > 100) == (labels == 1)).mean(), abs=1e-6)
    assert found.metrics["test_loss"] == 0.25
    assert found.confusion.tolist() == [[(x <= 100).sum(), ((x > 100) & (x <= 120)).sum()], [0, (x > 120).sum()]]
    assert (found.metrics["boundary_pieces"], found.metrics["boundary_turning"]) == (1, 0)
    assert found.mistakes == []
    json.dumps(found.metrics, allow_nan=False)
    assert found.predictions["predicted"].tolist() == (x > 100).tolist()
    assert (found.labels == labels).all()
    assert found.probability_map.shape == (SIDE, SIDE)
    assert (found.probability_map[:, 101:] > 0.5).all(), "x by column"
    assert (found.probability_map[:, :100] < 0.5).all()


def test_more_than_two_classes_are_refused():
    with pytest.raises(ParamsError, match="task: toy2d is for two classes, but the dataset has 3"):
        evaluate(np.zeros((1, 3), np.float32), np.zeros(1, np.int64), 1.0, ("a", "b", "c"), unused_compute_logits)


@pytest.mark.usefixtures("workdir")  # for the file that says that nothing was trained before
def test_the_probability_map_contains_the_outputs_of_the_model(rings_packed):
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
