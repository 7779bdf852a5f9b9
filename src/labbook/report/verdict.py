"""Judge whether a reported test accuracy could be the result of one more run of ours."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from labbook.config.reported import Reported
from labbook.report.records import Record
from labbook.statistics import summarize_seeds

__all__ = [
    "EARLIER",
    "NOT_RUN",
    "EpochComparison",
    "Verdict",
    "bounds",
    "comparable",
    "compare_epochs",
    "describe_reported",
    "format_reported",
    "judge",
    "judge_record",
    "judge_run",
]  # fmt: skip

NOT_RUN = "not yet run"
EARLIER = "one run, earlier version"
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
        gap: our mean minus the reported accuracy, if that is a number.
        label: `consistent`, `ours is higher`, `ours is lower`, `one run only`, `reached`, `missed`, or why there is no verdict.
        reproduced: whether the reported result was reproduced; `None` if that cannot be judged.
    """

    gap: float | None
    label: str
    reproduced: bool | None


@dataclass(frozen=True)
class EpochComparison:
    """The reported test accuracy of one epoch, and ours of the epoch chosen by the same rule.

    Attributes:
        epoch: the rule that chooses the epoch.
        reported: accuracy in the report.
        accuracies: ours, one per seed.
        verdict: verdict of the comparison.
    """

    epoch: str
    reported: float
    accuracies: list[float]
    verdict: Verdict

    @property
    def mean(self) -> float:
        """Return the mean of our accuracies."""
        return round(statistics.fmean(self.accuracies), 6)

    @property
    def deviation(self) -> float | None:
        """Return the standard deviation (n - 1) of our accuracies; `None` for one seed."""
        return round(statistics.stdev(self.accuracies), 6) if len(self.accuracies) > 1 else None


def judge(reported: Reported, accuracies: Sequence[float], chance: float) -> Verdict:
    """Judge a reported test accuracy by the 95% prediction interval of one more run, or a lower bound by the mean.

    Args:
        reported: the reported result of one run.
        accuracies: ours on the official test set, one per seed.
        chance: accuracy of always predicting the most frequent class, for reports that say "guessing".
    """
    if reported.kind == "guessing":
        label = "hardly better than chance" if statistics.fmean(accuracies) - chance < 0.05 else "better than chance"
        return Verdict(None, f"{label} ({chance:.4f})", None)
    if reported.kind == "other_data":
        return Verdict(None, "reported on other data", None)
    if reported.test is None:
        return Verdict(None, "reported in words" if reported.quote else "nothing reported", None)
    if reported.kind == "over":
        gap = round(statistics.fmean(accuracies) - reported.test, 6)
        return Verdict(gap, "reached", True) if gap > 0 else Verdict(gap, "missed", False)
    return judge_run(reported.kind, reported.test, accuracies)


def judge_run(kind: str, reported: float, ours: Sequence[float]) -> Verdict:
    """Judge whether a reported number could be the result of one more run of ours, by the 95% prediction interval.

    Args:
        kind: precision of the number; see `bounds`.
        reported: the reported number.
        ours: our results, one per seed.
    """
    gap = round(statistics.fmean(ours) - reported, 6)
    if len(ours) < 2:
        return Verdict(gap, "one run only", None)
    interval, (low, high) = summarize_seeds(ours), bounds(kind, reported)
    if high < interval["run_low"]:
        return Verdict(gap, "ours is higher", False)
    return Verdict(gap, "ours is lower", False) if low > interval["run_high"] else Verdict(gap, "consistent", True)


def bounds(kind: str, value: float) -> tuple[float, float]:
    """Return the smallest and the largest number that a rounded number may stand for.

    "About" 0.44 may be 0.435 to 0.445, "about" 20 may be 15 to 25, and "almost" 0.99 may be 0.98 to 0.99.
    """
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    unit = 10.0 ** int(exponent)
    below, above = {"about": (unit / 2, unit / 2), "almost": (unit, 0.0)}.get(kind, (0.0, 0.0))
    return value - below, value + above


def judge_record(record: Record) -> Verdict:
    """Judge the reported test accuracy of an experiment by the test accuracies of the selected weights, one per seed."""
    return judge(comparable(record), record.values("test_accuracy"), record.card["metrics"]["chance_accuracy"])


def comparable(record: Record) -> Reported:
    """Return the reported results with the test accuracy that is comparable with ours.

    If a report prints its best and its last epoch, the last one is comparable with weights after the last step. Weights that we
    select on validation data are compared with its best epoch, although the report chose that epoch by test accuracy.
    """
    reported = record.spec.reported
    if reported.last_test is None or record.settings["select"] != "last":
        return reported
    return reported.model_copy(update={"test": reported.last_test})


def compare_epochs(record: Record) -> list[EpochComparison]:
    """Compare the best and the last epoch of a report with those of our test curves, if both exist."""
    reported = record.spec.reported
    curves = [history["test_accuracy"] for history in record.histories.values()]
    if reported.test is None or reported.last_test is None or any(curve.isna().any() for curve in curves):
        return []
    best, last = [float(curve.max()) for curve in curves], [float(curve.iloc[-1]) for curve in curves]
    return [
        EpochComparison(epoch, accuracy, ours, judge_run("exact", accuracy, ours))
        for epoch, accuracy, ours in (
            ("best epoch by test accuracy", reported.test, best),
            ("last epoch", reported.last_test, last),
        )
    ]


def format_reported(reported: Reported) -> str:
    """Format the reported test accuracy as the report prints it."""
    if reported.test is None:
        return f"“{reported.quote}”" if reported.quote else "–"
    prefix = {"about": "about ", "over": "over ", "almost": "almost "}.get(reported.kind, "")
    return f"{prefix}{reported.test:.4f}".rstrip("0") if prefix else f"{reported.test:.4f}"


def describe_reported(reported: Reported) -> str:
    """Describe all results that a report prints for an experiment."""
    parts = [f"test accuracy {format_reported(reported)}"]
    if reported.last_test is not None:
        parts[0] += f" in its best epoch and {reported.last_test:.4f} in its last"
    values = {name: getattr(reported, name) for name in DETAILS}
    return ", ".join([*parts, *(DETAILS[name].format(value) for name, value in values.items() if value is not None)])
