"""Single changes to an experiment, compared on validation data, by which a choice is made."""

from collections.abc import Sequence
from dataclasses import dataclass

from labbook.report.claims import Judged, judge_effects
from labbook.report.differences import POINTS, difference, print_interval, same_but
from labbook.report.records import Record

__all__ = ["INPUT", "Change", "compare_changes", "sum_up"]

INPUT = ("model", "preprocess", "augment")  # settings that a change may be about
METRIC = "val_accuracy"
SIGNS = {1: "above zero", 0: "no difference measured", -1: "below zero"}


@dataclass(frozen=True)
class Change:
    """A change, and what it does.

    Attributes:
        name: of the experiment with the change.
        interval: difference in validation accuracy, with its 95 % interval.
        words: where the interval lies.
        claim: of the report, on official data.
    """

    name: str
    interval: str
    words: str
    claim: Judged | None


def compare_changes(base: Record, others: Sequence[Record]) -> list[Change]:
    """Compare experiments with an unchanged one, the greatest gain first; those that differ in other settings are left out."""
    changed = [record for record in others if record.values(METRIC) and same_but(base, record, *INPUT)]
    changed.sort(key=lambda record: _gain(base, record), reverse=True)
    return [_compare(base, record, [other for other in changed if other is not record]) for record in changed]


def sum_up(changes: Sequence[Change]) -> str:
    """Return in a sentence which changes help."""
    if not any(change.words in SIGNS.values() for change in changes):
        return "With one run each, a gain cannot be told from seed-to-seed variance."
    helping = [change.name for change in changes if change.words == SIGNS[1]]
    return f"Measured to help: {', '.join(helping)}." if helping else "No change was measured to help."


def _compare(base: Record, changed: Record, others: Sequence[Record]) -> Change:
    measured = difference(base, changed, METRIC, *INPUT)
    interval = print_interval(measured) if measured else f"{100 * _gain(base, changed):+z.2f} {POINTS.name}"
    words = SIGNS[measured.sign] if measured else "one run each"
    return Change(changed.name, interval, words, judge_effects(base, changed, others, INPUT))


def _gain(base: Record, changed: Record) -> float:
    return (changed.mean(METRIC) or 0.0) - (base.mean(METRIC) or 0.0)
