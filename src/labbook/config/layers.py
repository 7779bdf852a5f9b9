"""Merge settings from several places of `params.yaml`, and keep track of the place that sets each value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labbook.errors import ParamsError

__all__ = ["Layer", "merge", "origin_of", "split_embedded", "without_other_parts"]


@dataclass(frozen=True)
class Layer:
    """Settings from one place.

    Attributes:
        key: of the place in `params.yaml`, such as `defaults.B`.
        values: settings, nested as in the file.
    """

    key: str
    values: Mapping[str, Any]


def split_embedded(values: Any, key: str) -> tuple[Layer, Layer]:
    """Return the settings of a block, and those under its key `embedded`, which apply to embedded data alone.

    Raises:
        ParamsError: one of the two is not a mapping.
    """
    block = _mapping(values, key)
    embedded = _mapping(block.get("embedded", {}), f"{key}.embedded")
    return Layer(key, {name: value for name, value in block.items() if name != "embedded"}), Layer(f"{key}.embedded", embedded)


def merge(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Merge layers, of which the later ones win.

    Mappings are merged key by key. A part, such as an optimizer, replaces a part of another name as a whole. Lists and all
    other values replace what was there; `null` removes it.

    Returns:
        The values, and for each dotted key of a value or mapping the key of the last layer that sets it.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _overlay(merged, origins, layer.values, layer.key, "")
    return merged, origins


def origin_of(path: str, origins: Mapping[str, str]) -> str | None:
    """Return the layer that sets the value at a dotted path, or else the mapping that would hold it."""
    while path and path not in origins:
        path = path.rpartition(".")[0]
    return origins.get(path)


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ParamsError(f"{key}: invalid value {value!r}: expected a mapping of keys to values.")
    return value


def _overlay(merged: dict[str, Any], origins: dict[str, str], values: Mapping[str, Any], key: str, above: str) -> None:
    """Merge `values` into `merged`, which lies at the dotted path `above`, and note their origin."""
    for name, value in values.items():
        path, old = f"{above}{name}", merged.get(name)
        if not (isinstance(value, Mapping) and isinstance(old, dict) and _same_part(old, value)):
            merged[name] = {} if isinstance(value, Mapping) else value
            for gone in [known for known in origins if known.startswith(f"{path}.")]:
                del origins[gone]
        if isinstance(value, Mapping):
            _overlay(merged[name], origins, value, key, f"{path}.")
        origins[path] = key


def without_other_parts(layer: Layer, values: Mapping[str, Any]) -> Layer:
    """Leave out the parts of a layer, such as an optimizer, that have another name than the same part of `values`."""
    kept = {name: value for name, value in layer.values.items() if _same_part(values.get(name), value)}
    return Layer(layer.key, kept)


def _same_part(old: Any, new: Any) -> bool:
    names = [part["name"] for part in (old, new) if isinstance(part, Mapping) and "name" in part]
    return len(set(map(str, names))) < 2
