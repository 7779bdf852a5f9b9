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
    """The difference of two means, the second minus the first, with its 95% confidence interval.

    Attributes:
        mean: the difference.
        low: lower bound of the interval.
        high: upper bound of the interval.
        n: number of pairs, or the size of the smaller sample if the values are not paired.
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
    """Compute the mean, the sample standard deviation and two Student's t intervals, rounded to six decimals.

    `low` and `high` bound the 95% confidence interval of the mean; `run_low` and `run_high` bound the 95% prediction interval
    of one further run. Results are assumed to be normally distributed: G. J. Hahn, W. Q. Meeker, "Statistical
    Intervals", 1991, chapter 4.

    Args:
        values: one result per seed, at least two.
    """
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    margin = _t_quantile(len(values) - 1) * deviation
    mean_margin, run_margin = margin / math.sqrt(len(values)), margin * math.sqrt(1 + 1 / len(values))
    summary = {"mean": mean, "deviation": deviation, "low": mean - mean_margin, "high": mean + mean_margin}
    summary |= {"run_low": mean - run_margin, "run_high": mean + run_margin}
    return {key: round(value, DIGITS) for key, value in summary.items()}


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compute the mean of second - first with Student's t interval.

    Args:
        first: at least two values.
        second: the values of the same seeds, in the same order.
    """
    differences = [after - before for before, after in zip(first, second, strict=True)]
    standard_error = statistics.stdev(differences) / math.sqrt(len(differences))
    return _difference(statistics.fmean(differences), standard_error, len(differences) - 1, len(differences))


def unpaired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compute mean(second) - mean(first) with Welch's interval, which allows for different variances.

    B. L. Welch, "The generalization of Student's problem when several different population variances are involved", 1947.

    Args:
        first: at least two values.
        second: at least two values.
    """
    one, two = (statistics.variance(values) / len(values) for values in (first, second))
    denominator = one**2 / (len(first) - 1) + two**2 / (len(second) - 1)
    degrees_of_freedom = (one + two) ** 2 / denominator if denominator else len(first) + len(second) - 2
    mean = statistics.fmean(second) - statistics.fmean(first)
    return _difference(mean, math.sqrt(one + two), degrees_of_freedom, min(len(first), len(second)))


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test of the hypothesis that two classifiers are equally accurate.

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947. The
    exact test uses the binomial distribution.

    Args:
        only_first: number of samples that only the first classifier classifies correctly.
        only_second: number of samples that only the second classifier classifies correctly.
    """
    smaller, discordant = min(only_first, only_second), only_first + only_second
    return min(1.0, 2 * float(bdtr(smaller, discordant, 0.5)))


def _difference(mean: float, standard_error: float, degrees_of_freedom: float, n: int) -> Difference:
    margin = _t_quantile(degrees_of_freedom) * standard_error
    return Difference(round(mean, DIGITS), round(mean - margin, DIGITS), round(mean + margin, DIGITS), n)


def _t_quantile(degrees_of_freedom: float) -> float:
    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))
