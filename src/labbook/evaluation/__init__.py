"""Metrics shared by the tasks: classifier metrics, confusion counts, calibration.

They are computed from the stored predictions, so that every digit can be recomputed from them.

Expected calibration error: Guo et al. (2017), "On calibration of modern neural networks", with 15 equal bins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.io import write_text

__all__ = [
    "BINS", "CONFIDENCE_STEPS", "ComputeLogits", "Evaluation", "Predictions", "calibration_error", "classifier_metrics",
    "confidences", "confusion_counts", "encode_predictions", "probabilities", "reliability_bins", "seed_predictions",
    "stack_predictions", "write_confusion",
]  # fmt: skip

BINS = 15
CONFIDENCE_STEPS = 65535  # a confidence is stored as a multiple of 1/65535, in two bytes

# Computes the logits of images outside the test set: uint8 (N, C, H, W) → (N, classes, ...).
ComputeLogits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

Predictions = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Evaluation:
    """Results on the test set; a task adds the data of its figures.

    Attributes:
        metrics: metrics by name.
        confusion: (classes, classes) counts, one row per actual class.
        predictions: arrays by name; their first axis is the test samples.
        mistakes: index, actual and predicted class, and confidence of the most confident mistakes, if the task shows any.
        reliability: samples, mean confidence and accuracy of each bin of confidence, if the task measures them.
    """

    metrics: dict[str, Any]
    confusion: NDArray[np.int64]
    predictions: dict[str, NDArray[Any]]
    mistakes: list[dict[str, Any]] = field(default_factory=list, kw_only=True)
    reliability: list[dict[str, Any]] = field(default_factory=list, kw_only=True)


def encode_predictions(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Encode the test predictions for storage: actual class, predicted class, and confidence times `CONFIDENCE_STEPS`.

    Args:
        logits: (N, classes).
        labels: (N,) actual classes.
    """
    dtype = np.uint8 if logits.shape[1] <= 256 else np.uint16
    return {
        "labels": labels.astype(dtype),
        "predicted": logits.argmax(axis=1).astype(dtype),
        "confidence": np.rint(probabilities(logits).max(axis=1) * CONFIDENCE_STEPS).astype(np.uint16),
    }


def stack_predictions(seeds: Sequence[Predictions]) -> dict[str, NDArray[Any]]:
    """Stack the predictions of several seeds; `labels` are kept once."""
    return {key: value if key == "labels" else np.stack([seed[key] for seed in seeds]) for key, value in seeds[0].items()}


def seed_predictions(predictions: Predictions, index: int) -> dict[str, NDArray[Any]]:
    """Return the predictions of one seed.

    Args:
        predictions: predictions of all seeds.
        index: index of the seed.
    """
    return {key: value if key == "labels" else value[index] for key, value in predictions.items()}


def confidences(predictions: Predictions) -> NDArray[np.float64]:
    """Return the stored confidences as probabilities (N,)."""
    result: NDArray[np.float64] = predictions["confidence"] / CONFIDENCE_STEPS
    return result


def classifier_metrics(predictions: Predictions, classes: tuple[str, ...]) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Compute a classifier's metrics from its predictions: numbers by name, and confusion counts, one row per actual class.

    Args:
        predictions: result of `encode_predictions`.
        classes: names of the classes.
    """
    labels, predicted = predictions["labels"], predictions["predicted"]
    confusion = confusion_counts(labels, predicted, len(classes))
    totals = confusion.sum(axis=1)
    metrics = {
        "test_accuracy": round(float(np.mean(predicted == labels)), 6),
        "test_ece": round(calibration_error(confidences(predictions), predicted == labels), 6),
        "chance_accuracy": round(float(totals.max() / totals.sum()), 6),
        "test_accuracy_per_class": {
            name: round(float(confusion[index, index] / totals[index]), 6) if totals[index] else None
            for index, name in enumerate(classes)
        },
    }
    return metrics, confusion


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probabilities (softmax) of logits (N, classes)."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Average |accuracy - confidence| over equal bins of confidence, weighted by their counts.

    Args:
        confidence: (N,) probability of the predicted class.
        correct: (N,) whether it is the actual class.
    """
    gaps = np.bincount(_bins(confidence), correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def reliability_bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return number of samples, mean confidence and accuracy of each non-empty bin of `calibration_error`.

    Args:
        confidence: (N,) probability of the predicted class.
        correct: (N,) whether it is the actual class.
    """
    bins = _bins(confidence)
    counts, confidences, hits = (np.bincount(bins, weights, minlength=BINS) for weights in (None, confidence, correct))
    return [
        {
            "from": round(index / BINS, 4),
            "to": round((index + 1) / BINS, 4),
            "samples": int(counts[index]),
            "confidence": round(float(confidences[index] / counts[index]), 4),
            "accuracy": round(float(hits[index] / counts[index]), 4),
        }
        for index in np.flatnonzero(counts).tolist()
    ]


def _bins(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def confusion_counts(labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int) -> NDArray[np.int64]:
    """Count samples by actual class (row) and predicted class (column).

    Args:
        labels: actual classes, of any shape.
        predicted: predicted classes, of the same shape.
        classes: number of classes.
    """
    pairs = labels.astype(np.int64).ravel() * classes + predicted.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def write_confusion(path: Path, counts: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """Write the counts as a table with the columns actual, predicted, count."""
    rows = [f"{actual},{predicted},{counts[i, j]}" for i, actual in enumerate(classes) for j, predicted in enumerate(classes)]
    write_text(path, "\n".join(["actual,predicted,count", *rows]) + "\n")
