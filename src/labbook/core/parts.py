"""The parts of an experiment, found by name: a block named `mlp` under `model` is the file `models/mlp.py`.

A new architecture, optimiser, schedule, loss, augmentation or stopping rule is a new file, and only the experiments that
name it depend on it. What each offers:

    models         Settings, build(settings, image_shape, classes): a Module of images (N, C, H, W) that gives logits
    losses         Settings, build(settings): a function of logits and labels that gives their mean loss
    optimizers     Settings, build(settings, parameters): a fused torch.optim.Optimizer
    schedules      Settings, build(settings): a function of the epoch, from 1, that gives the factor on the learning rate
    augmentations  Settings, build(settings): `fixed`, done once to every image, bytes (N, C, H, W) to float32; and `random`,
                   done to each batch of training with the given generator, or None
    stopping       Settings, build(settings): a function of all validation losses so far: stop now?
    evaluation     evaluate(...): figures of predictions on the test set; write(...): metrics, plot data and pictures
    datasets       fetch(source, folder); prepare(folder, source, validation_fraction, seed), which gives a `Packed`
    composed       compose(packed, validation_fraction, seed): a `Packed` made from another
    pretrained     fetch(folder): the published file; read(folder): its weights by the names of our model's state;
                   without_head(state)
"""

import difflib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from labbook.core.errors import ParamsError

__all__ = ["FAMILIES", "Part", "PartSettings", "closest", "describe", "find", "load", "names"]

# The key in an experiment → the folder that holds its choices.
FAMILIES = {
    "model": "models",
    "loss": "losses",
    "optimizer": "optimizers",
    "schedule": "schedules",
    "augmentation": "augmentations",
    "stopping": "stopping",
    "task": "evaluation",
    "dataset": "datasets",
    "composed": "composed",
    "pretrained": "pretrained",
}


class Part(BaseModel):
    """A block as it stands in `params.yaml`: its name, and keys that only the named file knows."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str


class PartSettings(BaseModel):
    """What the `Settings` of a part derive from: no unknown key, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    name: str


def find(family: str, name: str, key: str) -> ModuleType:
    """Import the file that `name` stands for.

    Args:
        family: a key of `FAMILIES`, such as `model`.
        name: of the part, such as `mlp`.
        key: where the name stands in `params.yaml`, for the message.

    Raises:
        ParamsError: there is no such file.
    """
    folder, known = FAMILIES[family], names(family)
    if name not in known:
        raise ParamsError(
            f"{key}: no {family} is called {name!r}{closest(name, known)} "
            f"There are: {', '.join(known)}. A new one is a new file in src/labbook/{folder}/."
        )
    return importlib.import_module(f"labbook.{folder}.{name}")


def names(family: str) -> list[str]:
    """Name all there is of a family."""
    return sorted(file.stem for file in (Path(__file__).parents[1] / FAMILIES[family]).glob("[a-z]*.py"))


def load(family: str, part: Part, key: str) -> tuple[ModuleType, Any]:
    """Find the module that `part` names, and read its settings; `key` is where the block stands in `params.yaml`.

    Raises:
        ParamsError: there is no such part, or its settings are wrong.
    """
    module = find(family, part.name, f"{key}.name")
    try:
        return module, module.Settings.model_validate(part.model_dump())
    except ValidationError as error:
        raise ParamsError(describe(error, module.Settings, key)) from error


def describe(error: ValidationError, model: type[BaseModel], key: str) -> str:
    """Turn pydantic's findings into one line each: the key, what was found, what would do."""
    return "\n".join(_describe_one(item, model, key) for item in error.errors())


def _describe_one(item: Any, model: type[BaseModel], key: str) -> str:
    *parents, last = item["loc"] or ("",)
    where = ".".join(str(step) for step in (key, *item["loc"]) if step != "")
    if item["type"] == "extra_forbidden":
        known = _fields(model, parents)
        return f"{where}: unknown key{closest(str(last), known)} Known keys here: {', '.join(known)}."
    if item["type"] == "missing":
        return f"{where}: missing. Add it to params.yaml."
    message = (item["msg"][0].lower() + item["msg"][1:]).removeprefix("value error, ")
    if isinstance(item["input"], dict):
        return f"{where}: {message}."
    return f"{where}: {item['input']!r} will not do: {message}."


def _fields(model: type[BaseModel], path: list[Any]) -> list[str]:
    """Name the keys that the model at `path` below `model` knows."""
    for step in path:
        field = model.model_fields.get(str(step))
        if field is not None:
            candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
            found = [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]
            if found:
                model = found[0]
    return list(model.model_fields)


def closest(name: str, names: list[str]) -> str:
    """End a sentence: with the nearest of `names`, if one is near, else with a full stop."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."
