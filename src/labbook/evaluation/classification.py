"""Figures of a classifier: loss, accuracy, per class, confusion counts, calibration, and its most confident mistakes.

Expected calibration error: Guo et al. (2017), "On calibration of modern neural networks", with 15 equal bins.
"""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labbook.evaluation import confusion_counts, write_files

__all__ = ["MISTAKES", "Evaluation", "calibration_error", "evaluate", "write"]

BINS = 15
MISTAKES = 10  # misclassified samples that are shown, as hand-in 2 asks


@dataclass(frozen=True)
class Evaluation:
    """What is measured on the test set.

    Attributes:
        metrics: numbers for `metrics/<experiment>.json`.
        confusion: (classes, classes) counts, a row for each actual class.
        mistakes: index, actual and predicted class, and confidence of the most confident mistakes.
    """

    metrics: dict[str, Any]
    confusion: NDArray[np.int64]
    mistakes: list[dict[str, Any]]


def evaluate(logits: NDArray[np.float32], labels: NDArray[np.int64], loss: float, classes: tuple[str, ...]) -> Evaluation:
    """Measure a classifier.

    Args:
        logits: (N, classes).
        labels: (N,).
        loss: mean test loss in nats.
        classes: names.
    """
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    predicted = logits.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    confusion = confusion_counts(labels, predicted, len(classes))
    totals = confusion.sum(axis=1)
    metrics = {
        "test_loss": round(loss, 6),
        "test_accuracy": round(float(np.mean(predicted == labels)), 6),
        "test_calibration_error": round(calibration_error(confidence, predicted == labels), 6),
        "chance_accuracy": round(float(totals.max() / totals.sum()), 6),
        "test_accuracy_per_class": {
            name: round(float(confusion[index, index] / totals[index]), 6) if totals[index] else None
            for index, name in enumerate(classes)
        },
    }
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
    return Evaluation(metrics, confusion, mistakes)


def calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Average |accuracy - confidence| over equal bins of confidence, weighted by their counts.

    Args:
        confidence: (N,) probability of the predicted class.
        correct: (N,) whether it is the actual one.
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def write(name: str, evaluation: Evaluation, images: NDArray[np.uint8], classes: tuple[str, ...]) -> dict[str, str]:
    """Write the confusion counts and the picture of mistakes; say where.

    Args:
        name: of the experiment.
        evaluation: its figures.
        images: (N, C, H, W) of the test set.
        classes: names.
    """
    return write_files(name, evaluation.confusion, classes, _draw_mistakes(evaluation.mistakes, images))


def _draw_mistakes(mistakes: list[dict[str, Any]], images: NDArray[np.uint8]) -> Figure:
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots(2, MISTAKES // 2)
    for place, axis in enumerate(axes.flat):
        axis.axis("off")
        if place < len(mistakes):
            mistake = mistakes[place]
            image = images[mistake["index"]].transpose(1, 2, 0)
            # Sharp pixels: smoothed ones are no two the same, and double the size of the file.
            axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_title(textwrap.fill(f"{mistake['actual']} taken for {mistake['predicted']}", 20), fontsize=9)
    if not mistakes:
        axes.flat[0].text(0, 0.5, "no mistakes")
    return figure
