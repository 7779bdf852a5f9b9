"""Parts of an experiment that are chosen by name: a block named `mlp` under `model` is the file `models/mlp.py`.

A new architecture, dataset or task is a new file, and only the experiments that name it depend on it. What each offers:

    models           Settings, build(settings, image_shape, classes): a Module that maps images (N, C, H, W) to logits
    data/datasets    fetch(source, folder); prepare(folder, source, validation_fraction, seed): a `PackedDataset`
    data/derived     derive(packed, validation_fraction, seed): a `PackedDataset` made from another one
    data/pretrained  fetch(folder): the published file; read(folder): its weights by the names of our model's state;
                     without_head(state)
    evaluation/tasks evaluate(...): metrics of predictions on the test set

Losses, optimizers and schedules are PyTorch's own classes: `labbook.training.components`.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from labbook.config.messages import closest, describe
from labbook.errors import ParamsError

__all__ = ["FAMILIES", "Part", "PartSettings", "Strict", "closest", "find", "load", "names"]

# The key in `params.yaml` → the folder that holds its choices.
FAMILIES = {
    "model": "models",
    "task": "evaluation/tasks",
    "dataset": "data/datasets",
    "derived": "data/derived",
    "pretrained": "data/pretrained",
}


class Strict(BaseModel):
    """No unknown key, no silent conversion, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Part(BaseModel):
    """A block of `params.yaml`: a name, and keys that only the named part knows."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str


class PartSettings(Strict):
    """Base of the `Settings` of a part."""

    name: str


def find(family: str, name: str, key: str) -> ModuleType:
    """Import the module of a part.

    Args:
        family: a key of `FAMILIES`, such as `model`.
        name: of the part, such as `mlp`.
        key: of the name in `params.yaml`, for the message.

    Raises:
        ParamsError: the family has no such part.
    """
    folder, known = FAMILIES[family], names(family)
    if name not in known:
        raise ParamsError(
            f"{key}: unknown {family} {name!r}{closest(name, known)} "
            f"Known: {', '.join(known)}. A new one is a new file in src/labbook/{folder}/."
        )
    return importlib.import_module(f"labbook.{folder.replace('/', '.')}.{name}")


def names(family: str) -> list[str]:
    """List the names of a family."""
    return sorted(file.stem for file in (Path(__file__).parents[1] / FAMILIES[family]).glob("[a-z]*.py"))


def load(family: str, part: Part, key: str) -> tuple[ModuleType, Any]:
    """Import the module that `part` names and validate its settings; `key` is that of the block in `params.yaml`.

    Raises:
        ParamsError: there is no such part, or its settings are wrong.
    """
    module, values = find(family, part.name, f"{key}.name"), part.model_dump()
    try:
        return module, module.Settings.model_validate(values)
    except ValidationError as error:
        raise ParamsError(describe(error, module.Settings, values, key)) from error
