"""Splits on the device, their batches, and the forward passes that training and evaluation share."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from labbook.data.packed import Split

__all__ = ["AllReduce", "DeviceDataset", "RunningMetrics", "evaluate", "evaluation_mode", "model_shape", "predict", "to_device"]

BATCH = 1000  # images per forward pass without gradients; fewer if they are larger than 32×32
FLOAT_LIMIT = 2 << 30  # bytes of a float32 split; images of a larger one stay uint8 and are converted batch by batch
LOGITS_LIMIT = 1 << 24  # number of logits kept before their predictions are counted
GATHER_BYTES = 2 << 20  # bytes of small batches gathered at once
CONVERTED_AT_ONCE = 4096  # images

AllReduce = Callable[[list[float]], list[float]]  # sums each number over all processes that share a split


@dataclass(frozen=True)
class DeviceDataset:
    """A split on the device.

    Attributes:
        pixels: (N, H, W, C), so that a gathered batch is `channels_last`; float32, or uint8 to be converted batch by batch.
        labels: (N,), int64, or (N, H, W), uint8, which become int64 batch by batch.
        convert: uint8 (N, C, H, W) → float32; `None` if `pixels` are converted.
    """

    pixels: Tensor
    labels: Tensor
    convert: Callable[[Tensor], Tensor] | None

    def __len__(self) -> int:
        return len(self.labels)

    def iter_batches(self, order: Tensor, size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of images (N, C, H, W) and labels in the given order of rows, from batch `start` on.

        Several small batches are gathered at once. Batch `start` has the same alignment in memory as if all previous batches
        had been yielded, because the last bits of a sum may depend on it.
        """
        batch_count = 1 if self.convert else max(1, GATHER_BYTES // (size * self.pixels[0].nbytes))
        for first in range(start - start % batch_count, math.ceil(len(order) / size), batch_count):
            rows = order[first * size : (first + batch_count) * size]
            images = torch.split(self._images(self.pixels.index_select(0, rows)), size)
            labels = torch.split(self.labels.index_select(0, rows).long(), size)
            skipped = max(0, start - first)
            yield from zip(images[skipped:], labels[skipped:], strict=True)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the split in its stored order, in batches sized for forward passes without gradients."""
        height, width = self._images(self.pixels[:1]).shape[2:]
        size = max(1, min(BATCH, BATCH * 32 * 32 // (height * width)))
        for pixels, labels in zip(torch.split(self.pixels, size), torch.split(self.labels, size), strict=True):
            yield self._images(pixels), labels.long()

    def _images(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 3, 1, 2)
        return self.convert(images) if self.convert else images


def to_device(split: Split, convert: Callable[[Tensor], Tensor], device: torch.device) -> DeviceDataset:
    """Copy a split to the device, once per training.

    Args:
        split: uint8 images (N, C, H, W) and labels.
        convert: preprocessing, uint8 → float32.
        device: device of the result.
    """
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels).to(device)
    first = convert(images[:1].to(device))
    if first.nbytes * len(images) > FLOAT_LIMIT:
        return DeviceDataset(images.permute(0, 2, 3, 1).contiguous().to(device), labels, convert)
    _, channels, height, width = first.shape
    pixels = torch.empty(len(images), height, width, channels, device=device)
    for part, block in zip(torch.split(pixels, CONVERTED_AT_ONCE), torch.split(images, CONVERTED_AT_ONCE), strict=True):
        part.copy_(convert(block.to(device)).permute(0, 2, 3, 1))
    return DeviceDataset(pixels, labels, None)


def model_shape(convert: Callable[[Tensor], Tensor], image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of a model's inputs, given that of the images, which `convert` may resize."""
    _, channels, height, width = convert(torch.zeros(1, *image_shape, dtype=torch.uint8)).shape
    return channels, height, width


class RunningMetrics:
    """Running mean loss and accuracy over batches, summed on the device and read once: reading waits for the device."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._sizes: list[int] = []
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._pending = self._counted = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch: its mean loss, logits (N, classes, ...) and labels (N, ...)."""
        self._losses.append(loss.detach())
        self._sizes.append(len(labels))
        self._logits.append(logits.detach())
        self._labels.append(labels)
        self._pending += logits.numel()
        if self._pending > LOGITS_LIMIT:
            self._count()

    def read(self, all_reduce: AllReduce = lambda values: values) -> tuple[float, float]:
        """Return the mean loss per sample, and the accuracy: the fraction of labels that have the largest logit."""
        self._count()
        losses = torch.stack(self._losses).double() if self._losses[0].device.type != "mps" else torch.stack(self._losses)
        sizes = torch.tensor(self._sizes, dtype=losses.dtype, device=losses.device)
        values = [float((losses * sizes).sum()), sum(self._sizes), float(torch.stack(self._correct).sum()), self._counted]
        loss, samples, correct, labels = all_reduce(values)
        return loss / samples, correct / labels

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, on the CPU; reading waits for the device."""
        self._count()
        return {
            "losses": torch.stack(self._losses).cpu() if self._losses else None,
            "sizes": self._sizes,
            "correct": int(sum(self._correct)),
            "counted": self._counted,
        }

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state` returned. Losses are kept separate, so that they are summed in the same order."""
        if state["losses"] is not None:
            self._losses = list(state["losses"].to(device))
            self._correct = [torch.tensor(state["correct"], device=device)]
        self._sizes, self._counted = list(state["sizes"]), state["counted"]

    def _count(self) -> None:
        if self._logits:
            labels = torch.cat(self._labels)
            self._correct.append((torch.cat(self._logits).argmax(1) == labels).sum())
            self._counted += labels.numel()
        self._logits, self._labels, self._pending = [], [], 0


def evaluate(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: DeviceDataset,
    all_reduce: AllReduce = lambda values: values,
) -> tuple[float, float]:
    """Return mean loss and accuracy in evaluation mode; the model's own mode is restored."""
    metrics = RunningMetrics()
    with evaluation_mode(model):
        for images, labels in inputs.batches():
            logits = model(images)
            metrics.add(loss(logits, labels), logits, labels)
    return metrics.read(all_reduce)


def predict(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], inputs: DeviceDataset) -> tuple[Tensor, float]:
    """Return the logits of all images, (N, classes, ...), on the CPU, and the mean loss; the model's own mode is restored."""
    metrics, parts = RunningMetrics(), []
    with evaluation_mode(model):
        for images, labels in inputs.batches():
            logits = model(images)
            metrics.add(loss(logits, labels), logits, labels)
            parts.append(logits.cpu())
    return torch.cat(parts), metrics.read()[0]


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode and disable gradients within the context; restore the model's own mode, even after an error."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
