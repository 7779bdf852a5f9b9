"""The explained images: the first correctly and wrongly classified test images, and the image whose activations are shown."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from labbook.config.messages import closest
from labbook.data.packed import PackedDataset
from labbook.errors import DataError, ParamsError
from labbook.evaluation.restore import Restored
from labbook.training.inference import model_shape

__all__ = ["Sample", "Samples", "find_samples", "read_image"]

BATCH = 50  # test images per forward pass, until enough samples are found
OVERLAP = 0.5  # intersection over union from which a region counts as correct, as in the Pascal VOC challenge


@dataclass(frozen=True)
class Sample:
    """A test image: its index, a caption with the prediction, and whether the prediction is right."""

    index: int
    caption: str
    right: bool


@dataclass(frozen=True)
class Samples:
    """The images that are attributed, correct ones first.

    Attributes:
        metadata: one `Sample` per image.
        pixels: (N, C, H, W), uint8.
        images: (N, C, H, W), after preprocessing.
        targets: (N, classes, ...): 1 for the logits that are attributed, 0 for the others.
        notes: sentences about requested images that the test set lacks.
    """

    metadata: list[Sample]
    pixels: NDArray[np.uint8]
    images: Tensor
    targets: Tensor
    notes: list[str]


@dataclass(frozen=True)
class _Batch:
    """Test images from index `start` on: (N, C, H, W), after preprocessing, with their logits and labels."""

    start: int
    images: Tensor
    logits: Tensor
    labels: Tensor


@dataclass(frozen=True)
class _Candidate:
    """A test image that may be attributed; `kind` is correct, wrong, or missed (a region that is not predicted)."""

    kind: str
    sample: Sample
    image: Tensor
    targets: Tensor


@torch.no_grad()
def find_samples(
    restored: Restored, packed: PackedDataset, device: torch.device, *, correct: int, wrong: int, region: str | None
) -> Samples:
    """Find the first test images that are classified correctly, and the first that are not.

    The target is the logit of the predicted class. For a segmenter it is that of the class `region`, at every pixel that is
    predicted as this class; images without such pixels are skipped, and an image is correct if the union of predicted and true
    pixels is at most twice their intersection.

    If there are fewer images than requested, `notes` say so. If none of the requested kinds exists, other images are used. If
    the region is never predicted, the target is its logit at the true pixels.

    Args:
        restored: the model, on the device.
        packed: its dataset.
        device: the device of the model.
        correct: maximum number of correctly classified images.
        wrong: maximum number of wrongly classified images.
        region: a class name, for segmentation only.

    Raises:
        ParamsError: the region is not a class, is missing, or is given for a classifier.
        DataError: the region is neither predicted nor true anywhere in the test set.
    """
    find_candidates = _candidate_finder(packed, region)
    requested = {"correct": correct, "wrong": wrong}
    candidates: dict[str, list[_Candidate]] = {"correct": [], "wrong": [], "missed": []}
    for start in range(0, len(packed.test), BATCH):
        images = restored.convert(torch.from_numpy(packed.test.images[start : start + BATCH]).to(device))
        labels = torch.from_numpy(packed.test.labels[start : start + BATCH]).to(device)
        for candidate in find_candidates(_Batch(start, images, restored.model(images), labels)):
            candidates[candidate.kind].append(candidate)
        if all(len(candidates[kind]) >= count for kind, count in requested.items()):
            break
        candidates = {kind: items[: correct + wrong] for kind, items in candidates.items()}
    chosen, notes = _choose(candidates, requested, region)
    if not chosen:
        others = ", ".join(name for name in packed.classes if name != region)
        raise DataError(f"region: {region!r} is neither predicted nor true in any test image. Choose another class: {others}.")
    metadata = [candidate.sample for candidate in chosen]
    return Samples(
        metadata=metadata,
        pixels=packed.test.images[[sample.index for sample in metadata]],
        images=torch.stack([candidate.image for candidate in chosen]),
        targets=torch.stack([candidate.targets for candidate in chosen]),
        notes=notes,
    )


def read_image(image: int | str, restored: Restored, packed: PackedDataset) -> NDArray[np.uint8]:
    """Read an image of the test set, or an image file, cropped to its centre and scaled to the size of the model's input.

    Returns:
        The image, (C, H, W).

    Raises:
        ParamsError: the index is out of range.
        DataError: the file is missing or is not an image.
    """
    if isinstance(image, int):
        if image >= len(packed.test):
            raise ParamsError(f"image: {image} is out of range; expected 0 to {len(packed.test) - 1}.")
        chosen: NDArray[np.uint8] = packed.test.images[image]
        return chosen
    channels, height, width = model_shape(restored.convert, packed.image_shape)
    if channels not in (1, 3):
        raise ParamsError(
            f"image: {image} is an image file, but the input of this model has {channels} channels. Use an index."
        )
    try:
        with Image.open(Path(image)) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError as error:
        raise DataError(f"{image}: not found. `image` is an index into the test set or the path of an image file.") from error
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{image}: cannot be read as an image ({error}). Use a PNG or JPEG file.") from error
    side = min(picture.width / width, picture.height / height)
    left, top = (picture.width - side * width) / 2, (picture.height - side * height) / 2
    box = (left, top, left + side * width, top + side * height)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box))
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _choose(
    candidates: dict[str, list[_Candidate]], requested: dict[str, int], region: str | None
) -> tuple[list[_Candidate], list[str]]:
    """Choose up to the requested number of candidates, or others if there are none; return notes about missing ones."""
    chosen = [candidate for kind, count in requested.items() for candidate in candidates[kind][:count]]
    notes = [
        f"{len(candidates[kind])} of {count} {kind} images: the test set has no more"
        for kind, count in requested.items()
        if len(candidates[kind]) < count
    ]
    if chosen:
        return chosen, notes
    predicted = candidates["correct"] + candidates["wrong"]
    if predicted:
        notes.append(f"all that follow are {predicted[0].kind}")
    elif candidates["missed"]:
        notes.append(f"{region} is predicted nowhere; the target is its logit at the pixels where it is true")
    return (predicted or candidates["missed"])[: sum(requested.values())], notes


def _candidate_finder(packed: PackedDataset, region: str | None) -> Callable[[_Batch], list[_Candidate]]:
    """Return the function that converts a batch to candidates, after checking `region`."""
    classes, segments = packed.classes, packed.test.labels.ndim > 1
    if region is None:
        if segments:
            raise ParamsError(f"region: missing; {packed.name} has one label per pixel. Choose one of {', '.join(classes)}.")
        return lambda batch: _classification_candidates(batch, classes)
    if not segments:
        raise ParamsError(f"region: {region!r} is for segmentation, but {packed.name} has one label per image. Remove it.")
    if region not in classes:
        raise ParamsError(
            f"region: {region!r} is not a class of {packed.name}{closest(region, list(classes))} Classes: {', '.join(classes)}."
        )
    return lambda batch: _segmentation_candidates(batch, region, classes.index(region))


def _classification_candidates(batch: _Batch, classes: tuple[str, ...]) -> list[_Candidate]:
    """Compare predicted classes, of logits (N, classes), with labels (N,)."""
    predictions = batch.logits.argmax(dim=1)
    targets = functional.one_hot(predictions, len(classes)).to(batch.logits.dtype)
    candidates = []
    for row, (actual, predicted) in enumerate(zip(batch.labels.tolist(), predictions.tolist(), strict=True)):
        right = actual == predicted
        caption = classes[actual] if right else f"{classes[actual]} taken for {classes[predicted]}"
        sample = Sample(batch.start + row, caption, right)
        candidates.append(_Candidate("correct" if right else "wrong", sample, batch.images[row], targets[row]))
    return candidates


def _segmentation_candidates(batch: _Batch, region: str, number: int) -> list[_Candidate]:
    """Compare the pixels predicted as a class, of logits (N, classes, H, W), with those of labels (N, H, W)."""
    candidates = []
    regions = zip(batch.logits.argmax(dim=1) == number, batch.labels == number, strict=True)
    for row, (predicted, actual) in enumerate(regions):
        if not (predicted | actual).any():
            continue
        overlap = float((predicted & actual).sum() / (predicted | actual).sum())
        missed, right = not predicted.any(), overlap >= OVERLAP
        sample = Sample(batch.start + row, f"{region}, not predicted" if missed else f"{region}, overlap {overlap:.2f}", right)
        targets = torch.zeros_like(batch.logits[row])
        targets[number] = actual if missed else predicted
        kind = "missed" if missed else "correct" if right else "wrong"
        candidates.append(_Candidate(kind, sample, batch.images[row], targets))
    return candidates
