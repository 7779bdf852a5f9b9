"""Statistics over seeds: mean, standard deviation, intervals and differences, and McNemar's test of two classifiers."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import bdtr, stdtrit

__all__ = ["Difference", "mcnemar_exact", "paired_difference", "summarize_seeds", "unpaired_difference"]

CONFIDENCE = 0.95
DIGITS = 6  # decimals of a result


@dataclass(frozen=True)
class Difference:
    """The second mean minus the first one, with its 95 % confidence interval.

    Attributes:
        mean: the difference.
        low: lower bound of the interval.
        high: upper bound.
        n: number of pairs; for unpaired values, the size of the smaller sample.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """Return 1 if the interval is above zero, -1 if it is below, and 0 if it contains zero."""
        return (self.low > 0) - (self.high < 0)


def summarize_seeds(values: Sequence[float]) -> dict[str, float]:
    """Compute mean, standard deviation (n - 1) and the bounds of two Student's t intervals, to six decimals.

    `low` and `high` bound the 95 % confidence interval of the mean over all seeds, `run_low` and `run_high` the 95 % prediction
    interval of one more run. Results are assumed to be normally distributed: G. J. Hahn, W. Q. Meeker, "Statistical
    Intervals", 1991, chapter 4.

    Args:
        values: one result per seed, at least two.
    """
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    half_width = _quantile(len(values) - 1) * deviation
    of_mean, of_run = half_width / math.sqrt(len(values)), half_width * math.sqrt(1 + 1 / len(values))
    summary = {"mean": mean, "deviation": deviation, "low": mean - of_mean, "high": mean + of_mean}
    summary |= {"run_low": mean - of_run, "run_high": mean + of_run}
    return {key: round(value, DIGITS) for key, value in summary.items()}


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compute second - first with Student's t interval of the mean of the differences.

    Args:
        first: at least two values.
        second: the same number of values, in the same order of seeds.
    """
    differences = [after - before for before, after in zip(first, second, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return _difference(statistics.fmean(differences), error, len(differences) - 1, len(differences))


def unpaired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compute mean(second) - mean(first) with Welch's interval, which allows for different variances.

    B. L. Welch, "The generalization of Student's problem when several different population variances are involved", 1947.

    Args:
        first: at least two values.
        second: at least two values.
    """
    one, two = (statistics.variance(values) / len(values) for values in (first, second))
    spread = one**2 / (len(first) - 1) + two**2 / (len(second) - 1)
    freedom = (one + two) ** 2 / spread if spread else len(first) + len(second) - 2
    mean = statistics.fmean(second) - statistics.fmean(first)
    return _difference(mean, math.sqrt(one + two), freedom, min(len(first), len(second)))


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test of the hypothesis that two classifiers are equally accurate.

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947. The
    exact test uses the binomial distribution.

    Args:
        only_first: samples that only the first one classifies correctly.
        only_second: samples that only the second one classifies correctly.
    """
    fewer, discordant = min(only_first, only_second), only_first + only_second
    return min(1.0, 2 * float(bdtr(fewer, discordant, 0.5)))


def _difference(mean: float, error: float, freedom: float, n: int) -> Difference:
    half_width = _quantile(freedom) * error
    return Difference(round(mean, DIGITS), round(mean - half_width, DIGITS), round(mean + half_width, DIGITS), n)


def _quantile(freedom: float) -> float:
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
