"""Statistics over seeds: mean, standard deviation and intervals."""

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

__all__ = ["summarize_seeds"]

CONFIDENCE = 0.95


def summarize_seeds(values: Sequence[float]) -> dict[str, float]:
    """Compute mean, standard deviation (n - 1) and the bounds of two intervals by Student's t, to six decimals.

    With 95 % confidence, `low` to `high` covers the mean over all seeds, and `run_low` to `run_high` the result of one more
    run, if results are normally distributed: G. J. Hahn, W. Q. Meeker, "Statistical Intervals", 1991, chapter 4.

    Args:
        values: at least two.
    """
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    half_width = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * deviation
    of_mean, of_run = half_width / math.sqrt(len(values)), half_width * math.sqrt(1 + 1 / len(values))
    summary = {"mean": mean, "deviation": deviation, "low": mean - of_mean, "high": mean + of_mean}
    summary |= {"run_low": mean - of_run, "run_high": mean + of_run}
    return {key: round(value, 6) for key, value in summary.items()}
