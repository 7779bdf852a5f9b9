"""The images that are explained: the first right and wrong ones of the test set, and the one whose activations are shown."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from labbook.core.errors import DataError, ParamsError
from labbook.core.inference import model_shape
from labbook.core.packed import Packed
from labbook.core.parts import closest
from labbook.trained import Restored

__all__ = ["Sample", "Samples", "find_samples", "read_image"]

BATCH = 50  # test images at once, until enough are found: a large model need not see all of them
OVERLAP = 0.5  # intersection over union from which a region counts as found, as in the Pascal VOC challenge


@dataclass(frozen=True)
class Sample:
    """A test image: where it stands, what the model makes of it, and whether that is right."""

    index: int
    caption: str
    right: bool


@dataclass(frozen=True)
class Samples:
    """The images that are attributed, right ones first.

    Attributes:
        about: one `Sample` an image.
        pixels: (N, C, H, W), uint8.
        images: (N, C, H, W), as the model takes them.
        chosen: (N, classes, ...): 1 for the logits that are attributed, 0 for the others.
    """

    about: list[Sample]
    pixels: NDArray[np.uint8]
    images: Tensor
    chosen: Tensor


@torch.no_grad()
def find_samples(
    restored: Restored, packed: Packed, device: torch.device, *, correct: int, wrong: int, region: str | None
) -> Samples:
    """Take the first test images that are classified correctly, and the first that are not.

    The logit of the predicted class is chosen. Of a segmenter it is that of the class `region` at every pixel predicted as it;
    an image without such pixels is passed over, and one is right where truth and prediction of the class overlap by half.

    Args:
        restored: the model, on the device.
        packed: its dataset.
        device: of the model.
        correct: at most so many right ones; fewer where there are no more.
        wrong: at most so many wrong ones.
        region: a class name, for a segmenter alone.

    Raises:
        ParamsError: the region is not a class, is missing, or stands beside a classifier.
        DataError: the test set has no such image.
    """
    number = _region_number(packed, region)
    found: dict[bool, list[tuple[Sample, Tensor, Tensor]]] = {True: [], False: []}
    wanted = {True: correct, False: wrong}
    for start in range(0, len(packed.test), BATCH):
        images = restored.convert(torch.from_numpy(packed.test.images[start : start + BATCH]).to(device))
        labels = torch.from_numpy(packed.test.labels[start : start + BATCH]).to(device)
        logits = restored.model(images)
        judged = (
            _classified(logits, labels, packed, start) if number is None else _segmented(logits, labels, packed, number, start)
        )
        for sample, chosen in judged:
            if len(found[sample.right]) < wanted[sample.right]:
                found[sample.right].append((sample, images[sample.index - start], chosen))
        if all(len(found[right]) == wanted[right] for right in found):
            break
    taken = found[True] + found[False]
    if not taken:
        raise DataError(
            f"explain: none of the {len(packed.test)} test images is among the {correct} correct and {wrong} wrong ones asked "
            "for. Ask for the other kind, or for another region."
        )
    about = [sample for sample, _, _ in taken]
    return Samples(
        about=about,
        pixels=packed.test.images[[sample.index for sample in about]],
        images=torch.stack([image for _, image, _ in taken]),
        chosen=torch.stack([chosen for _, _, chosen in taken]),
    )


def read_image(image: int | str, restored: Restored, packed: Packed) -> NDArray[np.uint8]:
    """Read an image of the test set, or a file, whose middle is scaled to the size that the model takes; (C, H, W).

    Raises:
        ParamsError: the test set has no such index.
        DataError: the file is missing or no image.
    """
    if isinstance(image, int):
        if image >= len(packed.test):
            raise ParamsError(f"image: {image} is none of the {len(packed.test)} test images, 0 to {len(packed.test) - 1}.")
        chosen: NDArray[np.uint8] = packed.test.images[image]
        return chosen
    channels, height, width = model_shape(restored.convert, packed.image_shape)
    if channels not in (1, 3):
        raise ParamsError(f"image: {image} is a picture, and this model takes {channels} channels. Give an index.")
    try:
        with Image.open(Path(image)) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError as error:
        raise DataError(f"{image}: not found. `image` is an index into the test set or the path of an image file.") from error
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{image}: cannot be read as an image ({error}). PNG and JPEG will do.") from error
    side = min(picture.width / width, picture.height / height)
    left, top = (picture.width - side * width) / 2, (picture.height - side * height) / 2
    box = (left, top, left + side * width, top + side * height)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box))
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _region_number(packed: Packed, region: str | None) -> int | None:
    segments = packed.test.labels.ndim > 1
    if region is None and segments:
        raise ParamsError(f"region: missing; labels of {packed.name} are of pixels. Classes: {', '.join(packed.classes)}.")
    if region is None:
        return None
    if not segments:
        raise ParamsError(f"region: {region!r} is for segmentation, and labels of {packed.name} are of images. Leave it out.")
    if region not in packed.classes:
        raise ParamsError(
            f"region: {region!r} is no class of {packed.name}{closest(region, list(packed.classes))} "
            f"There are: {', '.join(packed.classes)}."
        )
    return packed.classes.index(region)


def _classified(logits: Tensor, labels: Tensor, packed: Packed, start: int) -> list[tuple[Sample, Tensor]]:
    """Judge logits (N, classes) of the test images from `start` on; beside each, (classes,): 1 for the predicted one."""
    predicted = logits.argmax(dim=1)
    chosen = functional.one_hot(predicted, logits.shape[1]).to(logits.dtype)
    judged = []
    for row, (actual, said) in enumerate(zip(labels.tolist(), predicted.tolist(), strict=True)):
        caption = packed.classes[actual] if actual == said else f"{packed.classes[actual]} taken for {packed.classes[said]}"
        judged.append((Sample(start + row, caption, actual == said), chosen[row]))
    return judged


def _segmented(logits: Tensor, labels: Tensor, packed: Packed, number: int, start: int) -> list[tuple[Sample, Tensor]]:
    """Judge logits (N, classes, H, W) where the class is predicted; beside each, (classes, H, W): 1 for it at its pixels."""
    judged = []
    for row, (said, actual) in enumerate(zip(logits.argmax(dim=1) == number, labels == number, strict=True)):
        if said.any():
            overlap = float((said & actual).sum() / (said | actual).sum())
            chosen = torch.zeros_like(logits[row])
            chosen[number] = said
            judged.append((Sample(start + row, f"{packed.classes[number]}, overlap {overlap:.2f}", overlap >= OVERLAP), chosen))
    return judged
