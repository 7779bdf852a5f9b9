"""Compare single changes to an experiment by validation accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

from labbook.report.claims import JudgedClaim, judge_effects
from labbook.report.differences import POINTS, difference, equal_except, format_interval
from labbook.report.records import Record

__all__ = ["INPUT", "Change", "compare_changes", "summarize_changes"]

INPUT = ("model", "preprocess", "augment")  # settings that a change may affect
METRIC = "val_accuracy"
SIGNS = {1: "above zero", 0: "no difference measured", -1: "below zero"}


@dataclass(frozen=True)
class Change:
    """A change and its effect.

    Attributes:
        name: name of the experiment with the change.
        interval: difference in validation accuracy, with its 95% interval.
        verdict: position of the interval relative to zero.
        claim: judged claim of the report; `None` on embedded data or without a claim.
    """

    name: str
    interval: str
    verdict: str
    claim: JudgedClaim | None


def compare_changes(base: Record, others: Sequence[Record]) -> list[Change]:
    """Compare changed experiments with a base, largest gain first; skip those that differ in other settings."""
    changed = [record for record in others if record.values(METRIC) and equal_except(base, record, *INPUT)]
    changed.sort(key=lambda record: _gain(base, record), reverse=True)
    return [_compare(base, record, [other for other in changed if other is not record]) for record in changed]


def summarize_changes(changes: Sequence[Change]) -> str:
    """Return a sentence that names the changes with a measured gain."""
    if not any(change.verdict in SIGNS.values() for change in changes):
        return "With one run each, a gain cannot be distinguished from seed-to-seed variance."
    helpful = [change.name for change in changes if change.verdict == SIGNS[1]]
    return f"Changes with a measured gain: {', '.join(helpful)}." if helpful else "No change has a measured gain."


def _compare(base: Record, changed: Record, others: Sequence[Record]) -> Change:
    measured = difference(base, changed, METRIC, *INPUT)
    interval = format_interval(measured) if measured else f"{100 * _gain(base, changed):+z.2f} {POINTS.name}"
    verdict = SIGNS[measured.sign] if measured else "one run each"
    return Change(changed.name, interval, verdict, judge_effects(base, changed, others, INPUT))


def _gain(base: Record, changed: Record) -> float:
    return (changed.mean(METRIC) or 0.0) - (base.mean(METRIC) or 0.0)
