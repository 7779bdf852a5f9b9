"""A trained experiment, built again from its summary and its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from labbook.core.errors import DataError
from labbook.core.files import read_json
from labbook.core.inference import model_shape
from labbook.core.packed import Packed
from labbook.core.parts import load
from labbook.core.settings import TrainSettings

__all__ = ["Restored", "load_trained", "restore"]


@dataclass(frozen=True)
class Restored:
    """A model with its weights, on the device, in evaluation mode.

    Attributes:
        model: images (N, C, H, W), float32 → logits.
        convert: bytes (N, C, H, W) → what the model takes.
        loss: of logits and labels.
    """

    model: nn.Module
    convert: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]


def load_trained(name: str, packed: Packed, device: torch.device, root: Path = Path()) -> tuple[dict[str, Any], Restored]:
    """Read an experiment's summary and its model.

    Raises:
        DataError: a file is missing or damaged, or the weights do not fit the model.
    """
    mend = f"Run `dvc repro train@{name}`."
    path = root / "models/summaries" / f"{name}.json"
    summary = read_json(path, ("settings", "best_epoch", "epochs_trained", "parameters", "best"), mend)
    try:
        settings = TrainSettings.model_validate(summary["settings"])
    except ValidationError as error:
        raise DataError(f"{path}: damaged, its settings are not those of a training. {mend}") from error
    path = root / "models/weights" / f"{name}.safetensors"
    try:
        weights = safetensors.torch.load_file(path)
        return summary, restore(settings, packed, weights, device)
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found. {mend}") from error
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{path}: damaged, or of another model ({error}). {mend}") from error


def restore(settings: TrainSettings, packed: Packed, weights: Mapping[str, Tensor], device: torch.device) -> Restored:
    """Build the model that `settings` name for the dataset's images and classes, and give it `weights`.

    Raises:
        RuntimeError: the weights do not fit.
    """
    augmentation, augmentation_options = load("augmentation", settings.augmentation, "augmentation")
    convert = augmentation.build(augmentation_options).fixed
    module, options = load("model", settings.model, "model")
    model = module.build(options, model_shape(convert, packed.image_shape), len(packed.classes))
    model.load_state_dict(weights)
    loss, loss_options = load("loss", settings.loss, "loss")
    return Restored(
        model=model.to(device).to(memory_format=torch.channels_last).eval(),
        convert=convert,
        loss=loss.build(loss_options),
    )
