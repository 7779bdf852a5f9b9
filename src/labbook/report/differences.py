"""Differences between two experiments, with 95% intervals over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labbook.report.records import Record
from labbook.statistics import Difference, paired_difference, unpaired_difference

__all__ = ["EPOCHS", "POINTS", "STEPS", "Unit", "describe", "difference", "difference_of", "equal_except", "format_interval"]


@dataclass(frozen=True)
class Unit:
    """The unit in which a difference is printed.

    Attributes:
        name: plural name.
        scale: factor from the metric to this unit.
        digits: number of decimals.
    """

    name: str
    scale: float = 1
    digits: int = 0


POINTS = Unit("percentage points", 100, 2)  # of accuracy
EPOCHS = Unit("epochs", digits=1)
STEPS = Unit("steps")


def difference(first: Record, second: Record, metric: str, *keys: str) -> Difference | None:
    """Return the difference of a metric between two experiments, second - first.

    Args:
        first: an experiment.
        second: an experiment that differs from it in the settings below `keys`.
        metric: a metric of `Record.values`.
        keys: dotted keys of the settings that are compared; seeds are paired if no other setting differs.

    Returns:
        `None` if either was run with a single seed, or a seed lacks the metric.
    """
    return difference_of(first.values(metric), second.values(metric), paired=equal_except(first, second, *keys))


def difference_of(first: Sequence[float], second: Sequence[float], *, paired: bool) -> Difference | None:
    """Return the difference of two lists of values, one per seed; `None` if either has fewer than two."""
    if min(len(first), len(second)) < 2:
        return None
    return paired_difference(first, second) if paired else unpaired_difference(first, second)


def describe(measured: Difference | None, unit: Unit = POINTS, of: str = "") -> str:
    """Return a sentence with a difference and its interval.

    Args:
        measured: the difference, second - first; `None` if either experiment has a single run.
        unit: unit of the printed numbers.
        of: what differs, such as `in test accuracy`.
    """
    subject = f" {of}" if of else ""
    if measured is None:
        return f"With one run each, a difference{subject} cannot be distinguished from seed-to-seed variance."
    if measured.sign:
        return f"The difference{subject} is {format_interval(measured, unit)}."
    return f"No difference{subject} was measured: {format_interval(measured, unit)}."


def format_interval(measured: Difference, unit: Unit = POINTS) -> str:
    """Format a difference with its unit and interval."""
    mean, low, high = (f"{unit.scale * value:+z.{unit.digits}f}" for value in (measured.mean, measured.low, measured.high))
    return f"{mean} {unit.name} (95% interval {low} to {high})"


def equal_except(first: Record, second: Record, *keys: str) -> bool:
    """Return whether two experiments have the same seeds and, except for these dotted keys, the same settings."""
    if list(first.histories) != list(second.histories):
        return False
    first_settings, second_settings = (_without({**record.settings, "constraint": None}, keys) for record in (first, second))
    return first_settings == second_settings


def _without(settings: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    remaining = dict(settings)
    for key in keys:
        name, _, rest = key.partition(".")
        value = remaining.pop(name, {})
        if rest:
            remaining[name] = _without(value, [rest])
    return remaining
