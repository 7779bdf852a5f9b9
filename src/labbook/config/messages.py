"""Messages about settings: the key that is wrong, the value found, what is expected, and the nearest valid name."""

import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from labbook.errors import ParamsError

__all__ = ["Finding", "closest", "describe", "errors_of", "find_errors", "unknown_key"]

MAPPING = "expected a mapping of keys to values"
KEY = "[key]"  # the last step of the location if the error is in a key, not in its value
EXPECTED = {"model_type": MAPPING, "dict_type": MAPPING}  # by type of error, where pydantic's message names a Python class


@dataclass(frozen=True)
class Finding:
    """What is wrong with one value.

    Attributes:
        path: dotted key of the value, relative to the validated block; empty for the block itself.
        message: the message without the key.
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
    items: dict[tuple[int | str, ...], list[Any]] = {}
    for item in error.errors():
        items.setdefault(_path(item["loc"], values), []).append(item)
    # Every type of a union such as `float | list[float]` has an error; the one inside the list is the most specific.
    outer = {path[:length] for path in items for length in range(len(path)) if path[-1] != KEY}
    return [
        Finding(".".join(str(step) for step in path if step != KEY), _message(found, path, model))
        for path, found in items.items()
        if path not in outer
    ]


def closest(name: str, names: Iterable[str]) -> str:
    """Return the end of a message: a suggestion of the nearest of `names`, ignoring case and underscores, or a full stop."""
    by_letters = {_letters(known): known for known in names}
    near = difflib.get_close_matches(_letters(name), by_letters, n=1)
    return f"; did you mean {by_letters[near[0]]!r}?" if near else "."


def unknown_key(name: str, known: Sequence[str]) -> str:
    """Return the message about a key that is not in `known`."""
    return f"unknown key{closest(name, known)} Known keys here: {', '.join(known)}."


def errors_of(call: Callable[..., object], *arguments: Any) -> Iterator[str]:
    """Yield the lines of the `ParamsError` that a call raises, if it raises one."""
    try:
        call(*arguments)
    except ParamsError as error:
        yield from str(error).splitlines()


def _letters(name: str) -> str:
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


def _message(items: list[Any], path: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Return the message about one key, which has several errors if its type is a union."""
    first = items[0]
    if first["type"] == "extra_forbidden":
        return unknown_key(str(path[-1]), _keys(model, path[:-1]))
    if first["type"] == "missing":
        return "missing. Add it to params.yaml."
    expected = " or ".join(dict.fromkeys(map(_expected, items))).replace(" or input should be ", " or ")
    if isinstance(first["input"], dict):
        return f"{expected}."
    choices = re.findall(r"'([^']+)'", first["ctx"]["expected"]) if first["type"] == "literal_error" else []
    return f"invalid value {first['input']!r}: {expected}{closest(str(first['input']), choices)}"


def _expected(item: Any) -> str:
    message: str = EXPECTED.get(item["type"], item["msg"]).removeprefix("Value error, ").replace(" after validation", "")
    return message[0].lower() + message[1:]


def _keys(annotation: Any, path: Iterable[int | str]) -> list[str]:
    """List the keys of the model at `path` below the annotated value."""
    for step in path:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(step)].annotation
        else:
            annotation = typing.get_args(annotation)[-1]  # the values of a dict or a list
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            annotation = next(one for one in typing.get_args(annotation) if one is not types.NoneType)
    return list(annotation.model_fields)
