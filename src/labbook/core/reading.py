"""Read `params.yaml` into typed settings, and say clearly what is wrong with it."""

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from labbook.core.errors import ParamsError
from labbook.core.parts import closest, describe

__all__ = ["PARAMS", "merge", "pick", "read", "validate"]

PARAMS = Path("params.yaml")

Settings = TypeVar("Settings", bound=BaseModel)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml, where PyYAML has it: 0.01 s for 0.06
    """YAML 1.2, as DVC reads it: `1e-3` is a number, `010`, `1:30` and `on` are not; and no key stands twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] not in {"bool", "int", "float", "merge"}]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            place = f"{node.start_mark.name}, line {node.start_mark.line + 1}"
            raise ParamsError(f"{place}: {', '.join(sorted(twice))} stands there twice.")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def read(path: Path = PARAMS) -> dict[str, Any]:
    """Read the file as plain dictionaries.

    Raises:
        ParamsError: the file is missing or is not a YAML mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            values = yaml.load(file, Loader=_Loader)
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: not found. Run from the root of the repository.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: holds {type(values).__name__}, not a mapping of keys to values.")
    return values


def pick(values: dict[str, Any], key: str, within: str = "") -> Any:
    """Look up a dotted key such as `experiments.mnist_cnn.train`; `within` is where `values` stand, for messages.

    Raises:
        ParamsError: a step of the key is not there; names the nearest one that is.
    """
    found: Any = values
    for depth, step in enumerate(key.split(".")):
        if not isinstance(found, dict) or step not in found:
            known = [str(name) for name in found] if isinstance(found, dict) else []
            above = ".".join([*within.split("."), *key.split(".")[:depth]]).strip(".") or str(PARAMS)
            raise ParamsError(f"{above} holds no {step!r}{closest(step, known)}")
        found = found[step]
    return found


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Give `values` with `changes`; where both hold a mapping, the mappings are merged too."""
    both = {
        key: merge(values[key], change) if isinstance(change, dict) and isinstance(values.get(key), dict) else change
        for key, change in changes.items()
    }
    return values | both


def validate(values: Any, model: type[Settings], key: str = "") -> Settings:
    """Check `values` against `model`; `key` is where they stand in the file.

    Raises:
        ParamsError: with one line for every key that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParamsError(describe(error, model, key)) from error
