"""Components of an experiment, chosen by name: `model: {name: mlp}` selects the file `models/mlp.py`.

A new architecture, dataset or task is a new file, and only the experiments that name it depend on it. Each file defines:

    models           Settings, build(settings, image_shape, classes): a Module that maps images (N, C, H, W) to logits
    data/datasets    fetch(source, folder); prepare(folder, source, validation_fraction, seed): a `PackedDataset`
    data/derived     derive(packed, validation_fraction, seed): a `PackedDataset` made from another one
    data/pretrained  fetch(folder): the published file; read(folder): its weights as a state dict of our model;
                     without_head(state)
    evaluation/tasks evaluate(...): metrics of predictions on the test set

Losses, optimizers and schedules are PyTorch's classes or classes in new files: see `labbook.training.components`.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from labbook.config.messages import closest, describe
from labbook.errors import ParamsError

__all__ = ["FAMILIES", "Component", "ComponentSettings", "Strict", "find", "load", "module_name", "names"]

PACKAGE = Path(__file__).parents[1]

# Key in `params.yaml` → folder of this package that holds its components. The last three folders may be missing.
FAMILIES = {
    "model": "models",
    "task": "evaluation/tasks",
    "dataset": "data/datasets",
    "derived": "data/derived",
    "pretrained": "data/pretrained",
    "loss": "losses",
    "optimizer": "optimizers",
    "schedule": "schedules",
}


class Strict(BaseModel):
    """Base class of settings that rejects unknown keys, implicit conversions and later changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Component(BaseModel):
    """A block of `params.yaml` that selects a component by name and holds its settings."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str


class ComponentSettings(Strict):
    """Base class of the `Settings` of a component."""

    name: str


def find(family: str, name: str, key: str) -> ModuleType:
    """Import the module of a component.

    Args:
        family: a key of `FAMILIES`, such as `model`.
        name: name of the component, such as `mlp`.
        key: key of the name in `params.yaml`, for messages.

    Raises:
        ParamsError: the family has no such component.
    """
    known = names(family)
    if name not in known:
        raise ParamsError(
            f"{key}: unknown {family} {name!r}{closest(name, known)} "
            f"Known: {', '.join(known)}. To add one, create a file in src/labbook/{FAMILIES[family]}/."
        )
    return importlib.import_module(module_name(family, name))


def names(family: str) -> list[str]:
    """Return the names of a family's components, which are the stems of its files."""
    return sorted(file.stem for file in (PACKAGE / FAMILIES[family]).glob("[a-z]*.py"))


def module_name(family: str, name: str) -> str:
    """Return the module of a component, such as `labbook.models.mlp`, without importing it."""
    return f"labbook.{FAMILIES[family].replace('/', '.')}.{name}"


def load(family: str, component: Component, key: str) -> tuple[ModuleType, Any]:
    """Import the module that `component` names, and validate its settings; `key` is the key of the block in `params.yaml`.

    Raises:
        ParamsError: there is no such component, or its settings are invalid.
    """
    module, values = find(family, component.name, f"{key}.name"), component.model_dump()
    try:
        return module, module.Settings.model_validate(values)
    except ValidationError as error:
        raise ParamsError(describe(error, module.Settings, values, key)) from error
