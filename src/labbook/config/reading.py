"""Read `params.yaml` as plain values, look up keys, and validate blocks."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from labbook.config.messages import closest, describe
from labbook.errors import ParamsError

__all__ = ["PARAMS", "pick", "read", "validate"]

PARAMS = Path("params.yaml")

Settings = TypeVar("Settings", bound=BaseModel)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml is six times as fast
    """YAML 1.2, as DVC reads it: `1e-3` and `010` are decimal numbers, `on` and `1:30` are text. No duplicate keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in {"bool", "int", "float", "merge"}]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise ParamsError(f"{key.start_mark.name}, line {key.start_mark.line + 1}: duplicate key {key.value!r}.")
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        digits = self.construct_scalar(node).replace("_", "")
        return int(digits, 0 if re.match("[-+]?0[box]", digits) else 10)


# The patterns of ruamel.yaml, with which DVC reads the file.
FLOAT = (
    r"[-+]?[0-9][0-9_]*(\.[0-9_]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)"
    r"|[-+]?\.[0-9_]+([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789"),
    ("float", FLOAT, "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


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
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if values is None:
        raise ParamsError(f"{path}: the file is empty.")
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected a mapping of keys to values, found a {type(values).__name__}.")
    return values


def pick(values: Mapping[str, Any], key: str, within: str = "") -> Any:
    """Look up a dotted key such as `experiments.mnist_cnn.train`; `within` is the key of `values` in the file, for messages.

    Raises:
        ParamsError: there is no such key; the message suggests the nearest one.
    """
    found: Any = values
    above = within
    for step in key.split("."):
        if not isinstance(found, Mapping) or step not in found:
            known = map(str, found) if isinstance(found, Mapping) else ()
            raise ParamsError(f"{above or PARAMS}: no key {step!r}{closest(step, known)}")
        found = found[step]
        above = f"{above}.{step}".lstrip(".")
    return found


def validate(values: Any, model: type[Settings], key: str = "") -> Settings:
    """Validate `values` against `model`; `key` is that of the values in the file.

    Raises:
        ParamsError: with one line for every wrong key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParamsError(describe(error, model, values, key)) from error
