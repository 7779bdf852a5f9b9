"""Ours beside theirs: how a reproduced test accuracy stands to what a report printed."""

from collections.abc import Mapping
from dataclasses import dataclass

from labbook.params.project import Reported

__all__ = ["TOLERANCE", "Verdict", "judge", "judge_seeds", "print_reported", "tell_reported"]

TOLERANCE = 0.003  # of accuracy: within 0.3 percentage points counts as the same


@dataclass(frozen=True)
class Verdict:
    """How ours stands to theirs.

    Attributes:
        gap: ours minus theirs, where theirs is a figure.
        words: `matched`, `better`, `below`, `reached`, `missed`, or what can be said when theirs is no figure on our data.
        good: whether the reported result was reproduced; `None` when there is nothing to compare.
    """

    gap: float | None
    words: str
    good: bool | None


def judge(reported: Reported, accuracy: float, chance: float) -> Verdict:
    """Compare.

    Args:
        reported: what the report printed.
        accuracy: ours, on the official test set.
        chance: accuracy of the most frequent class, for reports that say "guessing".
    """
    if reported.kind == "guessing":
        near = "hardly better than chance" if accuracy - chance < 0.05 else "better than chance"
        return Verdict(None, f"{near} ({chance:.4f})", None)
    if reported.kind == "other_data":
        return Verdict(None, "reported on other data", None)
    if reported.test_accuracy is None:
        return Verdict(None, "reported in words" if reported.quote else "nothing reported", None)
    gap = round(accuracy - reported.test_accuracy, 6)
    if reported.kind == "over":
        return Verdict(gap, "reached", True) if gap > 0 else Verdict(gap, "missed", False)
    if gap > TOLERANCE:
        return Verdict(gap, "better", True)
    return Verdict(gap, "matched", True) if gap >= -TOLERANCE else Verdict(gap, "below", False)


def judge_seeds(reported: Reported, accuracies: Mapping[str, float]) -> str | None:
    """Say where the reported test accuracy lies among ours of several seeds; `None` when it is no figure on our data.

    Args:
        reported: what the report printed, of one run.
        accuracies: ends of the intervals on the official test set, as `labbook.seeds.summarise` gives them.
    """
    theirs = reported.test_accuracy
    if theirs is None or reported.kind == "other_data":
        return None
    if accuracies["low"] <= theirs <= accuracies["high"]:
        return "inside the interval of the mean"
    side = "above" if theirs > accuracies["high"] else "below"
    if accuracies["run_low"] <= theirs <= accuracies["run_high"]:
        return f"{side} the interval of the mean, inside that of one run"
    return f"{side} both intervals"


def print_reported(reported: Reported) -> str:
    """Print the reported test accuracy as the report did."""
    if reported.test_accuracy is None:
        return f"“{reported.quote}”" if reported.quote else "–"
    words = {"about": "about ", "over": "over ", "almost": "almost "}.get(reported.kind, "")
    return f"{words}{reported.test_accuracy:.4f}".rstrip("0") if words else f"{reported.test_accuracy:.4f}"


def tell_reported(reported: Reported) -> str:
    """Tell everything that a report printed of an experiment."""
    parts = [f"test accuracy {print_reported(reported)}"]
    if reported.last_test_accuracy is not None:
        parts[0] += f" in its best epoch and {reported.last_test_accuracy:.4f} in its last"
    for name in ("val_accuracy", "train_accuracy", "train_loss", "test_loss"):
        value = getattr(reported, name)
        if value is not None:
            parts.append(f"{name.replace('val_', 'validation_').replace('_', ' ')} {value:g}")
    if reported.seconds is not None:
        parts.append(f"{reported.seconds:g} seconds" + (f" on a {reported.seconds_on}" if reported.seconds_on else ""))
    return ", ".join(parts)
