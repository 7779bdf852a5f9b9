"""Learning-rate schedules: classes of torch.optim.lr_scheduler, with totals that default to the length of the training."""

import itertools
import typing
from dataclasses import dataclass
from typing import Any, Literal

from torch import optim
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, SequentialLR

from labbook.config.components import Component
from labbook.config.reading import validate
from labbook.errors import ParamsError
from labbook.training.lookup import configurable_arguments, construct, convert, read_component, unknown_argument

__all__ = ["Schedule", "build_schedule", "check_schedule"]

Interval = Literal["step", "epoch"]

BY_STEP = ("CyclicLR", "OneCycleLR")  # advance at every step by default; they set the rate regardless of other schedules
COMBINED = ("ChainedScheduler", "SequentialLR")
START_RATES = {"CyclicLR": "base_lr", "OneCycleLR": "max_lr"}  # they replace the optimiser's rate, which is their default here
# Totals that default to the length of the training, or to the length of the schedule's part in a SequentialLR.
TOTALS = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"}
TOTALS_IN_SEQUENCE = TOTALS | {"ConstantLR": "total_iters", "LinearLR": "total_iters"}
# Lengths after which a schedule has reached its end, or its turning point.
LENGTHS = TOTALS_IN_SEQUENCE | {"CosineAnnealingWarmRestarts": "T_0", "CyclicLR": "step_size_up"}
UNKNOWN_TOTAL = 1000  # placeholder for the length of a training when only arguments are checked


class Schedule:
    """A schedule that advances at every step or every epoch; the training loop notifies it of both.

    Args:
        scheduler: sets the rate of its optimiser; `None` for a constant rate.
        interval: when to advance.
        total: number of intervals in the training; the rate does not change after the last one.
    """

    def __init__(self, scheduler: LRScheduler | None, interval: Interval, total: int) -> None:
        self._scheduler = scheduler
        self._by_step = scheduler is not None and interval == "step"
        self._by_epoch = scheduler is not None and interval == "epoch"
        self._remaining = total - 1

    def after_step(self) -> None:
        """Advance a schedule by step; call this after every step of the optimiser."""
        if self._by_step:
            self._advance()

    def after_epoch(self) -> None:
        """Advance a schedule by epoch; call this after every epoch."""
        if self._by_epoch:
            self._advance()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint; the rate itself is part of the optimiser's state."""
        return {"remaining": self._remaining, "scheduler": self._scheduler.state_dict() if self._scheduler else {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state; restore the optimiser's state as well."""
        self._remaining = state["remaining"]
        if self._scheduler:
            self._scheduler.load_state_dict(dict(state["scheduler"]))  # a copy, because CyclicLR removes a key

    def _advance(self) -> None:
        if self._scheduler and self._remaining > 0:
            self._scheduler.step()
            self._remaining -= 1


def build_schedule(
    component: Component | None, optimizer: optim.Optimizer, steps_per_epoch: int, epochs: int, key: str
) -> Schedule:
    """Build the schedule of an optimiser that has neither taken a step nor loaded a state.

    A schedule advances once per epoch, or once per step with `interval: step`, the default of OneCycleLR and CyclicLR; all
    its counts are in these units. Optional arguments and their defaults:

    - OneCycleLR's `total_steps`, CosineAnnealingLR's `T_max` and PolynomialLR's `total_iters`: the length of the training,
      or in a SequentialLR the length of the schedule's part; there LinearLR's and ConstantLR's `total_iters` as well.
    - OneCycleLR's `max_lr` and CyclicLR's `base_lr`: the optimiser's `lr`.

    SequentialLR and ChainedScheduler take `schedulers`, a list of schedules.

    Args:
        component: the name of the schedule and its arguments; `None` for a constant rate.
        optimizer: the optimiser whose rate is set.
        steps_per_epoch: number of steps in an epoch.
        epochs: number of epochs in the training.
        key: the component's key in `params.yaml`, for messages.

    Raises:
        ParamsError: there is no such schedule, an argument is wrong, or the training ends before the schedule does.
    """
    if component is None:
        return Schedule(None, "epoch", epochs)
    interval, values = _interval(component, key)
    total = epochs * steps_per_epoch if interval == "step" else epochs
    scheduler = _build(values, optimizer, _Span(total, f"{interval}s"), key)
    optimizer._opt_called = True  # type: ignore[attr-defined]  # backends call an unwrapped `step`, which torch misses
    return Schedule(scheduler, interval, total)


def check_schedule(component: Component, optimizer: optim.Optimizer, key: str) -> None:
    """Check the name and arguments of a schedule without training, on an optimiser that is then discarded.

    Raises:
        ParamsError: there is no such schedule, or an argument is wrong.
    """
    interval, values = _interval(component, key)
    _build(values, optimizer, _Span(None, f"{interval}s"), key)


@dataclass(frozen=True)
class _Span:
    """The intervals that a schedule covers.

    Attributes:
        length: number of intervals; `None` without a training.
        units: `steps` or `epochs`.
        in_sequence: whether they belong to a part of a SequentialLR.
    """

    length: int | None
    units: str
    in_sequence: bool = False

    def __str__(self) -> str:
        return f"{'its part of SequentialLR' if self.in_sequence else 'the training'} has {self.length}"


def _interval(component: Component, key: str) -> tuple[Interval, dict[str, Any]]:
    """Return the interval of a schedule, and its other keys."""
    values = component.model_dump()
    interval: Interval = values.pop("interval", "step" if component.name in BY_STEP else "epoch")
    if interval not in typing.get_args(Interval):
        raise ParamsError(f"{key}.interval: invalid value {interval!r}. Use step or epoch.")
    return interval, values


def _build(values: dict[str, Any], optimizer: optim.Optimizer, span: _Span, key: str) -> LRScheduler:
    name = values["name"]
    if name == "SequentialLR":
        return _build_sequential(values, optimizer, span, key)
    if name == "ChainedScheduler":
        return _build_chained(values, optimizer, span, key)
    defaults = {}
    if name in START_RATES:
        defaults[START_RATES[name]] = optimizer.param_groups[0]["lr"]
    totals = TOTALS_IN_SEQUENCE if span.in_sequence else TOTALS
    if name in totals:
        defaults[totals[name]] = UNKNOWN_TOTAL if span.length is None else span.length
    specified = {argument: value for argument, value in values.items() if argument not in defaults or value is not None}
    cls, arguments = read_component("schedule", defaults | specified, key)
    _check_length(name, cls, arguments, span, key)
    scheduler: LRScheduler = construct(cls, (optimizer,), arguments, f"{key}: {name}")
    return scheduler


def _check_length(name: str, cls: type[Any], arguments: dict[str, Any], span: _Span, key: str) -> None:
    """Raise an error for lengths below 1 and for lengths that contradict the length of the training."""
    argument = "step_size" if name == "StepLR" else LENGTHS.get(name)
    if argument is None:
        return
    length, where = arguments.get(argument, configurable_arguments(cls)[argument].default), f"{key}.{argument}"
    if length <= 0:
        raise ParamsError(f"{where}: invalid value {length}: it must be greater than 0.")
    if name == "StepLR" or span.length is None:
        return
    mismatch = f"{where}: {length} {span.units}{'' if argument in arguments else ' by default'}, but {span}"
    if length > span.length:
        raise ParamsError(f"{mismatch}: the learning rate would not reach the end of its schedule. Use at most {span.length}.")
    if name == "OneCycleLR" and length < span.length:
        raise ParamsError(f"{mismatch}: OneCycleLR cannot continue after its end. Remove {argument}.")


def _build_sequential(values: dict[str, Any], optimizer: optim.Optimizer, span: _Span, key: str) -> SequentialLR:
    parts = _inner_parts(values, ("schedulers", "milestones"), key)
    milestones = convert(values.get("milestones", []), list[int], f"{key}.milestones")
    spans = _inner_spans(milestones, len(parts), span, f"{key}.milestones")
    inner = [
        _build(component, optimizer, part_span, where)
        for (where, component), part_span in zip(parts.items(), spans, strict=True)
    ]
    return SequentialLR(optimizer, inner, milestones)


def _build_chained(values: dict[str, Any], optimizer: optim.Optimizer, span: _Span, key: str) -> ChainedScheduler:
    parts = _inner_parts(values, ("schedulers",), key)
    return ChainedScheduler([_build(component, optimizer, span, where) for where, component in parts.items()], optimizer)


def _inner_parts(values: dict[str, Any], known: tuple[str, ...], key: str) -> dict[str, dict[str, Any]]:
    """Return the parts of a combined schedule by their keys in `params.yaml`."""
    name = values["name"]
    for argument in values:
        if argument not in ("name", *known):
            raise unknown_argument(argument, known, name, key)
    schedulers = values.get("schedulers")
    if not isinstance(schedulers, list) or not schedulers:
        raise ParamsError(f"{key}.schedulers: {name} needs a list of schedules, such as [{{name: LinearLR}}].")
    parts = {}
    for index, inner in enumerate(schedulers):
        where = f"{key}.schedulers.{index}"
        component = validate(inner, Component, where)
        if component.name in (*COMBINED, *BY_STEP):
            raise ParamsError(f"{where}.name: {component.name} cannot be a part of {name}.")
        parts[where] = component.model_dump()
        if "interval" in parts[where]:
            raise ParamsError(f"{where}.interval: the parts of {name} share one interval. Set {key}.interval.")
    return parts


def _inner_spans(milestones: list[int], count: int, span: _Span, where: str) -> list[_Span]:
    """Return the length of each part of a SequentialLR; the last part lasts until the end of the training."""
    if len(milestones) != count - 1:
        raise ParamsError(f"{where}: {count} schedulers need {count - 1} milestones, but there are {len(milestones)}.")
    if any(later <= earlier for earlier, later in itertools.pairwise([0, *milestones])):
        raise ParamsError(f"{where}: invalid value {milestones}: milestones must be at least 1 and increase.")
    last = None if span.length is None else span.length - max([0, *milestones])
    if last is not None and last <= 0:
        raise ParamsError(f"{where}: {milestones[-1]} {span.units}, but {span}: none are left for the last schedule.")
    lengths = [later - earlier for earlier, later in itertools.pairwise([0, *milestones])]
    return [_Span(length, span.units, in_sequence=True) for length in (*lengths, last)]
