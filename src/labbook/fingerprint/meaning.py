"""Hash what a Python module does, regardless of its formatting, to the same value on every supported Python.

The hash is that of the abstract syntax tree (https://docs.python.org/3/library/ast.html) in a custom text format, because
`ast.dump` and `ast.unparse` differ between Python versions. It ignores

- comments, formatting and positions;
- docstrings, and other statements that consist of a constant;
- arguments of raised errors, and messages of assertions: they are evaluated only when a stage fails, so they cannot change
  its outputs. The class of an error counts, because it decides where the error is caught. A module that catches an error
  must not write the error's text to an output.
"""

import ast
import hashlib
import warnings
from collections.abc import Callable
from typing import Any

from labbook.errors import LabbookError

__all__ = ["hash_bytes", "hash_tree", "parse"]

DIGITS = 16  # of each hash: 64 bits make chance collisions negligible

IGNORED_FIELDS = {"ctx", "kind", "type_comment", "type_ignores"}  # determined by other fields, or without effect


def parse(source: bytes, name: str) -> ast.Module:
    """Parse the source of a module; `name` identifies it in messages.

    Raises:
        LabbookError: the source is not valid Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python issues them again when the module is imported
            return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise LabbookError(
            f"{name}{line}: not valid Python: {getattr(error, 'msg', error)}. Correct it and run again."
        ) from error


def hash_tree(tree: ast.AST) -> str:
    """Return the hash of what a parsed module does, as hexadecimal digits."""
    fragments: list[str] = []
    _write_node(tree, fragments)
    return hash_bytes("".join(fragments).encode())


def hash_bytes(content: bytes) -> str:
    """Return the hash of a file's content, as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _write_node(node: Any, fragments: list[str]) -> None:
    """Append a node as `Class(field=value,...)`, without empty fields."""
    kind = type(node)
    if kind in _NORMALISED:
        node = _NORMALISED[kind](node)
        kind = type(node)
    if kind is ast.Constant:
        fragments.append(_constant(node.value))
        return
    fragments.append(f"{kind.__name__}(")
    for name in kind._fields:
        value = getattr(node, name, None)
        if name in IGNORED_FIELDS:
            continue
        if isinstance(value, list):
            _write_list(name, value, fragments)
        elif isinstance(value, ast.AST):
            fragments.append(f"{name}=")
            _write_node(value, fragments)
            fragments.append(",")
        elif value or kind is ast.MatchSingleton:  # fields added by newer Pythons are None or 0 if unused
            fragments.append(f"{name}={_constant(value)},")
    fragments.append(")")


def _write_list(name: str, values: list[Any], fragments: list[str]) -> None:
    """Append a list as `name=[value,...],`, or nothing if it is empty or none of its statements has an effect."""
    values = [value for value in values if not _is_inert(value)]
    if not values:
        return
    fragments.append(f"{name}=[")
    for value in values:
        if isinstance(value, ast.AST):
            _write_node(value, fragments)
        else:
            fragments.append(_constant(value))
        fragments.append(",")
    fragments.append("],")


def _is_inert(statement: object) -> bool:
    """Return whether a statement does nothing: a docstring, another lone constant, or `pass`."""
    return isinstance(statement, ast.Pass) or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def _constant(value: object) -> str:
    """Format a constant with its type, because 1, 1.0 and True are equal in Python but differ in meaning."""
    return f"{type(value).__name__}:{hex(value) if type(value) is int else ascii(value)}"


def _raise_without_arguments(node: ast.Raise) -> ast.Raise:
    """Reduce `raise SomeError(...)` to `raise SomeError`; other exceptions may carry a result, as `StopIteration` does."""
    call = node.exc
    if isinstance(call, ast.Call):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name.endswith("Error"):
            return ast.Raise(exc=call.func, cause=node.cause)
    return node


def _assert_without_message(node: ast.Assert) -> ast.Assert:
    return ast.Assert(test=node.test, msg=None)


def _merge_constants(node: ast.JoinedStr) -> ast.JoinedStr | ast.Constant:
    """Merge the constant parts of an f-string, which Python versions split differently."""
    values: list[ast.expr] = []
    for value in node.values:
        if isinstance(value, ast.Constant) and values and isinstance(values[-1], ast.Constant):
            values[-1] = ast.Constant(values[-1].value + value.value)  # type: ignore[operator]
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            values.append(value)
    if not values:
        return ast.Constant("")
    if len(values) == 1 and isinstance(values[0], ast.Constant):
        return values[0]
    return ast.JoinedStr(values=values)


def _without_empty_format(node: ast.FormattedValue) -> ast.FormattedValue:
    """Drop an empty format: `{x:}` is `{x}`."""
    spec = node.format_spec
    if isinstance(spec, ast.JoinedStr) and ast.Constant is type(merged := _merge_constants(spec)) and merged.value == "":
        return ast.FormattedValue(value=node.value, conversion=node.conversion, format_spec=None)
    return node


_NORMALISED: dict[type[ast.AST], Callable[[Any], ast.AST]] = {
    ast.Assert: _assert_without_message,
    ast.FormattedValue: _without_empty_format,
    ast.JoinedStr: _merge_constants,
    ast.Raise: _raise_without_arguments,
}
