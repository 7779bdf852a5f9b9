"""Metrics of a classifier of points in a plane: the usual classifier metrics, and the shape of the decision boundary.

A point is an image of one pixel whose two channels are its coordinates, so the model can be evaluated at every point of a grid.
On the boundary, both logits are equal. Its turning is the sum of all changes of its direction: 0° for a straight line, 360° for
a circle or any convex polygon. A polygon turns only at its corners, a circle everywhere.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray

from labbook.errors import ParamsError
from labbook.evaluation import ComputeLogits, Evaluation, classifier_metrics, encode_predictions, probabilities

__all__ = ["SIDE", "Toy2dEvaluation", "boundary", "boundary_metrics", "evaluate"]

SIDE = 256  # points of the grid along each axis: all values of a byte
STRIDE = 3  # distance along the boundary between points where its direction is measured, in units of the grid
SHARPEST = 0.1  # fraction of these points that count as corners


@dataclass(frozen=True)
class Toy2dEvaluation(Evaluation):
    """Results on the test set and on the whole plane.

    Attributes:
        probability_map: (SIDE, SIDE) probability of the second class, y by row, x by column.
        labels: (N,) actual classes of the test points.
    """

    probability_map: NDArray[np.float64]
    labels: NDArray[np.int64]


def evaluate(
    logits: NDArray[np.float32], labels: NDArray[np.int64], loss: float, classes: tuple[str, ...], compute_logits: ComputeLogits
) -> Toy2dEvaluation:
    """Compute the metrics of a classifier of points on the test set and on the plane.

    Args:
        logits: (N, 2).
        labels: (N,).
        loss: mean test loss in nats.
        classes: names of the two classes.
        compute_logits: computes the logits of the points of the grid.

    Raises:
        ParamsError: there are not two classes.
    """
    if len(classes) != 2:
        raise ParamsError(f"task: toy2d is for two classes, but the dataset has {len(classes)}. Choose another task.")
    predictions = encode_predictions(logits, labels)
    metrics, confusion = classifier_metrics(predictions, classes)
    grid_logits = compute_logits(_grid_points())
    boundary_values = boundary_metrics((grid_logits[:, 1] - grid_logits[:, 0]).reshape(SIDE, SIDE).astype(np.float64))
    probability_map = probabilities(grid_logits)[:, 1].reshape(SIDE, SIDE)
    metrics = {"test_loss": round(loss, 6), **metrics, **boundary_values}
    return Toy2dEvaluation(metrics, confusion, predictions, probability_map, labels)


def boundary_metrics(margins: NDArray[np.float64]) -> dict[str, Any]:
    """Measure the boundary where `margins`, (H, W), change their sign.

    Returns:
        Number of pieces; turning in degrees; and corners, the fraction of the turning in the sharpest tenth of the boundary's
        length: 0.1 for a circle, 1 for a polygon. Without a boundary, turning and corners are `None`.
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


def _grid_points() -> NDArray[np.uint8]:
    """Return every point of the grid as an image of one pixel: (SIDE², 2, 1, 1), row by row."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.uint8)
    return np.stack([x.ravel(), y.ravel()], axis=1)[:, :, None, None]


def boundary(margins: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Trace where `margins` are zero: one array (N, 2) of x and y per piece, whose ends coincide if it is closed."""
    if (margins > 0).all() or (margins <= 0).all():
        return []  # if both logits are equal everywhere, the first class is predicted everywhere
    pieces = contour_generator(z=margins, line_type=LineType.Separate).lines(0.0)
    return [piece for piece in pieces if isinstance(piece, np.ndarray) and len(piece) > 1]


def _bends(piece: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the absolute change of direction, in degrees, at equally spaced points along a piece."""
    arc_length = np.concatenate([[0.0], np.linalg.norm(np.diff(piece, axis=0), axis=1).cumsum()])
    positions = np.linspace(0, arc_length[-1], max(2, round(arc_length[-1] / STRIDE)) + 1)
    x, y = (np.interp(positions, arc_length, piece[:, axis]) for axis in (0, 1))
    directions = np.arctan2(np.diff(y), np.diff(x))
    if np.allclose(piece[0], piece[-1]):
        directions = np.append(directions, directions[0])
    changes = np.diff(directions)
    bends: NDArray[np.float64] = np.degrees(np.abs((changes + np.pi) % (2 * np.pi) - np.pi))
    return bends
