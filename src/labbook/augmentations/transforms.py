"""Resize and normalise; crop, flip, jitter and rotate at random, a whole batch at once.

The transforms and their order are those of torchvision's `Compose([Resize, RandomCrop, RandomHorizontalFlip, ColorJitter,
RandomRotation, Normalize])`, but that the four of `ColorJitter` keep one order, which torchvision draws anew for each
image. Hue is turned by the formula without cases of https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional

from labbook.core.errors import ParamsError
from labbook.core.parts import PartSettings

__all__ = ["Draws", "Settings", "Transforms", "build", "cropped", "flipped", "jittered", "resized", "rotated"]

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue in grey, to the digits that torchvision has
# How many channels images may have for it. Brightness needs no colours.
CHANNELS = {"contrast": (1, 3), "saturation": (3,), "hue": (3,)}
JITTERS = ("brightness", "contrast", "saturation", "hue")


def _positive(std: float | list[float]) -> float | list[float]:
    if any(one <= 0 for one in (std if isinstance(std, list) else [std])):
        raise ValueError("a standard deviation is greater than 0")
    return std


class Settings(PartSettings):
    """Keys of an `augmentation` block named `transforms`; a key that is left out does nothing."""

    name: Literal["transforms"]
    mean: float | list[float] = Field(0.0, description="taken from pixels in [0, 1]: one number, or one a channel")
    std: Annotated[float | list[float], AfterValidator(_positive)] = Field(1.0, description="that they are then divided by")
    resize: int | None = Field(None, gt=0, le=4096, description="height and width, in pixels")
    crop_padding: int = Field(0, ge=0, le=4096, description="black pixels on each side before a crop of the original size")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip")
    brightness: float = Field(0.0, ge=0, description="the factor is drawn from 1 ± this, never below 0")
    contrast: float = Field(0.0, ge=0, description="as brightness")
    saturation: float = Field(0.0, ge=0, description="as brightness")
    hue: float = Field(0.0, ge=0, le=0.5, description="the turn is drawn from ± this; 1 is once around")
    rotation: float = Field(0.0, ge=0, le=180, description="the angle is drawn from ± so many degrees")


@dataclass(frozen=True)
class Draws:
    """What is drawn for a batch; `None` where a transform is not asked for.

    Attributes:
        offsets: of the crop in the padded image, (2, N): rows, columns.
        flips: whether, (N,).
        jitter: its factors (N,) by the name of the setting.
        angles: in degrees, (N,).
    """

    offsets: Tensor | None
    flips: Tensor | None
    jitter: dict[str, Tensor]
    angles: Tensor | None


class Transforms:
    """The transforms that the settings ask for.

    Attributes:
        random: what is drawn anew for each batch, or `None`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        asked = any((settings.crop_padding, settings.flip, settings.rotation, *(getattr(settings, name) for name in JITTERS)))
        self.random: Callable[[Tensor, torch.Generator], Tensor] | None = self._random if asked else None

    def fixed(self, images: Tensor) -> Tensor:
        """Scale bytes (N, C, H, W) to [0, 1], resize and normalise them.

        Raises:
            ParamsError: a setting does not go with so many channels.
        """
        self._check(images.shape[1])
        images = images.to(torch.float32).div_(255)
        if self._settings.resize:
            images = resized(images, self._settings.resize)
        mean, std, _ = self._constants(images.device)
        return images.sub_(mean).div_(std)  # in place, because this may be a whole dataset

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw for `count` images, on the generator's device and always in the same order."""
        asked, device = self._settings, generator.device

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(count, generator=generator, device=device) * (high - low) + low

        shifts = 2 * asked.crop_padding + 1
        spreads = {name: getattr(asked, name) for name in JITTERS if getattr(asked, name)}
        return Draws(
            offsets=torch.randint(shifts, (2, count), generator=generator, device=device) if asked.crop_padding else None,
            flips=uniform(0, 1) < asked.flip if asked.flip else None,
            jitter={
                name: uniform(-spread, spread) if name == "hue" else uniform(max(0, 1 - spread), 1 + spread)
                for name, spread in spreads.items()
            },
            angles=uniform(-asked.rotation, asked.rotation) if asked.rotation else None,
        )

    def apply(self, images: Tensor, draws: Draws) -> Tensor:
        """Transform what `fixed` gave, (N, C, H, W), by these draws; the result is a new tensor, `channels_last`."""
        mean, std, black = self._constants(images.device)
        images = images.contiguous(memory_format=torch.channels_last)
        if draws.offsets is not None:
            images = cropped(images, draws.offsets, self._settings.crop_padding, black)
        if draws.flips is not None:
            images = flipped(images, draws.flips)
        if draws.jitter:
            images = (jittered(images * std + mean, **draws.jitter) - mean) / std
        if draws.angles is not None:
            images = rotated(images, draws.angles, black)
        return images

    def _random(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.apply(images, self.draw(len(images), generator))

    def _constants(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        return _constants(_numbers(self._settings.mean), _numbers(self._settings.std), device)

    def _check(self, channels: int) -> None:
        for name in ("mean", "std"):
            found = getattr(self._settings, name)
            if isinstance(found, list) and len(found) != channels:
                raise ParamsError(
                    f"augmentation.{name}: {len(found)} numbers, and the images have {channels} channels. "
                    "Give one number, or one a channel."
                )
        for name, fitting in CHANNELS.items():
            if getattr(self._settings, name) and channels not in fitting:
                wanted = " or ".join(str(number) for number in fitting)
                raise ParamsError(
                    f"augmentation.{name}: it is for images of {wanted} channels, and these have {channels}. Leave it out."
                )


def build(settings: Settings) -> Transforms:
    """Give the transforms."""
    return Transforms(settings)


def resized(images: Tensor, size: int) -> Tensor:
    """Scale images (N, C, H, W) to (N, C, size, size), bilinear and antialiased."""
    return functional.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def cropped(images: Tensor, offsets: Tensor, padding: int, black: Tensor) -> Tensor:
    """Cut images of the same size out of padded ones.

    Args:
        images: (N, C, H, W).
        offsets: first row and first column in the padded image, from 0 to twice the padding, (2, N).
        padding: pixels on each side.
        black: what they hold, (1, C, 1, 1) or (1, 1, 1, 1).
    """
    count, _, height, width = images.shape
    first_rows, first_columns = offsets.view(2, count, 1, 1) - padding
    rows = first_rows + torch.arange(height, device=images.device).view(height, 1)
    columns = first_columns + torch.arange(width, device=images.device)
    return _gathered(images, rows, columns, black)


def flipped(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror those of the images (N, C, H, W) for which `flips`, (N,), is true: left becomes right."""
    return torch.where(flips.view(-1, 1, 1, 1), images.flip(-1), images)


def rotated(images: Tensor, angles: Tensor, black: Tensor) -> Tensor:
    """Rotate images about their centre; each pixel becomes the nearest one.

    Args:
        images: (N, C, H, W).
        angles: degrees counter-clockwise, (N,).
        black: what comes in from outside, (1, C, 1, 1) or (1, 1, 1, 1).
    """
    height, width = images.shape[2:]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y = torch.arange(height, device=images.device).view(height, 1) - middle_y
    x = torch.arange(width, device=images.device) - middle_x
    turns = torch.deg2rad(angles).view(-1, 1, 1)
    cosine, sine = turns.cos(), turns.sin()
    rows = (sine * x + cosine * y + middle_y).round().long()
    columns = (cosine * x - sine * y + middle_x).round().long()
    return _gathered(images, rows, columns, black)


def jittered(
    images: Tensor,
    brightness: Tensor | None = None,
    contrast: Tensor | None = None,
    saturation: Tensor | None = None,
    hue: Tensor | None = None,
) -> Tensor:
    """Change brightness, then contrast, saturation and hue.

    Args:
        images: (N, C, H, W), in [0, 1]; one or three channels for contrast, three for saturation and hue.
        brightness: factors, (N,); 1 changes nothing.
        contrast: factors, (N,); 0 gives each image's mean grey.
        saturation: factors, (N,); 0 gives grey images.
        hue: turns, (N,); 1 is once around.
    """
    if brightness is not None:
        images = (images * brightness.view(-1, 1, 1, 1)).clamp_(0, 1)
    if contrast is not None:
        images = _blended(images, _grey(images).mean((1, 2, 3), keepdim=True), contrast)
    if saturation is not None:
        images = _blended(images, _grey(images), saturation)
    if hue is not None:
        images = _hue_turned(images, hue)
    return images


def _gathered(images: Tensor, rows: Tensor, columns: Tensor, black: Tensor) -> Tensor:
    """Take each pixel of the result from a row and a column of its image; those outside are black.

    Args:
        images: (N, C, H, W).
        rows: int64, (N, H, W) once broadcast against `columns`.
        columns: likewise.
        black: (1, C, 1, 1) or (1, 1, 1, 1).
    """
    count, channels, height, width = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    # A black pixel after the last one: half the time of masking what was gathered.
    pixels = torch.cat((pixels, black.expand(1, channels, 1, 1).reshape(1, channels)))
    first = torch.arange(count, device=images.device).view(count, 1, 1) * (height * width)
    sources = torch.where(inside, first + rows * width + columns, count * height * width)
    return pixels.index_select(0, sources.flatten()).view(count, height, width, channels).permute(0, 3, 1, 2)


def _grey(images: Tensor) -> Tensor:
    """Weight the colours (N, 3, H, W) to (N, 1, H, W); grey images (N, 1, H, W) stay."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (weight * images[:, channel : channel + 1] for channel, weight in enumerate(LUMA))
    return red + green + blue


def _blended(images: Tensor, others: Tensor, shares: Tensor) -> Tensor:
    """Mix two batches; beyond a share of 1, away from the other, as far as [0, 1] goes."""
    shares = shares.view(-1, 1, 1, 1)
    return (images * shares + others * (1 - shares)).clamp_(0, 1)


def _hue_turned(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of colours (N, 3, H, W); the largest and the smallest channel keep their values."""
    red, green, blue = images.unbind(1)
    largest = images.amax(1)
    chroma = largest - images.amin(1)
    span = torch.where(chroma > 0, chroma, 1)  # grey has no hue, and any will do
    sixths = torch.where(
        largest == red,
        (green - blue) / span,
        torch.where(largest == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    sixths = sixths + 6 * turns.view(-1, 1, 1)

    def channel(place: int) -> Tensor:
        away = (sixths + place) % 6
        return largest - chroma * torch.minimum(away, 4 - away).clamp_(0, 1)

    return torch.stack((channel(5), channel(3), channel(1)), -1).permute(0, 3, 1, 2)


def _numbers(value: float | list[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


@functools.cache  # copying to a GPU in every step would wait for it
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Give mean, standard deviation and a black pixel after normalisation, each (1, C, 1, 1) or (1, 1, 1, 1)."""
    means, stds = (torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1) for values in (mean, std))
    return means, stds, (0 - means) / stds
