"""Intervals over seeds, differences and tests, against numpy, scipy and numbers worked out by hand."""

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
def test_mean_deviation_and_intervals_are_those_of_students_t(values):
    found = summarize_seeds(values)
    assert found["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert found["deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    if deviation:  # scipy has no interval of width zero
        of_mean = scipy.stats.t.interval(0.95, len(values) - 1, mean, deviation / math.sqrt(len(values)))
        of_run = scipy.stats.t.interval(0.95, len(values) - 1, mean, deviation * math.sqrt(1 + 1 / len(values)))
        assert (found["low"], found["high"]) == pytest.approx(of_mean, abs=1e-6)
        assert (found["run_low"], found["run_high"]) == pytest.approx(of_run, abs=1e-6)


@given(values=VALUES, shift=st.floats(-1, 1))
def test_intervals_lie_around_the_mean_and_move_with_the_values(values, shift):
    found, moved = summarize_seeds(values), summarize_seeds([value + shift for value in values])
    assert found["run_low"] <= found["low"] <= found["mean"] <= found["high"] <= found["run_high"]
    assert moved["deviation"] == pytest.approx(found["deviation"], abs=2e-6)
    assert moved["low"] == pytest.approx(found["low"] + shift, abs=2e-6)


def test_intervals_worked_out_by_hand():
    """Of 0 and 1: mean 1/2, deviation √1/2, and t = tan(0.475 π) with one degree of freedom."""
    t = math.tan(0.475 * math.pi)
    assert summarize_seeds([0, 1]) == {
        "mean": 0.5,
        "deviation": round(math.sqrt(0.5), 6),
        "low": round(0.5 - t / 2, 6),
        "high": round(0.5 + t / 2, 6),
        "run_low": round(0.5 - t * math.sqrt(0.75), 6),
        "run_high": round(0.5 + t * math.sqrt(0.75), 6),
    }


def test_intervals_of_a_table():
    """Of 1 to 5: mean 3, deviation √2.5, and 2.776445 in tables of Student's t for four degrees of freedom."""
    half = 2.776445 * math.sqrt(2.5)
    assert summarize_seeds([1, 2, 3, 4, 5]) == pytest.approx(
        {
            "mean": 3,
            "deviation": 1.581139,
            "low": 3 - half / math.sqrt(5),
            "high": 3 + half / math.sqrt(5),
            "run_low": 3 - half * math.sqrt(1.2),
            "run_high": 3 + half * math.sqrt(1.2),
        },
        abs=3e-6,
    )


def test_values_that_are_all_equal_have_intervals_of_width_zero():
    assert set(summarize_seeds([0.9, 0.9, 0.9]).values()) == {0.9, 0}


def test_the_intervals_cover_what_they_should_in_95_of_100_draws():
    draws = np.random.default_rng(0).normal(0.9, 0.01, (2000, 6))
    found = [(summarize_seeds(list(draw[:5])), draw[5]) for draw in draws]
    of_mean = statistics.fmean(one["low"] <= 0.9 <= one["high"] for one, _ in found)
    of_run = statistics.fmean(one["run_low"] <= further <= one["run_high"] for one, further in found)
    assert (of_mean, of_run) == (pytest.approx(0.95, abs=0.015), pytest.approx(0.95, abs=0.015))


@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_a_paired_difference_is_that_of_scipy(pairs):
    first, second = (list(values) for values in zip(*pairs, strict=True))
    found = paired_difference(first, second)
    differences = np.subtract(second, first)
    assert found.mean == pytest.approx(differences.mean(), abs=1e-6)
    assert found.n == len(pairs)
    if differences.std():
        interval = scipy.stats.ttest_rel(second, first).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=2e-6)


@pytest.mark.filterwarnings("ignore:Precision loss")  # of scipy, where all values of one experiment are equal
@given(first=VALUES, second=VALUES)
def test_an_unpaired_difference_is_that_of_scipy(first, second):
    found = unpaired_difference(first, second)
    assert found.mean == pytest.approx(np.mean(second) - np.mean(first), abs=1e-6)
    assert found.n == min(len(first), len(second))
    if np.std(first) > 1e-6 or np.std(second) > 1e-6:  # scipy loses digits below
        interval = scipy.stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=2e-6)


def test_differences_worked_out_by_hand():
    """Differences of 1 and 3: mean 2, deviation √2, error 1, and t = tan(0.475 π) with one degree of freedom."""
    t = math.tan(0.475 * math.pi)
    assert paired_difference([1, 2], [2, 5]) == Difference(2, round(2 - t, 6), round(2 + t, 6), 2)
    # Variances 1/2 and 9/2, errors 1/4 and 9/4: (10/4)² / (1/16 + 81/16) = 50/41 degrees of freedom.
    half = scipy.stats.t.ppf(0.975, 50 / 41) * math.sqrt(2.5)
    assert unpaired_difference([1, 2], [2, 5]) == Difference(2, round(2 - half, 6), round(2 + half, 6), 2)
    assert unpaired_difference([1, 1], [2, 2, 2]) == Difference(1, 1, 1, 2), "no variance, no width"


@pytest.mark.parametrize(("low", "high", "sign"), [(0.1, 0.2, 1), (-0.2, -0.1, -1), (-0.1, 0.1, 0), (0, 0.1, 0), (-0.1, 0, 0)])
def test_a_difference_has_a_sign_only_where_its_interval_does_not_hold_zero(low, high, sign):
    assert Difference((low + high) / 2, low, high, 5).sign == sign


@given(only_first=st.integers(0, 3000), only_second=st.integers(0, 3000))
def test_mcnemar_is_the_two_sided_binomial_test_of_scipy(only_first, only_second):
    discordant = only_first + only_second
    expected = scipy.stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1
    assert mcnemar_exact(only_first, only_second) == pytest.approx(expected, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1),
        (0, 1, 1),
        (5, 0, 2 / 2**5),
        (1, 9, 2 * (1 + 10) / 2**10),
        (9, 1, 2 * (1 + 10) / 2**10),
        (4, 4, 1),
    ],
)
def test_mcnemar_worked_out_by_hand(only_first, only_second, p):
    assert mcnemar_exact(only_first, only_second) == pytest.approx(p, rel=1e-12)
