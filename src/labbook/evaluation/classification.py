"""Figures of a classifier: loss, accuracy, per class, confusion counts, calibration, and its most confident mistakes."""

import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from labbook.evaluation import Ask, Evaluation, classifier_metrics, probabilities, reliability, write_files

__all__ = ["MISTAKES", "evaluate", "write"]

MISTAKES = 10  # misclassified samples that are shown, as hand-in 2 asks
COLUMNS, CELL, SIDE = 5, (140, 180), 128  # of their picture, in pixels; no sample is larger than SIDE


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
    picture = _draw_mistakes(evaluation.mistakes, images)
    return write_files(name, evaluation.confusion, classes, lambda path: picture.save(path, "PNG"))


def _draw_mistakes(mistakes: list[dict[str, Any]], images: NDArray[np.uint8]) -> Image.Image:
    """Draw with Pillow: importing matplotlib and laying out ten axes took a third of the stage's time."""
    width, height = CELL
    picture = Image.new("RGB", (COLUMNS * width, MISTAKES // COLUMNS * height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    if not mistakes:
        draw.text((width // 2, height // 2), "no mistakes", "black", font)
    for place, mistake in enumerate(mistakes):
        centre, bottom = place % COLUMNS * width + width // 2, (place // COLUMNS + 1) * height - 4
        image = images[mistake["index"]]
        sample = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        # Whole multiples of pixels, and sharp ones: smoothed, no two are the same, and the file is twice as large.
        sample = ImageOps.scale(sample, max(1, SIDE // max(sample.size)), Image.Resampling.NEAREST)
        sample.thumbnail((SIDE, SIDE))
        picture.paste(sample, (centre - sample.width // 2, bottom - sample.height))
        caption = textwrap.fill(f"{mistake['actual']} taken for {mistake['predicted']}", 20)
        draw.multiline_text((centre, bottom - SIDE - 4), caption, "black", font, anchor="md", align="center")
    return picture
