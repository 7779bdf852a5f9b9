"""Rebuild a trained model from its summary and its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from labbook.config.components import load
from labbook.config.train import TrainSettings
from labbook.data.packed import PackedDataset
from labbook.errors import DataError
from labbook.io import read_json
from labbook.training.components import build_loss
from labbook.training.inference import model_shape
from labbook.training.preprocessing import Preprocessing

__all__ = ["TRAINED", "Restored", "read_summary", "restore", "restore_seed", "weights_path"]

TRAINED = Path("models/trained")
SUMMARY_KEYS = ("experiment", "dataset", "source", "digest", "classes", "image_shape", "parameters", "settings", "seeds")


@dataclass(frozen=True)
class Restored:
    """A model with its weights, on the device, in evaluation mode.

    Attributes:
        model: images (N, C, H, W), float32 → logits.
        convert: uint8 images (N, C, H, W) → inputs of the model.
        loss: logits and labels → mean loss.
    """

    model: nn.Module
    convert: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]


def read_summary(name: str, root: Path = Path()) -> tuple[dict[str, Any], TrainSettings]:
    """Read the summary of an experiment, and its settings.

    Raises:
        DataError: the file is missing or damaged.
    """
    path, fix = root / TRAINED / name / "summary.json", f"Run `dvc repro train@{name}`."
    summary = read_json(path, SUMMARY_KEYS, fix)
    try:
        return summary, TrainSettings.model_validate(summary["settings"])
    except ValidationError as error:
        raise DataError(f"{path}: damaged, its settings are not those of a training. {fix}") from error


def weights_path(name: str, seed: int, root: Path = Path()) -> Path:
    """Return the file with the weights of one seed."""
    return root / TRAINED / name / f"seed-{seed}.safetensors"


def restore_seed(
    name: str, seed: int, settings: TrainSettings, packed: PackedDataset, device: torch.device, *, root: Path = Path()
) -> Restored:
    """Build the model of one seed.

    Raises:
        DataError: the weights are missing, damaged or those of another model.
    """
    path, fix = weights_path(name, seed, root), f"Run `dvc repro train@{name}`."
    try:
        return restore(settings, packed, safetensors.torch.load_file(path), device)
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found. {fix}") from error
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{path}: damaged, or weights of another model ({error}). {fix}") from error


def restore(settings: TrainSettings, packed: PackedDataset, weights: Mapping[str, Tensor], device: torch.device) -> Restored:
    """Build the model that `settings` describe for the dataset's images and classes, and load `weights`.

    Raises:
        RuntimeError: the weights do not fit the model.
    """
    convert = Preprocessing(settings.preprocess)
    module, options = load("model", settings.model, "model")
    model: nn.Module = module.build(options, model_shape(convert, packed.image_shape), len(packed.classes))
    model.load_state_dict(weights)
    return Restored(
        model=model.to(device).to(memory_format=torch.channels_last).eval(),
        convert=convert,
        loss=build_loss(settings.loss, "loss", len(packed.classes)),
    )
