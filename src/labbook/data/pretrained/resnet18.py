"""ResNet-18 (He et al., "Deep residual learning", 2016), pretrained on ImageNet: torchvision's IMAGENET1K_V1 weights."""

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor

from labbook.data.download import FIX_DAMAGED, FIX_MISSING, RemoteFile, fetch_file
from labbook.errors import DataError
from labbook.io import read_bytes

__all__ = ["fetch", "read", "without_head"]

MIRRORS = ("https://download.pytorch.org/models",)
WEIGHTS = RemoteFile(
    "resnet18-f37072fd.pth", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", "hub/checkpoints"
)


def fetch(folder: Path) -> None:
    """Write the published file into `folder`.

    Raises:
        DataError: the file is not available; the message lists what was tried.
    """
    fetch_file(WEIGHTS, MIRRORS, folder / WEIGHTS.name)


def read(folder: Path) -> dict[str, Tensor]:
    """Read all weights except the head's.

    Raises:
        DataError: the file is missing or damaged, or is not a state dict.
    """
    path = folder / WEIGHTS.name
    content = io.BytesIO(read_bytes(path, FIX_MISSING))
    message = f"{path}: damaged, not a state dict that torch.load can read. {FIX_DAMAGED}"
    try:
        with warnings.catch_warnings(action="ignore"):  # a damaged file can also cause warnings; the error below suffices
            state = torch.load(content, weights_only=True)
    except Exception as error:  # a damaged pickle can raise any exception
        raise DataError(message) from error
    has_names = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    if not has_names or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise DataError(message)
    return without_head(state)


def without_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the last layer, whose outputs are the classes of the pretraining dataset."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
