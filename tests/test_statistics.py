"""Intervals, differences and McNemar's test, compared with NumPy, SciPy and results computed by hand."""

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from labbook.statistics import Difference, mcnemar_exact, paired_difference, summarize_seeds, unpaired_difference

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=20)


@given(values=VALUES)
def test_summary_matches_numpy_and_scipy(values):
    result = summarize_seeds(values)
    assert result["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert result["deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    if deviation:  # SciPy returns NaN for an interval of width zero
        mean_interval = scipy.stats.t.interval(0.95, len(values) - 1, mean, deviation / math.sqrt(len(values)))
        run_interval = scipy.stats.t.interval(0.95, len(values) - 1, mean, deviation * math.sqrt(1 + 1 / len(values)))
        assert (result["low"], result["high"]) == pytest.approx(mean_interval, abs=1e-6)
        assert (result["run_low"], result["run_high"]) == pytest.approx(run_interval, abs=1e-6)


@given(values=VALUES, shift=st.floats(-1, 1))
def test_intervals_contain_the_mean_and_shift_with_the_values(values, shift):
    result, moved = summarize_seeds(values), summarize_seeds([value + shift for value in values])
    assert result["run_low"] <= result["low"] <= result["mean"] <= result["high"] <= result["run_high"]
    assert moved["deviation"] == pytest.approx(result["deviation"], abs=2e-6)
    assert moved["low"] == pytest.approx(result["low"] + shift, abs=2e-6)


def test_intervals_of_two_values_match_the_closed_form():
    """Values 0 and 1: mean 1/2, standard deviation √(1/2), t = tan(0.475 π) with one degree of freedom."""
    t = math.tan(0.475 * math.pi)
    assert summarize_seeds([0, 1]) == {
        "mean": 0.5,
        "deviation": round(math.sqrt(0.5), 6),
        "low": round(0.5 - t / 2, 6),
        "high": round(0.5 + t / 2, 6),
        "run_low": round(0.5 - t * math.sqrt(0.75), 6),
        "run_high": round(0.5 + t * math.sqrt(0.75), 6),
    }


def test_intervals_match_a_table_of_students_t():
    """Values 1 to 5: mean 3, standard deviation √2.5, t = 2.776445 with four degrees of freedom, from a printed table."""
    margin = 2.776445 * math.sqrt(2.5)
    assert summarize_seeds([1, 2, 3, 4, 5]) == pytest.approx(
        {
            "mean": 3,
            "deviation": 1.581139,
            "low": 3 - margin / math.sqrt(5),
            "high": 3 + margin / math.sqrt(5),
            "run_low": 3 - margin * math.sqrt(1.2),
            "run_high": 3 + margin * math.sqrt(1.2),
        },
        abs=3e-6,
    )


def test_equal_values_have_intervals_of_width_zero():
    assert set(summarize_seeds([0.9, 0.9, 0.9]).values()) == {0.9, 0}


def test_intervals_have_a_coverage_of_95_percent():
    draws = np.random.default_rng(0).normal(0.9, 0.01, (2000, 6))
    results = [(summarize_seeds(list(draw[:5])), draw[5]) for draw in draws]
    mean_coverage = statistics.fmean(summary["low"] <= 0.9 <= summary["high"] for summary, _ in results)
    run_coverage = statistics.fmean(summary["run_low"] <= run <= summary["run_high"] for summary, run in results)
    assert (mean_coverage, run_coverage) == (pytest.approx(0.95, abs=0.015), pytest.approx(0.95, abs=0.015))


@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_paired_difference_matches_scipy(pairs):
    first, second = (list(values) for values in zip(*pairs, strict=True))
    result = paired_difference(first, second)
    differences = np.subtract(second, first)
    assert result.mean == pytest.approx(differences.mean(), abs=1e-6)
    assert result.n == len(pairs)
    if differences.std():
        interval = scipy.stats.ttest_rel(second, first).confidence_interval(0.95)
        assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=2e-6)


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy warns if all values of a sample are equal
@given(first=VALUES, second=VALUES)
def test_unpaired_difference_matches_scipy(first, second):
    result = unpaired_difference(first, second)
    assert result.mean == pytest.approx(np.mean(second) - np.mean(first), abs=1e-6)
    assert result.n == min(len(first), len(second))
    if np.std(first) > 1e-6 or np.std(second) > 1e-6:  # SciPy loses precision below
        interval = scipy.stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
        assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=2e-6)


def test_differences_match_closed_forms():
    """Differences 1 and 3: mean 2, standard deviation √2, standard error 1, t = tan(0.475 π) with one degree of freedom."""
    t = math.tan(0.475 * math.pi)
    assert paired_difference([1, 2], [2, 5]) == Difference(2, round(2 - t, 6), round(2 + t, 6), 2)
    # Variances 1/2 and 9/2, squared standard errors 1/4 and 9/4: (10/4)² / (1/16 + 81/16) = 50/41 degrees of freedom.
    margin = scipy.stats.t.ppf(0.975, 50 / 41) * math.sqrt(2.5)
    assert unpaired_difference([1, 2], [2, 5]) == Difference(2, round(2 - margin, 6), round(2 + margin, 6), 2)
    assert unpaired_difference([1, 1], [2, 2, 2]) == Difference(1, 1, 1, 2), "zero variance gives an interval of width zero"


@pytest.mark.parametrize(("low", "high", "sign"), [(0.1, 0.2, 1), (-0.2, -0.1, -1), (-0.1, 0.1, 0), (0, 0.1, 0), (-0.1, 0, 0)])
def test_sign_is_zero_if_the_interval_contains_zero(low, high, sign):
    assert Difference((low + high) / 2, low, high, 5).sign == sign


@given(only_first=st.integers(0, 3000), only_second=st.integers(0, 3000))
def test_mcnemar_matches_the_binomial_test_of_scipy(only_first, only_second):
    discordant = only_first + only_second
    expected = scipy.stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1
    assert mcnemar_exact(only_first, only_second) == pytest.approx(expected, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [
        (0, 0, 1),
        (0, 1, 1),
        (5, 0, 2 / 2**5),
        (1, 9, 2 * (1 + 10) / 2**10),
        (9, 1, 2 * (1 + 10) / 2**10),
        (4, 4, 1),
    ],
)
def test_mcnemar_matches_closed_forms(only_first, only_second, p_value):
    assert mcnemar_exact(only_first, only_second) == pytest.approx(p_value, rel=1e-12)
