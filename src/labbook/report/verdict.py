"""Compare a reproduced test accuracy with the one that a report printed."""

from collections.abc import Mapping
from dataclasses import dataclass

from labbook.config.project import Reported

__all__ = ["TOLERANCE", "Verdict", "describe_reported", "judge", "judge_seeds", "print_reported"]

TOLERANCE = 0.003  # of accuracy: within 0.3 percentage points counts as the same
DETAILS = {
    "val": "validation accuracy {:g}",
    "train": "train accuracy {:g}",
    "train_loss": "train loss {:g}",
    "test_loss": "test loss {:g}",
    "seconds_cpu": "{:g} seconds on a CPU",
    "seconds_gpu": "{:g} seconds on a GPU",
}


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison.

    Attributes:
        gap: ours minus theirs, where theirs is a number.
        words: `matched`, `better`, `below`, `reached`, `missed`, or why there is no verdict.
        good: whether the reported result was reproduced; `None` when there is nothing to compare.
    """

    gap: float | None
    words: str
    good: bool | None


def judge(reported: Reported, accuracy: float, chance: float) -> Verdict:
    """Compare a test accuracy with the reported one.

    Args:
        reported: what the report printed.
        accuracy: ours, the mean over the seeds, on the official test set.
        chance: accuracy of always predicting the most frequent class, for reports that say "guessing".
    """
    if reported.kind == "guessing":
        near = "hardly better than chance" if accuracy - chance < 0.05 else "better than chance"
        return Verdict(None, f"{near} ({chance:.4f})", None)
    if reported.kind == "other_data":
        return Verdict(None, "reported on other data", None)
    if reported.test is None:
        return Verdict(None, "reported in words" if reported.quote else "nothing reported", None)
    gap = round(accuracy - reported.test, 6)
    if reported.kind == "over":
        return Verdict(gap, "reached", True) if gap > 0 else Verdict(gap, "missed", False)
    if gap > TOLERANCE:
        return Verdict(gap, "better", True)
    return Verdict(gap, "matched", True) if gap >= -TOLERANCE else Verdict(gap, "below", False)


def judge_seeds(reported: Reported, accuracies: Mapping[str, float]) -> str | None:
    """Return where the reported test accuracy lies among ours; `None` when it is not a number on our data.

    Args:
        reported: what the report printed, of one run.
        accuracies: intervals on the official test set, as `labbook.statistics.summarize_seeds` returns them.
    """
    theirs = reported.test
    if theirs is None or reported.kind == "other_data":
        return None
    if accuracies["low"] <= theirs <= accuracies["high"]:
        return "inside the interval of the mean"
    side = "above" if theirs > accuracies["high"] else "below"
    if accuracies["run_low"] <= theirs <= accuracies["run_high"]:
        return f"{side} the interval of the mean, inside that of one run"
    return f"{side} both intervals"


def print_reported(reported: Reported) -> str:
    """Return the reported test accuracy as the report printed it."""
    if reported.test is None:
        return f"“{reported.quote}”" if reported.quote else "–"
    words = {"about": "about ", "over": "over ", "almost": "almost "}.get(reported.kind, "")
    return f"{words}{reported.test:.4f}".rstrip("0") if words else f"{reported.test:.4f}"


def describe_reported(reported: Reported) -> str:
    """Return everything that a report printed of an experiment, in words."""
    parts = [f"test accuracy {print_reported(reported)}"]
    if reported.last_test is not None:
        parts[0] += f" in its best epoch and {reported.last_test:.4f} in its last"
    values = {name: getattr(reported, name) for name in DETAILS}
    return ", ".join([*parts, *(DETAILS[name].format(value) for name, value in values.items() if value is not None)])
