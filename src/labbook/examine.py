"""A trained model before its test set: what its task measures of it."""

from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labbook.core.inference import place, predict
from labbook.core.packed import Packed
from labbook.trained import Restored

__all__ = ["examine"]


def examine(task: ModuleType, restored: Restored, packed: Packed, device: torch.device) -> Any:
    """Give the task's `Evaluation` of a model.

    Args:
        task: a file of `labbook.evaluation`.
        restored: the model, on the device.
        packed: its dataset.
        device: of the model.
    """

    @torch.no_grad()
    def ask(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = restored.model(restored.convert(torch.from_numpy(images).to(device))).cpu().numpy()
        return logits

    logits, loss = predict(restored.model, restored.loss, place(packed.test, restored.convert, device))
    return task.evaluate(logits.numpy(), packed.test.labels, loss, packed.classes, ask)
