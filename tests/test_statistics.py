"""Mean, standard deviation and intervals over seeds, against numpy, scipy and numbers worked out by hand."""

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from labbook.statistics import summarize_seeds

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
