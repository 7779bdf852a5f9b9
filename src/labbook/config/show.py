"""Print the resolved settings of an experiment, each with the place that sets it: labbook show NAME."""

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML

from labbook.config.messages import closest
from labbook.config.reading import look_up, read, validate
from labbook.config.sweep import Sweep, resolve_sweep
from labbook.config.train import SCHEMA, Resolved, resolve
from labbook.errors import ParamsError

__all__ = ["add_arguments", "main", "show"]

GROUPS = ("experiments", "sweeps", "pretrained")
PLAIN = re.compile(r"[A-Za-z_][\w./-]*")  # text without quotes, unless YAML reads it as another type
MAX_WIDTH = 48  # characters before the column of origins; the origin of a longer line follows that line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labbook show`."""
    parser.epilog = (
        "The output is YAML. `schema` stands for src/labbook/config/train.py. Unlisted settings of a model, optimizer, loss or "
        "schedule have the default of their class."
    )
    parser.add_argument("name", metavar="NAME", help="an experiment, a sweep or pretrained weights, as in params.yaml")
    parser.add_argument("--source", choices=("embedded", "official"), help="data source (default: data.source in params.yaml)")


def main(arguments: argparse.Namespace) -> None:
    """Print the settings of an experiment."""
    print(show(arguments.name, arguments.source))


def show(name: str, source: str | None = None) -> str:
    """Return the resolved settings as YAML, with the origin of each value as a comment.

    Args:
        name: name of an experiment, a sweep or pretrained weights; a sweep is shown at its first value.
        source: `embedded` or `official`; by default `data.source` in `params.yaml`.

    Raises:
        ParamsError: no block has this name, or a key is wrong.
    """
    values = read()
    source = source or str(look_up(values, "data.source"))
    block = _find(values, name)
    heading = f"# {block} on {source} data"
    if block.startswith("sweeps."):
        sweep = validate(look_up(values, block), Sweep, block)
        variants = resolve_sweep(values, name, sweep, source)
        heading += f", at the first value of {sweep.vary.key}: {_flow([value for value, _ in variants])}"
        resolved = variants[0][1]
    else:
        resolved = resolve(values, block, source)
    return "\n".join([heading, *_align(_lines(resolved.settings.model_dump(), resolved))])


def _find(values: Mapping[str, Any], name: str) -> str:
    groups = {group: values[group] for group in GROUPS if isinstance(values.get(group), Mapping)}
    for group, blocks in groups.items():
        if name in blocks:
            return f"{group}.{name}"
    known = [str(key) for blocks in groups.values() for key in blocks]
    raise ParamsError(f"{name}: no experiment, sweep or pretrained weights{closest(name, known)} Known: {', '.join(known)}.")


def _lines(settings: Mapping[str, Any], resolved: Resolved, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each line of a block with the origin of its value, which is empty for a line that opens a nested block."""
    indent = "  " * path.count(".")
    for key, value in settings.items():
        setting = f"{path}{key}"
        if isinstance(value, dict) and value:
            yield f"{indent}{_flow(key)}:", ""
            yield from _lines(value, resolved, f"{setting}.")
        else:
            yield f"{indent}{_flow(key)}: {_flow(value)}", resolved.origins.get(setting, SCHEMA)


def _align(lines: Iterator[tuple[str, str]]) -> Iterator[str]:
    pairs = list(lines)
    width = max(len(text) for text, _ in pairs if len(text) <= MAX_WIDTH)
    for text, origin in pairs:
        yield f"{text:<{width}}  # {origin}" if origin else text


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow(key)}: {_flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, str) and PLAIN.fullmatch(value) and YAML(typ="safe").load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
