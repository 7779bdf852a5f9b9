"""Settings of preprocessing, applied to all images, and of augmentation, applied to training images."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["Augment", "Preprocess"]


def _check_positive(std: float | list[float]) -> float | list[float]:
    if any(value <= 0 for value in (std if isinstance(std, list) else [std])):
        raise ValueError("a standard deviation must be greater than 0")
    return std


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Preprocess(_Settings):
    """Keys of a `preprocess` block: scale pixels to [0, 1], resize, subtract the mean, divide by the standard deviation."""

    mean: float | list[float] = Field(0.0, description="mean of pixels in [0, 1]: one number, or one per channel")
    std: Annotated[float | list[float], AfterValidator(_check_positive)] = Field(
        1.0, description="standard deviation of pixels in [0, 1]: one number, or one per channel"
    )
    resize: int | None = Field(None, gt=0, le=4096, description="height and width in pixels")


class Augment(_Settings):
    """Keys of an `augment` block: random crop, horizontal flip and rotation; 0 disables each."""

    crop_padding: int = Field(
        0, ge=0, le=4096, description="black pixels added on each side before a crop of the original size"
    )
    flip: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip")
    rotation: float = Field(0.0, ge=0, le=180, description="maximum angle in degrees; the angle is uniform in ± rotation")
