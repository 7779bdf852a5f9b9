"""Merge settings from several places in `params.yaml`, and record which place sets each value."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labbook.errors import ParamsError

__all__ = ["SettingsLayer", "flatten", "merge", "origin_of", "split_embedded", "without_other_components"]


@dataclass(frozen=True)
class SettingsLayer:
    """Settings from one place in `params.yaml`.

    Attributes:
        key: key of the place, such as `defaults.B`.
        values: the settings, nested as in the file.
    """

    key: str
    values: Mapping[str, Any]


def split_embedded(values: Any, key: str) -> tuple[SettingsLayer, SettingsLayer]:
    """Split off the settings under the key `embedded` of a block, which apply only to embedded data.

    Raises:
        ParamsError: one of the two is not a mapping.
    """
    block = _check_mapping(values, key)
    embedded = _check_mapping(block.get("embedded", {}), f"{key}.embedded")
    return SettingsLayer(key, {name: value for name, value in block.items() if name != "embedded"}), SettingsLayer(
        f"{key}.embedded", embedded
    )


def merge(layers: Iterable[SettingsLayer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Merge layers; later layers override earlier ones.

    Mappings are merged key by key. A component, such as an optimizer, replaces a component with a different name as a whole.
    Lists and all other values replace the earlier value; `null` removes it.

    Returns:
        The values, and the key of the last layer that sets each value or mapping, by the dotted key of the value or mapping.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _merge_into(merged, origins, layer.values, layer.key, "")
    return merged, origins


def flatten(values: Mapping[str, Any]) -> dict[str, str]:
    """Return each value, as JSON, by its dotted key; an empty mapping counts as a value."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{name}.{key}": text for key, text in flatten(value).items()}
        else:
            flat[str(name)] = json.dumps(value)
    return flat


def origin_of(path: str, origins: Mapping[str, str]) -> str | None:
    """Return the key of the layer that sets the value at a dotted path, or else the mapping that would hold it."""
    while path and path not in origins:
        path = path.rpartition(".")[0]
    return origins.get(path)


def _check_mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ParamsError(f"{key}: invalid value {value!r}: expected a mapping of keys to values.")
    return value


def _merge_into(merged: dict[str, Any], origins: dict[str, str], values: Mapping[str, Any], key: str, prefix: str) -> None:
    """Merge `values` into `merged`, whose keys begin with `prefix`, and record the origin of each value."""
    for name, value in values.items():
        path, old = f"{prefix}{name}", merged.get(name)
        if not (isinstance(value, Mapping) and isinstance(old, dict) and _same_component(old, value)):
            merged[name] = {} if isinstance(value, Mapping) else value
            for replaced in [key for key in origins if key.startswith(f"{path}.")]:
                del origins[replaced]
        if isinstance(value, Mapping):
            _merge_into(merged[name], origins, value, key, f"{path}.")
        origins[path] = key


def without_other_components(layer: SettingsLayer, values: Mapping[str, Any]) -> SettingsLayer:
    """Drop the components of a layer, such as an optimizer, whose name differs from that of the same component in `values`."""
    kept = {name: value for name, value in layer.values.items() if _same_component(values.get(name), value)}
    return SettingsLayer(layer.key, kept)


def _same_component(old: Any, new: Any) -> bool:
    names = [component["name"] for component in (old, new) if isinstance(component, Mapping) and "name" in component]
    return len(set(map(str, names))) < 2
