"""Find the class that a loss, optimiser or schedule of `params.yaml` names, and check its arguments against the constructor.

A custom class is `Loss` in src/labbook/losses/NAME.py, `Optimizer` in src/labbook/optimizers/NAME.py or `Scheduler` in
src/labbook/schedules/NAME.py, and its name in `params.yaml` is NAME.
"""

import collections.abc
import difflib
import functools
import importlib
import inspect
import operator
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler

from labbook.config.components import FAMILIES, module_name, names
from labbook.errors import ParamsError

__all__ = ["LOSSES", "Kind", "configurable_arguments", "construct", "convert", "one_line", "read_component", "unknown_argument"]

Kind = Literal["loss", "optimizer", "schedule"]

LOSSES = ("CrossEntropyLoss", "MultiMarginLoss", "NLLLoss")  # of torch.nn: those that compare logits with class labels
UNSUITABLE = {
    "LambdaLR": "it takes a Python function. Write a custom class in src/labbook/schedules",
    "MultiplicativeLR": "it takes a Python function. Write a custom class in src/labbook/schedules",
    "ReduceLROnPlateau": "it needs a validation metric, which not every training has. Use MultiStepLR or CosineAnnealingLR",
    "SparseAdam": "it takes sparse gradients only",
}
# Arguments of torch's constructors that are not settings, because training sets them or they have no effect.
EXCLUDED_ARGUMENTS = frozenset(
    {
        "capturable",
        "differentiable",
        "epochs",
        "last_epoch",
        "reduce",
        "reduction",
        "scale_fn",
        "size_average",
        "steps_per_epoch",
    }
)

TORCH: dict[Kind, types.ModuleType] = {"loss": nn, "optimizer": optim, "schedule": lr_scheduler}
BASES: dict[Kind, type[Any]] = {"loss": nn.Module, "optimizer": optim.Optimizer, "schedule": lr_scheduler.LRScheduler}
CUSTOM_CLASSES: dict[Kind, str] = {"loss": "Loss", "optimizer": "Optimizer", "schedule": "Scheduler"}


def read_component(kind: Kind, values: dict[str, Any], key: str) -> tuple[type[Any], dict[str, Any]]:
    """Return the class of a component and its keyword arguments, checked and converted.

    Args:
        kind: `loss`, `optimizer` or `schedule`.
        values: the component's `name`, and arguments of its class.
        key: the component's key in `params.yaml`, for messages.

    Raises:
        ParamsError: there is no such class, or an argument is unknown, missing or of the wrong type.
    """
    values = dict(values)
    name = values.pop("name")
    cls = _find_class(kind, name, key)
    known, hints = configurable_arguments(cls), _constructor_hints(cls)
    for argument in values:
        if argument not in known:
            raise unknown_argument(argument, known, name, key)
    for argument, parameter in known.items():
        if parameter.default is parameter.empty and argument not in values:
            raise ParamsError(f"{key}.{argument}: missing. {name} requires it.")
    return cls, {argument: convert(value, hints.get(argument, Any), f"{key}.{argument}") for argument, value in values.items()}


def configurable_arguments(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class that a component may set: all but the model's parameters and a scheduler's optimiser."""
    arguments = inspect.signature(cls).parameters.values()
    named = [argument for argument in arguments if argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)]
    first = 0 if issubclass(cls, nn.Module) else 1
    excluded = EXCLUDED_ARGUMENTS if _is_torch_class(cls) else ()
    return {argument.name: argument for argument in named[first:] if argument.name not in excluded}


def convert(value: Any, hint: Any, where: str) -> Any:
    """Check a value against an annotation, and convert a list to a tuple or a tensor if the class expects one.

    Raises:
        ParamsError: it has the wrong type, is infinite or not a number; the message begins with `where`, its key.
    """
    accepts_tensor = Tensor in (hint, *typing.get_args(hint))
    hint = _yaml_hint(hint)
    tuple_hint = next((item for item in (hint, *typing.get_args(hint)) if typing.get_origin(item) is tuple), None)
    adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))
    try:
        converted = adapter.validate_python(tuple(value) if tuple_hint and isinstance(value, list) else value, strict=True)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        length = len(typing.get_args(tuple_hint))
        expected = f"expected a list of {length} numbers" if tuple_hint else message[0].lower() + message[1:]
        raise ParamsError(f"{where}: invalid value {value!r}: {expected}.") from error
    return torch.tensor(converted, dtype=torch.float32) if accepts_tensor and isinstance(converted, list) else converted


def construct(cls: type[Any], positional: tuple[Any, ...], arguments: dict[str, Any], where: str) -> Any:
    """Call a constructor.

    Raises:
        ParamsError: it rejects its arguments; the message begins with `where`, the key and name of the component.
    """
    try:
        return cls(*positional, **arguments)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise ParamsError(f"{where}: {one_line(error)}") from error


def unknown_argument(argument: str, known: Iterable[str], name: str, key: str) -> ParamsError:
    """Return the error for an argument that `name` does not take."""
    listed = ", ".join(known)
    problem = "cannot be set here." if argument in EXCLUDED_ARGUMENTS else f"unknown argument{_suggestion(argument, known)}"
    accepted = f"Arguments of {name}: {listed}." if listed else f"{name} takes no arguments."
    return ParamsError(f"{key}.{argument}: {problem} {accepted}")


def one_line(error: Exception) -> str:
    """Return the message of an error as one line that ends with a full stop."""
    return " ".join(str(error).split()).removesuffix(".") + "."


def _find_class(kind: Kind, name: str, key: str) -> type[Any]:
    custom, torch_classes = names(kind), _torch_classes(kind)
    cls = _load_custom(kind, module_name(kind, name), key) if name in custom else torch_classes.get(name)
    if cls is None:
        known = [*(other for other, torch_class in torch_classes.items() if not _why_unsuitable(kind, torch_class)), *custom]
        raise ParamsError(
            f"{key}.name: unknown {kind} {name!r}{_suggestion(name, known)} Known: {', '.join(known)}. "
            f"To add one, create a file in src/labbook/{FAMILIES[kind]}/."
        )
    if reason := _why_unsuitable(kind, cls):
        raise ParamsError(f"{key}.name: {name} cannot be used here: {reason}.")
    return cls


def _torch_classes(kind: Kind) -> dict[str, type[Any]]:
    base = BASES[kind]
    classes = {name: cls for name, cls in vars(TORCH[kind]).items() if isinstance(cls, type) and issubclass(cls, base)}
    suffix = "Loss" if kind == "loss" else ""
    return {
        name: classes[name]
        for name in sorted(classes)
        if name[0] != "_" and name.endswith(suffix) and classes[name] is not base
    }


def _why_unsuitable(kind: Kind, cls: type[Any]) -> str | None:
    """Return why a class cannot be used, or `None` if it can."""
    if kind == "loss" and _is_torch_class(cls) and cls.__name__ not in LOSSES:
        return "it does not compare logits with class labels"
    if kind == "optimizer":
        closure = inspect.signature(inspect.unwrap(cls.step)).parameters.get("closure")
        if closure and closure.default is closure.empty:
            return "its step takes a closure, which would compute the loss several times"
    return UNSUITABLE.get(cls.__name__) if _is_torch_class(cls) else None


def _is_torch_class(cls: type[Any]) -> bool:
    return cls.__module__.startswith("torch.")


def _load_custom(kind: Kind, module: str, key: str) -> type[Any]:
    file, name, base = f"src/{module.replace('.', '/')}.py", CUSTOM_CLASSES[kind], BASES[kind]
    try:
        cls = vars(importlib.import_module(module)).get(name)
    except Exception as error:
        raise ParamsError(f"{key}.name: {file} cannot be imported: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(cls, type) or cls.__module__ != module:
        raise ParamsError(f"{key}.name: {file} defines no class {name}.")
    if not issubclass(cls, base):
        raise ParamsError(f"{key}.name: {name} in {file} must derive from {base.__module__}.{base.__qualname__}.")
    return cls


def _constructor_hints(cls: type[Any]) -> dict[str, Any]:
    """Return the annotations of the constructor; torch imports some of their names only for type checkers."""
    try:
        return typing.get_type_hints(cls.__init__, localns=vars(collections.abc))
    except NameError:
        return {}


def _yaml_hint(hint: Any) -> Any:
    """Rewrite an annotation in terms of what YAML holds: lists in place of other sequences and of tensors."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Tensor:
        return list[float]
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(
            operator.or_, (_yaml_hint(item) for item in arguments if item is not Tensor or float not in arguments)
        )
    if origin in (collections.abc.Iterable, collections.abc.Sequence):
        return types.GenericAlias(list, arguments)
    if origin is tuple:
        return types.GenericAlias(tuple, tuple(map(_yaml_hint, arguments)))
    return hint


def _suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message: a suggestion of the nearest known name, ignoring case and underscores, or a full stop."""
    by_normalized = {_normalize(candidate): candidate for candidate in known}
    matches = difflib.get_close_matches(_normalize(name), by_normalized, n=1)
    return f"; did you mean {by_normalized[matches[0]]!r}?" if matches else "."


def _normalize(name: str) -> str:
    return name.lower().replace("_", "")
