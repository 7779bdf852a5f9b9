"""Metrics of a segmentation model."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import confusion_matrix, jaccard_score
from toolbox import unused_compute_logits

from labbook.evaluation import stack_predictions
from labbook.evaluation.predictions import recompute_metrics
from labbook.evaluation.tasks import segmentation
from labbook.evaluation.tasks.segmentation import SHOWN

CLASSES = ("ground", "disc", "square", "7")
evaluate = functools.partial(segmentation.evaluate, compute_logits=unused_compute_logits)


@st.composite
def label_maps(draw):
    """Generate labels and predictions, (N, H, W), and logits with a unique maximum, (N, classes, H, W)."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    labels = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 3)))
    predicted = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 3)))
    return labels, predicted, np.moveaxis(np.eye(4, dtype=np.float32)[predicted], -1, 1)


@given(maps=label_maps())
def test_metrics_match_scikit_learn(maps):
    labels, predicted, logits = maps
    evaluation = evaluate(logits, labels, 0.5, CLASSES)
    metrics, present = evaluation.metrics, np.union1d(labels, predicted)
    ious = jaccard_score(labels.ravel(), predicted.ravel(), labels=present, average=None)
    assert metrics["test_accuracy"] == pytest.approx(np.mean(labels == predicted), abs=1e-6)
    assert metrics["test_miou"] == pytest.approx(ious.mean(), abs=1e-6)
    assert metrics["test_iou_per_class"] == {
        name: pytest.approx(ious[list(present).index(index)], abs=1e-6) if index in present else None
        for index, name in enumerate(CLASSES)
    }
    assert (evaluation.confusion == confusion_matrix(labels.ravel(), predicted.ravel(), labels=range(4))).all()
    assert metrics["chance_accuracy"] == pytest.approx(np.bincount(labels.ravel()).max() / labels.size, abs=1e-6)
    majority = np.full_like(labels, np.bincount(labels.ravel()).argmax())
    chance_miou = jaccard_score(labels.ravel(), majority.ravel(), labels=np.unique(labels), average="macro", zero_division=0)
    assert metrics["chance_miou"] == pytest.approx(chance_miou, abs=1e-6)


def test_intersection_over_union_of_a_small_example():
    labels = np.array([[[1, 1, 0, 0]]], dtype=np.uint8)
    logits = np.moveaxis(np.eye(4, dtype=np.float32)[[[[1, 0, 0, 0]]]], -1, 1)
    metrics = evaluate(logits, labels, 0.1, CLASSES).metrics
    assert metrics["test_iou_per_class"] == {"ground": pytest.approx(2 / 3, abs=1e-6), "disc": 0.5, "square": None, "7": None}
    assert metrics["test_accuracy_per_class"] == {"ground": 1.0, "disc": 0.5, "square": None, "7": None}
    assert metrics["test_miou"] == pytest.approx((2 / 3 + 1 / 2) / 2, abs=1e-6)
    assert metrics["test_accuracy"] == 0.75


def test_confusion_counts_are_stored_for_every_image():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, (SHOWN + 2, 8, 8), dtype=np.uint8)
    predicted = generator.integers(0, 4, labels.shape)
    logits = np.moveaxis(np.eye(4, dtype=np.float32)[predicted], -1, 1)
    evaluation = evaluate(logits, labels, 0.5, CLASSES)
    counts = evaluation.predictions["confusion"]
    assert counts.dtype == np.uint16
    stored = stack_predictions([{"confusion": counts[::-1] * 2}, evaluation.predictions])
    assert {"test_loss": 0.5, **recompute_metrics(stored, 1, CLASSES)} == evaluation.metrics
    assert (counts.sum(axis=0) == evaluation.confusion).all()
    for index in (0, SHOWN + 1):
        assert (counts[index] == confusion_matrix(labels[index].ravel(), predicted[index].ravel(), labels=range(4))).all()
    assert (evaluation.truth == labels[:SHOWN]).all()
    assert (evaluation.predicted == predicted[:SHOWN]).all()
