"""Metrics of a classifier: loss, accuracy, per class, confusion counts, calibration, and its most confident mistakes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.evaluation import (
    Ask,
    Evaluation,
    Predictions,
    classifier_metrics,
    confidences,
    predictions_of,
    reliability,
)

__all__ = ["MISTAKES", "evaluate", "reliability_of", "worst_mistakes"]

MISTAKES = 10  # number of misclassified samples shown, as hand-in 2 requires


def evaluate(
    logits: NDArray[np.float32], labels: NDArray[np.int64], loss: float, classes: tuple[str, ...], ask: Ask
) -> Evaluation:
    """Compute the metrics of a classifier on the test set.

    Args:
        logits: (N, classes).
        labels: (N,).
        loss: mean test loss in nats.
        classes: names of the classes.
        ask: not used.
    """
    predictions = predictions_of(logits, labels)
    metrics, confusion = classifier_metrics(predictions, classes)
    return Evaluation(
        {"test_loss": round(loss, 6), **metrics},
        confusion,
        predictions,
        mistakes=worst_mistakes(predictions, classes),
        reliability=reliability_of(predictions),
    )


def worst_mistakes(predictions: Predictions, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """List the most confident mistakes; of equally confident ones, the first in the test set.

    Args:
        predictions: result of `labbook.evaluation.predictions_of`.
        classes: names of the classes.
    """
    labels, predicted, confidence = predictions["labels"], predictions["predicted"], confidences(predictions)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    return [
        {
            "index": int(index),
            "actual": classes[labels[index]],
            "predicted": classes[predicted[index]],
            "confidence": round(float(confidence[index]), 4),
        }
        for index in worst
    ]


def reliability_of(predictions: Predictions) -> list[dict[str, Any]]:
    """Return samples, mean confidence and accuracy of each bin of confidence that is not empty."""
    return reliability(confidences(predictions), predictions["predicted"] == predictions["labels"])
