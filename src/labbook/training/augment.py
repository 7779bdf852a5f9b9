"""Random augmentation of training batches: crop, horizontal flip, rotation.

The operations and their order are those of torchvision's `Compose([RandomCrop, RandomHorizontalFlip, RandomRotation])`,
applied to a whole batch with independent random parameters for each image.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labbook.config.images import Augment, Preprocess
from labbook.training.preprocessing import black_pixel

__all__ = ["Augmentation", "RandomParameters", "crop", "hflip", "rotate"]


@dataclass(frozen=True)
class RandomParameters:
    """Random parameters of one batch; `None` for an operation that the settings do not use.

    Attributes:
        offsets: first row and first column of each crop in the padded image, (2, N).
        flips: whether to flip each image horizontally, (N,).
        angles: degrees counter-clockwise, (N,).
    """

    offsets: Tensor | None
    flips: Tensor | None
    angles: Tensor | None


class Augmentation:
    """Random augmentation of preprocessed batches.

    Attributes:
        transform: maps images (N, C, H, W) and a generator on their device to augmented images; `None` if the settings
            enable no augmentation.
    """

    def __init__(self, settings: Augment, preprocess: Preprocess) -> None:
        self._settings = settings
        # Cached, because copying it in every step would synchronise with the GPU.
        self._black = functools.cache(functools.partial(black_pixel, preprocess))
        enabled = settings.crop_padding or settings.flip or settings.rotation
        self.transform: Callable[[Tensor, torch.Generator], Tensor] | None = self._transform if enabled else None

    def draw(self, count: int, generator: torch.Generator) -> RandomParameters:
        """Draw the parameters of `count` images on the generator's device, always in the same order."""
        settings, device = self._settings, generator.device

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(count, generator=generator, device=device) * (high - low) + low

        end = 2 * settings.crop_padding + 1
        return RandomParameters(
            offsets=torch.randint(end, (2, count), generator=generator, device=device) if settings.crop_padding else None,
            flips=uniform(0, 1) < settings.flip if settings.flip else None,
            angles=uniform(-settings.rotation, settings.rotation) if settings.rotation else None,
        )

    def apply(self, images: Tensor, parameters: RandomParameters) -> Tensor:
        """Apply `parameters` to preprocessed images (N, C, H, W); return them in the memory format `channels_last`."""
        images = images.contiguous(memory_format=torch.channels_last)
        if parameters.offsets is not None:
            images = crop(images, parameters.offsets, self._settings.crop_padding, self._black(images.device))
        if parameters.flips is not None:
            images = hflip(images, parameters.flips)
        if parameters.angles is not None:
            images = rotate(images, parameters.angles, self._black(images.device))
        return images

    def _transform(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.apply(images, self.draw(len(images), generator))


def crop(images: Tensor, offsets: Tensor, padding: int, black: Tensor) -> Tensor:
    """Pad images and crop them to their original size.

    Args:
        images: (N, C, H, W).
        offsets: first row and first column in the padded image, from 0 to twice the padding, (2, N).
        padding: pixels on each side.
        black: value of the padding, (1, C, 1, 1) or (1, 1, 1, 1).
    """
    count, _, height, width = images.shape
    first_rows, first_columns = offsets.view(2, count, 1, 1) - padding
    rows = first_rows + torch.arange(height, device=images.device).view(height, 1)
    columns = first_columns + torch.arange(width, device=images.device)
    return _gather(images, rows, columns, black)


def hflip(images: Tensor, flips: Tensor) -> Tensor:
    """Flip each image of (N, C, H, W) horizontally if its entry in `flips`, (N,), is true."""
    return torch.where(flips.view(-1, 1, 1, 1), images.flip(-1), images)


def rotate(images: Tensor, angles: Tensor, black: Tensor) -> Tensor:
    """Rotate images about their centre, with nearest-neighbour interpolation.

    Args:
        images: (N, C, H, W).
        angles: degrees counter-clockwise, (N,).
        black: value outside the image, (1, C, 1, 1) or (1, 1, 1, 1).
    """
    height, width = images.shape[2:]
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y = torch.arange(height, device=images.device).view(height, 1) - centre_y
    x = torch.arange(width, device=images.device) - centre_x
    radians = torch.deg2rad(angles).view(-1, 1, 1)
    cosine, sine = radians.cos(), radians.sin()
    rows = (sine * x + cosine * y + centre_y).round().long()
    columns = (cosine * x - sine * y + centre_x).round().long()
    return _gather(images, rows, columns, black)


def _gather(images: Tensor, rows: Tensor, columns: Tensor, black: Tensor) -> Tensor:
    """Gather each pixel of the result from a row and a column of its image; pixels outside the image are black.

    Args:
        images: (N, C, H, W).
        rows: int64, (N, H, W) once broadcast against `columns`.
        columns: likewise.
        black: (1, C, 1, 1) or (1, 1, 1, 1).
    """
    count, channels, height, width = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    # Appending a black pixel takes half as long as masking the result.
    pixels = torch.cat((pixels, black.expand(1, channels, 1, 1).reshape(1, channels)))
    starts = torch.arange(count, device=images.device).view(count, 1, 1) * (height * width)
    indices = torch.where(inside, starts + rows * width + columns, count * height * width)
    return pixels.index_select(0, indices.flatten()).view(count, height, width, channels).permute(0, 3, 1, 2)
