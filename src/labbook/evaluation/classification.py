"""Figures of a classifier: loss, accuracy, per class, confusion counts, calibration, and its most confident mistakes."""

import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labbook.evaluation import Ask, Evaluation, classifier_metrics, probabilities, reliability, write_files

__all__ = ["MISTAKES", "evaluate", "write"]

MISTAKES = 10  # misclassified samples that are shown, as hand-in 2 asks
COLUMNS, CELL, SIDE = 5, (216, 244), 192  # of their picture, in pixels of its PNG; no sample is larger than SIDE


def evaluate(
    logits: NDArray[np.float32], labels: NDArray[np.int64], loss: float, classes: tuple[str, ...], ask: Ask
) -> Evaluation:
    """Measure a classifier.

    Args:
        logits: (N, classes).
        labels: (N,).
        loss: mean test loss in nats.
        classes: names.
        ask: not used; the test set says all.
    """
    metrics, confusion = classifier_metrics(logits, labels, loss, classes)
    predicted, confidence = logits.argmax(axis=1), probabilities(logits).max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    mistakes = [
        {
            "index": int(index),
            "actual": classes[labels[index]],
            "predicted": classes[predicted[index]],
            "confidence": round(float(confidence[index]), 4),
        }
        for index in worst
    ]
    return Evaluation(metrics, confusion, mistakes=mistakes, reliability=reliability(confidence, predicted == labels))


def write(name: str, evaluation: Evaluation, images: NDArray[np.uint8], classes: tuple[str, ...]) -> dict[str, str]:
    """Write the confusion counts and the picture of mistakes; say where.

    Args:
        name: of the experiment.
        evaluation: its figures.
        images: (N, C, H, W) of the test set.
        classes: names.
    """
    return write_files(name, evaluation.confusion, classes, lambda: _draw_mistakes(evaluation.mistakes, images))


def _draw_mistakes(mistakes: list[dict[str, Any]], images: NDArray[np.uint8]) -> Figure:
    """Draw on one axes, whose unit is a pixel of the PNG: a sample's pixel takes a whole number of them, and stays square."""
    width, height = COLUMNS * CELL[0], MISTAKES // COLUMNS * CELL[1]
    dpi = mpl.rcParams["savefig.dpi"]
    figure = Figure(figsize=(width / dpi, height / dpi))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    if not mistakes:
        axes.text(width / 2, height / 2, "no mistakes", ha="center")
    for place, mistake in enumerate(mistakes):
        centre, bottom = (place % COLUMNS + 0.5) * CELL[0], (place // COLUMNS + 1) * CELL[1] - 8
        image = images[mistake["index"]].transpose(1, 2, 0)
        scale = SIDE // max(image.shape) or SIDE / max(image.shape)
        tall, wide = scale * image.shape[0], scale * image.shape[1]
        extent = (centre - wide / 2, centre + wide / 2, bottom, bottom - tall)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent)
        caption = textwrap.fill(f"{mistake['actual']} taken for {mistake['predicted']}", 24)
        axes.text(centre, bottom - tall - 6, caption, size="small", ha="center", va="bottom")
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure
