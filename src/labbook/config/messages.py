"""Messages about invalid settings: the key, the actual and the expected value, and the nearest valid name."""

import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from labbook.errors import ParamsError

__all__ = ["Finding", "closest", "describe", "error_lines", "find_errors", "unknown_key"]

MAPPING = "expected a mapping of keys to values"
KEY = "[key]"  # pydantic's last step of a location if the error is in a key, not in its value
EXPECTED = {
    "model_type": MAPPING,
    "dict_type": MAPPING,
}  # replaces messages of pydantic that name a Python class, by type of error


@dataclass(frozen=True)
class Finding:
    """An error in one value.

    Attributes:
        path: dotted key of the value, relative to the validated block; empty for the block itself.
        message: what is wrong, without the key.
    """

    path: str
    message: str

    def at(self, key: str) -> str:
        """Return the message with its full key; `key` is the key of the block in `params.yaml`."""
        return f"{'.'.join(filter(None, (key, self.path)))}: {self.message}"


def describe(error: ValidationError, model: type[BaseModel], values: Any, key: str) -> str:
    """Turn pydantic's errors into one line per wrong key.

    Args:
        error: the error raised for `values`.
        model: the schema that rejected them.
        values: the block's values.
        key: the block's key in `params.yaml`.
    """
    return "\n".join(finding.at(key) for finding in find_errors(error, model, values))


def find_errors(error: ValidationError, model: type[BaseModel], values: Any) -> list[Finding]:
    """Return one finding per wrong key; the arguments are those of `describe`."""
    errors_by_path: dict[tuple[int | str, ...], list[Any]] = {}
    for item in error.errors():
        errors_by_path.setdefault(_path(item["loc"], values), []).append(item)
    # Every type of a union such as `float | list[float]` has an error; the one inside the list is the most specific.
    outer = {path[:length] for path in errors_by_path for length in range(len(path)) if path[-1] != KEY}
    return [
        Finding(".".join(str(step) for step in path if step != KEY), _message(errors, path, model))
        for path, errors in errors_by_path.items()
        if path not in outer
    ]


def closest(name: str, names: Iterable[str]) -> str:
    """Return the end of a message: the nearest of `names`, ignoring case, hyphens and underscores, or a full stop."""
    by_normalized = {_normalize(known): known for known in names}
    matches = difflib.get_close_matches(_normalize(name), by_normalized, n=1)
    return f"; did you mean {by_normalized[matches[0]]!r}?" if matches else "."


def unknown_key(name: str, known: Sequence[str]) -> str:
    """Return the message about a key that is not in `known`."""
    return f"unknown key{closest(name, known)} Known keys here: {', '.join(known)}."


def error_lines(call: Callable[..., object], *arguments: Any) -> Iterator[str]:
    """Yield the lines of the `ParamsError` that a call raises, if it raises one."""
    try:
        call(*arguments)
    except ParamsError as error:
        yield from str(error).splitlines()


def _normalize(name: str) -> str:
    return re.sub("[-_]", "", name).lower()


def _path(location: tuple[int | str, ...], values: Any) -> tuple[int | str, ...]:
    """Return the path below `values` without the names of a union's types, which pydantic adds to it."""
    path: list[int | str] = []
    for step in location:
        if isinstance(values, dict):
            path.append(step)
            values = values.get(step)
        elif step == KEY:
            path.append(step)
        elif isinstance(values, list) and isinstance(step, int):
            path.append(step)
            values = values[step]
    return tuple(path)


def _message(errors: list[Any], path: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Return the message about one key, which has several errors if its type is a union."""
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return unknown_key(str(path[-1]), _keys(model, path[:-1]))
    if first["type"] == "missing":
        return "missing. Add it to params.yaml."
    expected = " or ".join(dict.fromkeys(map(_expected, errors))).replace(" or input should be ", " or ")
    if isinstance(first["input"], dict):
        return f"{expected}."
    choices = re.findall(r"'([^']+)'", first["ctx"]["expected"]) if first["type"] == "literal_error" else []
    return f"invalid value {first['input']!r}: {expected}{closest(str(first['input']), choices)}"


def _expected(error: Any) -> str:
    message: str = EXPECTED.get(error["type"], error["msg"]).removeprefix("Value error, ").replace(" after validation", "")
    return message[0].lower() + message[1:]


def _keys(annotation: Any, path: Iterable[int | str]) -> list[str]:
    """Return the keys of the model at `path` below a value with this annotation."""
    for step in path:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(step)].annotation
        else:
            annotation = typing.get_args(annotation)[-1]  # the values of a dict or a list
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            annotation = next(option for option in typing.get_args(annotation) if option is not types.NoneType)
    return list(annotation.model_fields)
