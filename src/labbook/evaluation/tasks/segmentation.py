"""Metrics of a segmentation model: loss, pixel accuracy, intersection over union, confusion counts of pixels.

The intersection over union of a class is the number of pixels that belong to it and are predicted as it, divided by the number
of pixels for which either holds. The mean is over the classes that occur or are predicted (Everingham et al., 2010, "The Pascal
visual object classes challenge").
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.evaluation import ComputeLogits, Evaluation, Predictions, confusion_counts

__all__ = ["SHOWN", "SegmentationEvaluation", "evaluate", "intersection_over_union", "segmentation_metrics"]

SHOWN = 8  # number of test images shown with truth and prediction: the first ones, without selection


@dataclass(frozen=True)
class SegmentationEvaluation(Evaluation):
    """Results on the test set; counts are of pixels.

    Attributes:
        truth: (SHOWN, H, W) actual classes of the first images.
        predicted: (SHOWN, H, W) predicted classes of the first images.
    """

    truth: NDArray[np.uint8]
    predicted: NDArray[np.int64]


def evaluate(
    logits: NDArray[np.float32], labels: NDArray[np.uint8], loss: float, classes: tuple[str, ...], compute_logits: ComputeLogits
) -> SegmentationEvaluation:
    """Compute the metrics of a segmentation model on the test set.

    Args:
        logits: (N, classes, H, W).
        labels: (N, H, W).
        loss: mean test loss per pixel, in nats.
        classes: names of the classes.
        compute_logits: not used.
    """
    predicted = logits.argmax(axis=1)
    per_image = np.stack([confusion_counts(*pair, len(classes)) for pair in zip(labels, predicted, strict=True)])
    predictions = {"confusion": per_image.astype(np.min_scalar_type(max(labels[0].size, 256)))}
    metrics, confusion = segmentation_metrics(predictions, classes)
    metrics = {"test_loss": round(loss, 6), **metrics}
    return SegmentationEvaluation(metrics, confusion, predictions, labels[:SHOWN], predicted[:SHOWN])


def segmentation_metrics(predictions: Predictions, classes: tuple[str, ...]) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Compute the metrics of a segmentation model from its confusion counts: numbers by name, and the counts of all images.

    Args:
        predictions: `confusion`, (N, classes, classes): pixels of each image, one row per actual class.
        classes: names of the classes.
    """
    confusion = predictions["confusion"].sum(axis=0, dtype=np.int64)
    totals, hits, overlaps = confusion.sum(axis=1), confusion.diagonal(), intersection_over_union(confusion)
    majority = np.zeros_like(confusion)  # counts of a model that predicts the most frequent class for every pixel
    majority[:, totals.argmax()] = totals
    metrics = {
        "test_accuracy": round(float(hits.sum() / totals.sum()), 6),
        "test_miou": round(float(np.nanmean(overlaps)), 6),
        "chance_accuracy": round(float(totals.max() / totals.sum()), 6),
        "chance_miou": round(float(np.nanmean(intersection_over_union(majority))), 6),
        "test_accuracy_per_class": {
            name: round(float(hits[index] / totals[index]), 6) if totals[index] else None for index, name in enumerate(classes)
        },
        "test_iou_per_class": {
            name: None if np.isnan(overlaps[index]) else round(float(overlaps[index]), 6) for index, name in enumerate(classes)
        },
    }
    return metrics, confusion


def intersection_over_union(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the intersection over union of each class, (classes,); NaN for a class that neither occurs nor is predicted."""
    hits = confusion.diagonal()
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    overlaps: NDArray[np.float64] = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
    return overlaps
