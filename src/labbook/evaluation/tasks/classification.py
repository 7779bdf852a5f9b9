"""Metrics of a classifier: loss, accuracy, per class, confusion counts, calibration, and its most confident mistakes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.evaluation import (
    ComputeLogits,
    Evaluation,
    Predictions,
    classifier_metrics,
    confidences,
    encode_predictions,
    reliability_bins,
)

__all__ = ["MISTAKES", "classifier_reliability", "evaluate", "worst_mistakes"]

MISTAKES = 10  # number of misclassified samples shown, as hand-in 2 requires


def evaluate(
    logits: NDArray[np.float32], labels: NDArray[np.int64], loss: float, classes: tuple[str, ...], compute_logits: ComputeLogits
) -> Evaluation:
    """Compute the metrics of a classifier on the test set.

    Args:
        logits: (N, classes).
        labels: (N,).
        loss: mean test loss in nats.
        classes: names of the classes.
        compute_logits: not used.
    """
    predictions = encode_predictions(logits, labels)
    metrics, confusion = classifier_metrics(predictions, classes)
    return Evaluation(
        {"test_loss": round(loss, 6), **metrics},
        confusion,
        predictions,
        mistakes=worst_mistakes(predictions, classes),
        reliability=classifier_reliability(predictions),
    )


def worst_mistakes(predictions: Predictions, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """List the most confident mistakes; equally confident ones are in the order of the test set.

    Args:
        predictions: result of `labbook.evaluation.encode_predictions`.
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


def classifier_reliability(predictions: Predictions) -> list[dict[str, Any]]:
    """Return number of samples, mean confidence and accuracy of each non-empty bin of confidence."""
    return reliability_bins(confidences(predictions), predictions["predicted"] == predictions["labels"])
