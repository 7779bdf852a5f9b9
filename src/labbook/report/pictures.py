"""The pictures of an experiment on the site, with alternative texts."""

import struct
from dataclasses import dataclass
from pathlib import Path

from labbook.io import read_bytes
from labbook.report.principles import describe_boundary
from labbook.report.records import Gathered, Record

__all__ = ["Picture", "pictures"]

EXPLAIN_KINDS = ("filters", "activations", "attributions")  # pictures of the explain stage


@dataclass(frozen=True)
class Picture:
    """A picture on a page.

    Attributes:
        path: path of the copy in the folder of the site.
        source: path of the original.
        width: in pixels.
        height: in pixels.
        alt: alternative text.
    """

    path: str
    source: Path
    width: int
    height: int
    alt: str


def pictures(gathered: Gathered, record: Record, root: Path = Path()) -> dict[str, Picture]:
    """Return the pictures of an experiment, by kind; empty if they were drawn on another machine.

    Raises:
        DataError: a picture is missing.
    """
    if not record.has_pictures:
        return {}
    stages = {"samples": f"evaluate@{record.name}"}
    if record.name in gathered.explained:
        stages |= dict.fromkeys(EXPLAIN_KINDS, f"explain@{record.name}")
    texts = _alternative_texts(record)
    by_kind = {}
    for kind, stage in stages.items():
        file = root / (f"plots/{kind}/{record.name}.png" if kind == "samples" else f"plots/explained/{record.name}/{kind}.png")
        by_kind[kind] = Picture(f"pictures/{kind}/{record.name}.png", file, *_size(file, stage), texts[kind])
    return by_kind


def _alternative_texts(record: Record) -> dict[str, str]:
    name, metrics = record.name, record.card["metrics"]
    if record.settings["task"] == "toy2d":
        samples = f"Regions of both classes by {name}, with the test points: {describe_boundary(metrics)}"
    elif record.settings["task"] == "segmentation":
        samples = f"Test images of {name}, the actual class of every pixel, and the predicted one"
    else:
        mistakes = [f"{mistake['actual']} taken for {mistake['predicted']}" for mistake in record.card["mistakes"]]
        samples = "Misclassified test images: " + ", ".join(mistakes) if mistakes else "No test image is misclassified"
    return {
        "samples": samples,
        "filters": f"Weights of the first layer of {name}, as pictures",
        "activations": f"Filters of {name} above their activations for one image, and the activations of its last layer",
        "attributions": f"Test images of {name}, and for each method, how much each pixel contributes to the prediction",
    }


def _size(file: Path, stage: str) -> tuple[int, int]:
    """Read width and height from the header of a PNG, so that the layout does not shift while a page loads."""
    width, height = struct.unpack(">II", read_bytes(file, f"Run `dvc repro {stage}`.")[16:24])
    return width, height
