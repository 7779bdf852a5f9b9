"""Figures of a classifier of points: what its boundary is like."""

import json
from pathlib import Path

import numpy as np
import pytest
from toolbox import never_asked

from labbook.core.errors import ParamsError
from labbook.evaluation import plane
from labbook.evaluation.plane import SIDE, boundary_metrics, evaluate, write

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


def test_figures_are_those_of_a_classifier_and_of_its_boundary():
    found, images, labels = evaluation()
    x = images[:, 0, 0, 0]
    assert found.metrics["test_accuracy"] == pytest.approx(((x > 100) == (labels == 1)).mean(), abs=1e-6)
    assert found.metrics["test_loss"] == 0.25
    assert found.confusion.tolist() == [[(x <= 100).sum(), ((x > 100) & (x <= 120)).sum()], [0, (x > 120).sum()]]
    assert (found.metrics["boundary_pieces"], found.metrics["boundary_turning"]) == (1, 0)
    assert found.mistakes == []
    json.dumps(found.metrics, allow_nan=False)
    assert found.chances.shape == (SIDE, SIDE)
    assert (found.chances[:, 101:] > 0.5).all(), "x by column"
    assert (found.chances[:, :100] < 0.5).all()


def test_more_than_two_classes_are_refused():
    with pytest.raises(ParamsError, match="task: plane is for two classes of points, and these are 3"):
        evaluate(np.zeros((1, 3), np.float32), np.zeros(1, np.int64), 1.0, ("a", "b", "c"), never_asked)


def test_files_have_the_same_bytes_every_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, images, _ = evaluation()
    written = [[Path(file).read_bytes() for file in write("x", found, images, CLASSES).values()] for _ in range(2)]
    assert written[0] == written[1]
    assert written[0][1].startswith(b"\x89PNG")


def test_picture_shows_both_regions_with_the_first_row_below(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    above = evaluate(
        np.zeros((2, 2), np.float32), np.array([0, 1]), 1.0, CLASSES,
        lambda images: np.stack([np.zeros(len(images)), images[:, 1, 0, 0] - 127.5], axis=1).astype(np.float32) * 9,
    )  # fmt: skip
    file = write("x", above, np.full((2, 2, 1, 1), 128, np.uint8), CLASSES)["samples"]
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    redder = pixels[..., 0] - pixels[..., 2] > 40
    bluer = pixels[..., 2] - pixels[..., 0] > 40
    assert redder.sum() > 40_000 < bluer.sum()
    assert np.nonzero(redder)[0].mean() < np.nonzero(bluer)[0].mean(), "larger y is higher up, and of the second class"
    assert plane.COLOURS[0] != plane.COLOURS[1]
