"""Metrics of a classifier: loss, accuracy, per class, confusion counts, calibration, and its most confident mistakes."""

import numpy as np
from numpy.typing import NDArray

from labbook.evaluation import Ask, Evaluation, classifier_metrics, predictions_of, probabilities, reliability

__all__ = ["MISTAKES", "evaluate"]

MISTAKES = 10  # misclassified samples that are shown, as hand-in 2 asks


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
    return Evaluation(
        metrics, confusion, predictions_of(logits), mistakes=mistakes, reliability=reliability(confidence, predicted == labels)
    )
