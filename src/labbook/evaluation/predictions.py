"""Recompute the contents of a card from the stored predictions alone, without torch and without data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.evaluation import Predictions, classifier_metrics, seed_predictions
from labbook.evaluation.tasks.classification import classifier_reliability, worst_mistakes
from labbook.evaluation.tasks.segmentation import segmentation_metrics

__all__ = ["recompute_confusion", "recompute_diagnostics", "recompute_metrics"]


def recompute_metrics(predictions: Predictions, index: int, classes: Sequence[str]) -> dict[str, Any]:
    """Compute the metrics of one seed, except for the loss and for metrics that need inputs outside the test set.

    Args:
        predictions: predictions of all seeds.
        index: index of the seed.
        classes: names of the classes.
    """
    return _compute(predictions, index, classes)[0]


def recompute_confusion(predictions: Predictions, index: int, classes: Sequence[str]) -> NDArray[np.int64]:
    """Count samples by actual class (row) and predicted class (column); the arguments are those of `recompute_metrics`."""
    return _compute(predictions, index, classes)[1]


def recompute_diagnostics(predictions: Predictions, task: str, classes: Sequence[str]) -> Mapping[str, list[dict[str, Any]]]:
    """Return the mistakes and the reliability bins of the first seed, as on the card; empty if the task has none."""
    if task != "classification":
        return {"mistakes": [], "reliability": []}
    first = seed_predictions(predictions, 0)
    return {"mistakes": worst_mistakes(first, tuple(classes)), "reliability": classifier_reliability(first)}


def _compute(predictions: Predictions, index: int, classes: Sequence[str]) -> tuple[dict[str, Any], NDArray[np.int64]]:
    compute_metrics = segmentation_metrics if "confusion" in predictions else classifier_metrics
    return compute_metrics(seed_predictions(predictions, index), tuple(classes))
