"""Preprocessing, which is applied to every image of the training, validation and test sets.

The operations and their order are those of torchvision's `Compose([ToTensor, Resize, Normalize])`, applied to a whole batch.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional

from labbook.config.images import Preprocess
from labbook.errors import ParamsError

__all__ = ["Preprocessing", "black_pixel", "resize"]


class Preprocessing:
    """Map uint8 images to the float32 inputs of a model."""

    def __init__(self, settings: Preprocess) -> None:
        self._resize = settings.resize
        self._mean, self._std = settings.mean, settings.std
        self._normalizes = (settings.mean, settings.std) != (0, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """Scale uint8 images (N, C, H, W) to [0, 1], resize and normalise them.

        Raises:
            ParamsError: the mean or standard deviation has a different number of channels.
        """
        for name, value in (("mean", self._mean), ("std", self._std)):
            _check_channels(name, value, images.shape[1])
        images = images.to(torch.float32).div_(255)
        if self._resize:
            images = resize(images, self._resize)
        if self._normalizes:
            mean, std = _constants(_numbers(self._mean), _numbers(self._std), images.device)
            images = images.sub_(mean).div_(std)  # in place, because this may be a whole dataset
        return images


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images (N, C, H, W) to (N, C, size, size), bilinear and antialiased."""
    return functional.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def black_pixel(settings: Preprocess, device: torch.device) -> Tensor:
    """Return a black pixel after normalisation, (1, C, 1, 1) or (1, 1, 1, 1)."""
    mean, std = _constants(_numbers(settings.mean), _numbers(settings.std), device)
    return (0 - mean) / std


def _check_channels(name: str, value: float | list[float], channels: int) -> None:
    if isinstance(value, list) and len(value) != channels:
        raise ParamsError(
            f"preprocess.{name}: {len(value)} numbers for images of {channels} channels. Give one number, or one per channel."
        )


def _numbers(value: float | list[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


@functools.cache  # cached, because a copy in every step would wait for the GPU
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation on the device, each (1, C, 1, 1) or (1, 1, 1, 1)."""
    means, stds = (torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1) for values in (mean, std))
    return means, stds
