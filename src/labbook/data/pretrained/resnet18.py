"""ResNet-18 (He et al., 2016, "Deep residual learning"), trained on ImageNet: torchvision's IMAGENET1K_V1 weights."""

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor

from labbook.data.download import FETCH, FETCH_AGAIN, Remote, obtain
from labbook.errors import DataError
from labbook.io import read_bytes

__all__ = ["fetch", "read", "without_head"]

MIRRORS = ("https://download.pytorch.org/models",)
WEIGHTS = Remote("resnet18-f37072fd.pth", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", "hub/checkpoints")


def fetch(folder: Path) -> None:
    """Fetch the published file into `folder`.

    Raises:
        DataError: no source has it; the message says what was tried.
    """
    obtain(WEIGHTS, MIRRORS, folder / WEIGHTS.name)


def read(folder: Path) -> dict[str, Tensor]:
    """Read all weights except the head's.

    Raises:
        DataError: the file is missing or damaged, or does not hold tensors by name.
    """
    path = folder / WEIGHTS.name
    content = io.BytesIO(read_bytes(path, FETCH))
    damaged = f"{path}: damaged, torch.load cannot read it. {FETCH_AGAIN}"
    try:
        with warnings.catch_warnings(action="ignore"):  # warnings about a damaged file; the error below suffices
            state = torch.load(content, weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(damaged) from error
    named = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    if not named or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise DataError(damaged)
    return without_head(state)


def without_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state without the last layer, whose outputs are the classes of the dataset that it was trained on."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
