"""What the reports claim of a comparison, and whether our measurements agree with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labbook.report.assignments import EFFECTS, Effect
from labbook.report.differences import difference
from labbook.report.records import Record
from labbook.report.verdict import Verdict, comparable, judge_record, judge_run, print_reported

__all__ = ["Judged", "is_official", "judge_effects", "judge_epochs", "judge_results"]

METRICS = {
    "train_accuracy": "train accuracy",
    "val_accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "steps": "number of steps",
}
SIGNS = {"higher": {1}, "lower": {-1}, "not higher": {0, -1}, "same": {0}}  # of the difference that a direction claims


@dataclass(frozen=True)
class Judged:
    """A claim of a report.

    Attributes:
        claim: what the report says.
        words: whether our results agree, and if not, why.
        holds: `None` where our experiments cannot tell.
    """

    claim: str
    words: str
    holds: bool | None


def judge_effects(base: Record, changed: Record, others: Sequence[Record], keys: Sequence[str]) -> Judged | None:
    """Judge what a report claims of a change; `None` if it claims nothing, or the data are not its own.

    Args:
        base: the experiment without the change.
        changed: the experiment with it.
        others: experiments with other changes, which `highest` refers to.
        keys: of the settings that the changes are about.
    """
    effects = EFFECTS.get(changed.name)
    if not effects or not is_official(changed):
        return None
    found = [_judge_effect(effect, base, changed, others, keys) for effect in effects]
    reasons = dict.fromkeys(words for holds, words in found if not holds)
    quote = changed.asked.reported.quote
    claim = f"“{quote}”" if quote else _print_results({record.name: record for record in (base, changed)})
    return _judged(claim, [holds for holds, _ in found], "; ".join(reasons))


def _judge_effect(
    effect: Effect, base: Record, changed: Record, others: Sequence[Record], keys: Sequence[str]
) -> tuple[bool | None, str]:
    metric = METRICS[effect.metric]
    if effect.direction == "highest":
        return _judge_highest(effect.metric, changed, others, keys)
    measured = difference(base, changed, effect.metric, *keys)
    if measured is None:
        return None, "one run each"
    if measured.sign in SIGNS[effect.direction]:
        return True, ""
    if measured.sign == 0:
        return None, f"no difference in {metric} was measured"
    return False, f"the {metric} is {'higher' if measured.sign > 0 else 'lower'}"


def _judge_highest(metric: str, changed: Record, others: Sequence[Record], keys: Sequence[str]) -> tuple[bool | None, str]:
    """Judge whether a change helps more than each of the others."""
    if not others:
        return None, "no other change was run"
    found = {other.name: difference(other, changed, metric, *keys) for other in others}
    if None in found.values():
        return None, "one run each"
    better = [name for name, measured in found.items() if measured and measured.sign < 0]
    if better:
        return False, f"the {METRICS[metric]} of {', '.join(better)} is higher"
    equal = [name for name, measured in found.items() if measured and measured.sign == 0]
    return (None, f"no difference from {', '.join(equal)} was measured") if equal else (True, "")


def judge_results(records: Mapping[str, Record]) -> tuple[Judged, ...]:
    """Judge the test accuracies that a report printed of experiments that it compares, where it printed numbers.

    Args:
        records: experiments, by what tells them apart.
    """
    numbers = {word: record for word, record in records.items() if record.asked.reported.test is not None}
    if not numbers or not all(is_official(record) for record in records.values()):
        return ()
    return (_judge_all(_print_results(numbers), {word: judge_record(record) for word, record in numbers.items()}),)


def is_official(record: Record) -> bool:
    """Return whether an experiment was run on the data of the reports, with their settings."""
    return bool(record.card["source"] == "official")


def _print_results(records: Mapping[str, Record]) -> str:
    printed = [f"{print_reported(comparable(record))} with {word}" for word, record in records.items()]
    return f"test accuracy {' and '.join(printed)}"


def judge_epochs(reported: Mapping[str, tuple[float, Sequence[float | None]]]) -> Judged:
    """Judge how many epochs a report says that experiments need.

    Args:
        reported: by what tells the experiments apart, the rounded number in the report, and ours by seed, `None` where a
            seed never gets there.
    """
    printed = [f"about {theirs:g} epochs with {word}" for word, (theirs, _) in reported.items()]
    verdicts = {word: _judge_number(theirs, ours) for word, (theirs, ours) in reported.items()}
    return _judge_all(" and ".join(printed), verdicts)


def _judge_number(theirs: float, ours: Sequence[float | None]) -> Verdict:
    known = [value for value in ours if value is not None]
    if len(known) < len(ours) > 1:
        return Verdict(None, f"not reached in {len(ours) - len(known)} of {len(ours)} seeds", good=False)
    return judge_run("about", theirs, known) if known else Verdict(None, "not reached in one run", good=None)


def _judge_all(claim: str, verdicts: Mapping[str, Verdict]) -> Judged:
    words = "; ".join(f"{word}: {verdict.words}" for word, verdict in verdicts.items())
    return _judged(claim, [verdict.good for verdict in verdicts.values()], words)


def _judged(claim: str, holds: Sequence[bool | None], reasons: str) -> Judged:
    """Combine the parts of a claim: it fails if one fails, and holds if all hold."""
    if False in holds:
        return Judged(claim, f"Our results differ ({reasons}).", holds=False)
    if all(holds):
        return Judged(claim, f"Our results agree ({reasons})." if reasons else "Our results agree.", holds=True)
    return Judged(claim, f"Our results cannot confirm it ({reasons}).", holds=None)
