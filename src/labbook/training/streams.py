"""Independent streams of random numbers: the order of each epoch, augmentation, and torch's own generators."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["augmentation_generator", "derived_seed", "load_random_state", "random_state", "shuffled_rows"]

AUGMENTATION = 0  # number of the stream; the order of epoch n, from 1 on, has stream n


def derived_seed(seed: int, stream: int) -> int:
    """Return the seed of one of several independent streams of random numbers: an epoch's number, or `AUGMENTATION`."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1, np.uint64)[0])


def augmentation_generator(seed: int, device: torch.device) -> torch.Generator:
    """Return the generator that augmentation draws from, on the device of the images."""
    return torch.Generator(device).manual_seed(derived_seed(seed, AUGMENTATION))


def shuffled_rows(count: int, seed: int, epoch: int) -> Tensor:
    """Return the order of an epoch, drawn on the CPU from seed and epoch alone: the same on every device and after a resume."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(derived_seed(seed, epoch)))


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the states of torch's generators on the CPU and on the training's device, but on no other device."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "mps": torch.mps.get_rng_state() if device.type == "mps" else None,
    }


def load_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore the states that `random_state` returned, on `device`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps":
        torch.mps.set_rng_state(state["mps"])
