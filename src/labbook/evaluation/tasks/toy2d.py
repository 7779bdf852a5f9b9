"""Figures of a classifier of points in a plane: those of any classifier, and what its boundary between the two classes is like.

A point is an image of one pixel whose two channels are its place, so every place can be asked for. The boundary is where both
logits are equal. Its turning is the sum of all its bends: 0° for a straight line, 360° for a circle, and for any convex
polygon too; a polygon bends in few places, and a circle everywhere.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray

from labbook.errors import ParamsError
from labbook.evaluation import Ask, Evaluation, classifier_metrics, predictions_of, probabilities

__all__ = ["SIDE", "Toy2dEvaluation", "boundary", "boundary_metrics", "evaluate"]

SIDE = 256  # places along each axis: all that a byte can name
STRIDE = 3  # bytes along the boundary from one place where its direction is taken to the next
SHARPEST = 0.1  # of these places are looked at for corners


@dataclass(frozen=True)
class Toy2dEvaluation(Evaluation):
    """What is measured on the test set and on the whole plane.

    Attributes:
        chances: (SIDE, SIDE) probability of the second class, y by row, x by column.
        labels: (N,) actual classes of the test points.
    """

    chances: NDArray[np.float64]
    labels: NDArray[np.int64]


def evaluate(
    logits: NDArray[np.float32], labels: NDArray[np.int64], loss: float, classes: tuple[str, ...], ask: Ask
) -> Toy2dEvaluation:
    """Measure a classifier of points.

    Args:
        logits: (N, 2).
        labels: (N,).
        loss: mean test loss in nats.
        classes: two names.
        ask: gives the logits of every place.

    Raises:
        ParamsError: there are not two classes.
    """
    if len(classes) != 2:
        raise ParamsError(f"task: toy2d is for two classes of points, and these are {len(classes)}. Choose another task.")
    predictions = predictions_of(logits, labels)
    metrics, confusion = classifier_metrics(predictions, classes)
    everywhere = ask(_lattice())
    shape = boundary_metrics((everywhere[:, 1] - everywhere[:, 0]).reshape(SIDE, SIDE).astype(np.float64))
    chances = probabilities(everywhere)[:, 1].reshape(SIDE, SIDE)
    metrics = {"test_loss": round(loss, 6), **metrics, **shape}
    return Toy2dEvaluation(metrics, confusion, predictions, chances, labels)


def boundary_metrics(margins: NDArray[np.float64]) -> dict[str, Any]:
    """Measure the boundary where `margins`, (H, W), change their sign.

    Its pieces; its turning in degrees; and its corners: the share of the turning in the sharpest tenth of its length, which is
    0.1 for a circle and 1 for a polygon. Without a boundary there is neither.
    """
    pieces = boundary(margins)
    bends = np.concatenate([_bends(piece) for piece in pieces]) if pieces else np.empty(0)
    turning = bends.sum()
    sharpest = np.sort(bends)[::-1][: max(1, round(SHARPEST * len(bends)))].sum()
    return {
        "boundary_pieces": len(pieces),
        "boundary_turning": round(float(turning), 2) if pieces else None,
        "boundary_corners": round(float(sharpest / turning), 4) if turning else None,
    }


def _lattice() -> NDArray[np.uint8]:
    """Name every place: (SIDE², 2, 1, 1), row by row."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.uint8)
    return np.stack([x.ravel(), y.ravel()], axis=1)[:, :, None, None]


def boundary(margins: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Trace the places where margins are zero: one (N, 2) a piece, whose ends meet if it is closed."""
    if (margins > 0).all() or (margins <= 0).all():
        return []  # both logits may be equal everywhere, and then the first class is said of every place
    pieces = contour_generator(z=margins, line_type=LineType.Separate).lines(0.0)
    return [piece for piece in pieces if isinstance(piece, np.ndarray) and len(piece) > 1]


def _bends(piece: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the change of direction, in degrees, at places equally far from each other along a piece."""
    along = np.concatenate([[0.0], np.linalg.norm(np.diff(piece, axis=0), axis=1).cumsum()])
    places = np.linspace(0, along[-1], max(2, round(along[-1] / STRIDE)) + 1)
    x, y = (np.interp(places, along, piece[:, axis]) for axis in (0, 1))
    directions = np.arctan2(np.diff(y), np.diff(x))
    if np.allclose(piece[0], piece[-1]):
        directions = np.append(directions, directions[0])
    turns = np.diff(directions)
    bends: NDArray[np.float64] = np.degrees(np.abs((turns + np.pi) % (2 * np.pi) - np.pi))
    return bends
