"""Read `params.yaml` into typed settings, and say clearly what is wrong with it."""

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from labbook.errors import ParamsError
from labbook.parts import closest, describe

__all__ = ["PARAMS", "pick", "read", "validate"]

PARAMS = Path("params.yaml")

Settings = TypeVar("Settings", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but `1e-3` is a number, as in YAML 1.2 and for DVC, and no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise ParamsError(f"{PARAMS}, line {node.start_mark.line + 1}: {', '.join(sorted(twice))} stands there twice.")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read(path: Path = PARAMS) -> dict[str, Any]:
    """Read the file as plain dictionaries.

    Raises:
        ParamsError: the file is missing or is not a YAML mapping.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: not found. Run from the root of the repository.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: holds {type(values).__name__}, not a mapping of keys to values.")
    return values


def pick(values: dict[str, Any], key: str) -> Any:
    """Look up a dotted key such as `experiments.mnist_cnn.train`.

    Raises:
        ParamsError: a step of the key is not there; names the nearest one that is.
    """
    found: Any = values
    for depth, step in enumerate(key.split(".")):
        if not isinstance(found, dict) or step not in found:
            known = [str(name) for name in found] if isinstance(found, dict) else []
            above = ".".join(key.split(".")[:depth]) or str(PARAMS)
            raise ParamsError(f"{above} holds no {step!r}{closest(step, known)}")
        found = found[step]
    return found


def validate(values: Any, model: type[Settings], key: str = "") -> Settings:
    """Check `values` against `model`; `key` is where they stand in the file.

    Raises:
        ParamsError: with one line for every key that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParamsError(describe(error, model, key)) from error
