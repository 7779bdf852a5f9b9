"""Cross-entropy loss: Goodfellow et al. (2016), "Deep learning", section 6.2.2.3."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labbook.errors import NumpyBackendError
from labbook.numpy_nn.layer import Array

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss:
    """Softmax cross-entropy: the mean of −log p over the samples, p = softmax(logits) at the sample's label."""

    def __init__(self) -> None:
        self._probabilities: Array | None = None

    def forward(self, logits: Array, labels: NDArray[np.integer[Any]]) -> np.floating[Any]:
        """Return the mean loss in nats.

        Args:
            logits: (N, classes).
            labels: (N,) integers in [0, classes).

        Raises:
            NumpyBackendError: a shape or dtype is wrong, or a label is out of range.
        """
        self._probabilities = None  # no backward pass after a failed forward pass
        _check(logits, labels)
        shifted = logits - logits.max(axis=1, keepdims=True)  # leaves softmax unchanged and prevents overflow
        exponentials = np.exp(shifted)
        sums = exponentials.sum(axis=1, keepdims=True)
        self._probabilities = exponentials / sums
        self._label_indices = np.arange(len(labels)), labels
        loss: np.floating[Any] = (np.log(sums[:, 0]) - shifted[self._label_indices]).mean()
        return loss

    def backward(self, upstream: float | np.floating[Any] = 1.0) -> Array:
        """Return the gradient of the logits: (softmax − one-hot labels) / N, times `upstream`, the gradient of the loss.

        Raises:
            NumpyBackendError: there was no forward pass.
        """
        if self._probabilities is None:
            raise NumpyBackendError("CrossEntropyLoss: backward was called before forward. Call forward first.")
        gradient = self._probabilities.copy()
        gradient[self._label_indices] -= 1
        gradient *= float(upstream) / len(gradient)
        return gradient


def _check(logits: Array, labels: NDArray[np.integer[Any]]) -> None:
    for array in (logits, labels):
        if not isinstance(array, np.ndarray):
            raise NumpyBackendError(
                f"CrossEntropyLoss: found {type(array).__name__}, expected NumPy arrays (N, classes) and (N,)"
            )
    shapes = f"logits {logits.shape} of {logits.dtype} and labels {labels.shape} of {labels.dtype}"
    if logits.ndim != 2 or 0 in logits.shape or labels.shape != logits.shape[:1]:
        raise NumpyBackendError(f"CrossEntropyLoss: found {shapes}, expected (N, classes) and (N,)")
    if not np.issubdtype(logits.dtype, np.floating) or not np.issubdtype(labels.dtype, np.integer):
        raise NumpyBackendError(f"CrossEntropyLoss: found {shapes}, expected a floating and an integer dtype")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        label_range = f"labels from {labels.min()} to {labels.max()}"
        raise NumpyBackendError(f"CrossEntropyLoss: found {label_range} in {shapes}, expected 0 to {logits.shape[1] - 1}")
