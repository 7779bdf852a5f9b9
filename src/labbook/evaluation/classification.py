"""Figures of a classifier: loss, accuracy, per class, confusion counts, calibration, and its most confident mistakes."""

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labbook.evaluation import Ask, classifier_metrics, probabilities, write_files

__all__ = ["MISTAKES", "Evaluation", "evaluate", "write"]

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
    return Evaluation(metrics, confusion, mistakes)


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
