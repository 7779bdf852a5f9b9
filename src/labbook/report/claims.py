"""Judge whether our results agree with the comparative claims of the reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labbook.report.assignments import EFFECTS, Effect
from labbook.report.differences import difference
from labbook.report.records import Record
from labbook.report.verdict import Verdict, comparable, format_reported, judge_record, judge_run

__all__ = ["JudgedClaim", "is_official", "judge_effects", "judge_epochs", "judge_results"]

METRICS = {
    "train_accuracy": "train accuracy",
    "val_accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "steps": "number of steps",
}
SIGNS = {"higher": {1}, "lower": {-1}, "not higher": {0, -1}, "same": {0}}  # signs of the difference, by claimed direction


@dataclass(frozen=True)
class JudgedClaim:
    """A claim of a report and our judgement.

    Attributes:
        claim: what the report says.
        judgement: whether our results agree, and if not, why.
        holds: whether they agree; `None` if that cannot be decided.
    """

    claim: str
    judgement: str
    holds: bool | None


def judge_effects(base: Record, changed: Record, others: Sequence[Record], keys: Sequence[str]) -> JudgedClaim | None:
    """Judge what a report claims about a change; return `None` without a claim, or on embedded data.

    Args:
        base: the experiment without the change.
        changed: the experiment with it.
        others: experiments with other changes, which `highest` refers to.
        keys: dotted keys of the settings that the changes affect.
    """
    effects = EFFECTS.get(changed.name)
    if not effects or not is_official(changed):
        return None
    judged = [_judge_effect(effect, base, changed, others, keys) for effect in effects]
    reasons = dict.fromkeys(reason for holds, reason in judged if not holds)
    quote = changed.spec.reported.quote
    claim = f"“{quote}”" if quote else _format_results({record.name: record for record in (base, changed)})
    return _judged(claim, [holds for holds, _ in judged], "; ".join(reasons))


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
    """Judge whether a change has a larger effect than every other change."""
    if not others:
        return None, "no other change was run"
    differences = {other.name: difference(other, changed, metric, *keys) for other in others}
    if None in differences.values():
        return None, "one run each"
    better = [name for name, measured in differences.items() if measured and measured.sign < 0]
    if better:
        return False, f"the {METRICS[metric]} of {', '.join(better)} is higher"
    equal = [name for name, measured in differences.items() if measured and measured.sign == 0]
    return (None, f"no difference from {', '.join(equal)} was measured") if equal else (True, "")


def judge_results(records: Mapping[str, Record]) -> tuple[JudgedClaim, ...]:
    """Judge the test accuracies that a report gives as numbers for the experiments that it compares.

    Args:
        records: experiments, by a label that distinguishes them.
    """
    numbers = {label: record for label, record in records.items() if record.spec.reported.test is not None}
    if not numbers or not all(is_official(record) for record in records.values()):
        return ()
    return (_judge_all(_format_results(numbers), {label: judge_record(record) for label, record in numbers.items()}),)


def is_official(record: Record) -> bool:
    """Return whether an experiment was run on official data, with the settings of the reports."""
    return bool(record.card["source"] == "official")


def _format_results(records: Mapping[str, Record]) -> str:
    parts = [f"{format_reported(comparable(record))} with {label}" for label, record in records.items()]
    return f"test accuracy {' and '.join(parts)}"


def judge_epochs(reported: Mapping[str, tuple[float, Sequence[float | None]]]) -> JudgedClaim:
    """Judge the numbers of epochs that a report gives for several experiments.

    Args:
        reported: the rounded number in the report and ours of each seed, by a label that distinguishes the experiments. The
            number of a seed that does not reach the threshold is `None`.
    """
    parts = [f"about {number:g} epochs with {label}" for label, (number, _) in reported.items()]
    verdicts = {label: _judge_number(number, ours) for label, (number, ours) in reported.items()}
    return _judge_all(" and ".join(parts), verdicts)


def _judge_number(number: float, ours: Sequence[float | None]) -> Verdict:
    known = [value for value in ours if value is not None]
    if len(known) < len(ours) > 1:
        return Verdict(None, f"not reached in {len(ours) - len(known)} of {len(ours)} seeds", reproduced=False)
    return judge_run("about", number, known) if known else Verdict(None, "not reached in one run", reproduced=None)


def _judge_all(claim: str, verdicts: Mapping[str, Verdict]) -> JudgedClaim:
    reasons = "; ".join(f"{label}: {verdict.label}" for label, verdict in verdicts.items())
    return _judged(claim, [verdict.reproduced for verdict in verdicts.values()], reasons)


def _judged(claim: str, holds: Sequence[bool | None], reasons: str) -> JudgedClaim:
    """Combine the parts of a claim: it fails if one fails, and holds if all hold."""
    if False in holds:
        return JudgedClaim(claim, f"Our results differ ({reasons}).", holds=False)
    if all(holds):
        return JudgedClaim(claim, f"Our results agree ({reasons})." if reasons else "Our results agree.", holds=True)
    return JudgedClaim(claim, f"Our results cannot confirm it ({reasons}).", holds=None)
