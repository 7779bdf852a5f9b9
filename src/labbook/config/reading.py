"""Read `params.yaml` as plain values, look up keys, and validate blocks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from labbook.config.messages import closest, describe
from labbook.errors import ParamsError

__all__ = ["PARAMS", "look_up", "read", "validate"]

PARAMS = Path("params.yaml")

Settings = TypeVar("Settings", bound=BaseModel)


def read(path: Path = PARAMS) -> dict[str, Any]:
    """Read `params.yaml` as plain dictionaries.

    Raises:
        ParamsError: the file is missing, is not a YAML mapping, or has a duplicate key.
    """
    try:
        values = YAML(typ="safe").load(path)  # as DVC reads it: YAML 1.2
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: not found. Run from the root of the repository.") from error
    except DuplicateKeyError as error:
        key = error.problem.removeprefix("found ").partition(" with value")[0]
        raise ParamsError(f"{path}, line {error.problem_mark.line + 1}: {key}.") from error
    except (OSError, ValueError, YAMLError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if values is None:
        raise ParamsError(f"{path}: the file is empty.")
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected a mapping of keys to values, found a {type(values).__name__}.")
    return values


def look_up(values: Mapping[str, Any], key: str, within: str = "") -> Any:
    """Look up a dotted key such as `experiments.mnist_cnn.train`; `within` is the key of `values` in the file, for messages.

    Raises:
        ParamsError: there is no such key; the message suggests the nearest one.
    """
    value: Any = values
    parent = within
    for step in key.split("."):
        if not isinstance(value, Mapping) or step not in value:
            known = map(str, value) if isinstance(value, Mapping) else ()
            raise ParamsError(f"{parent or PARAMS}: no key {step!r}{closest(step, known)}")
        value = value[step]
        parent = f"{parent}.{step}".lstrip(".")
    return value


def validate(values: Any, model: type[Settings], key: str = "") -> Settings:
    """Validate `values` against `model`; `key` is the key of the values in the file.

    Raises:
        ParamsError: a key is wrong; the message has one line for each wrong key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParamsError(describe(error, model, values, key)) from error
