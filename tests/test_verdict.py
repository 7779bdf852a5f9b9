"""Verdicts: whether a reported test accuracy could be the result of one more run of ours."""

import math
import statistics

import numpy as np
import pytest
from sample_records import make_record

from labbook.config.reported import Reported
from labbook.report.verdict import (
    EARLIER,
    NOT_RUN,
    Verdict,
    bounds,
    comparable,
    compare_epochs,
    describe_reported,
    format_reported,
    judge,
    judge_record,
    judge_run,
)

FIVE = [0.978, 0.979, 0.98, 0.981, 0.982]  # mean 0.98, standard deviation √2.5 / 1000
HALF = (
    2.776445 * math.sqrt(2.5 * 1.2) / 1000
)  # half-width of the prediction interval; 2.776445 is t with four degrees of freedom


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_one_more_run_is_consistent_in_95_percent_of_cases(seeds):
    runs = np.random.default_rng(seeds).normal(0.98, 0.002, (2000, seeds + 1))
    words = [judge(Reported(test=reported), list(ours), chance=0.1).label for reported, *ours in runs]
    assert words.count("consistent") / len(words) == pytest.approx(0.95, abs=0.02)
    assert set(words) == {"consistent", "ours is higher", "ours is lower"}
    assert words.count("ours is higher") == pytest.approx(words.count("ours is lower"), rel=0.5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_gap_of_one_standard_deviation_is_consistent_and_of_ten_is_not(sign):
    deviation = statistics.stdev(FIVE)
    assert judge(Reported(test=0.98 + sign * deviation), FIVE, 0.1).label == "consistent"
    verdict = judge(Reported(test=0.98 + sign * 10 * deviation), FIVE, 0.1)
    assert (verdict.label, verdict.reproduced) == ("ours is lower" if sign > 0 else "ours is higher", False)
    assert verdict.gap == pytest.approx(-sign * 10 * deviation, abs=1e-6)


@pytest.mark.parametrize(
    ("reported", "words"),
    [
        (0.98 + HALF - 2e-6, "consistent"),
        (0.98 + HALF + 2e-6, "ours is lower"),
        (0.98 - HALF + 2e-6, "consistent"),
        (0.98 - HALF - 2e-6, "ours is higher"),
    ],
)
def test_verdict_changes_at_the_ends_of_the_prediction_interval(reported, words):
    verdict = judge(Reported(test=reported), FIVE, 0.1)
    assert (verdict.label, verdict.reproduced) == (words, words == "consistent")
    assert verdict.gap == pytest.approx(0.98 - reported, abs=1e-6)


def test_single_run_has_a_gap_but_no_verdict():
    assert judge(Reported(test=0.98), [0.9], 0.1) == Verdict(-0.08, "one run only", None)


def test_seeds_without_variance_are_consistent_only_with_their_value():
    assert judge_run("exact", 0.9, [0.9, 0.9, 0.9]) == Verdict(0, "consistent", reproduced=True)
    assert judge_run("exact", 0.9001, [0.9, 0.9, 0.9]).label == "ours is lower"


@pytest.mark.parametrize(
    ("kind", "value", "smallest", "largest"),
    [
        ("exact", 0.987, 0.987, 0.987),
        ("about", 0.44, 0.435, 0.445),
        ("about", 20, 15, 25),
        ("about", 0.5, 0.45, 0.55),
        ("almost", 0.99, 0.98, 0.99),
    ],
)
def test_rounded_number_is_treated_as_a_range(kind, value, smallest, largest):
    assert bounds(kind, value) == (pytest.approx(smallest), pytest.approx(largest))
    spread = [smallest - 0.01, smallest - 0.01 + 1e-4]  # prediction interval of about ±0.0011
    assert judge_run(kind, value, spread).label == "ours is lower"
    assert judge_run(kind, value, [smallest - 1e-4, smallest + 1e-4]).label == "consistent"
    assert judge_run(kind, value, [largest - 1e-4, largest + 1e-4]).label == "consistent"
    assert judge_run(kind, value, [largest + 0.01, largest + 0.01 + 1e-4]).label == "ours is higher"


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        ([0.9701], "reached"),
        ([0.97], "missed"),
        ([0.95], "missed"),
        ([0.96, 0.979, 0.98], "reached"),
        ([0.96, 0.969, 0.98], "missed"),
    ],
)
def test_lower_bound_is_compared_with_the_mean(accuracies, words):
    verdict = judge(Reported(kind="over", test=0.97), accuracies, 0.1)
    assert (verdict.label, verdict.reproduced) == (words, words == "reached")
    assert verdict.gap == pytest.approx(statistics.fmean(accuracies) - 0.97, abs=1e-6)


def test_reported_guessing_is_compared_with_chance():
    reported = Reported(kind="guessing", quote="fails")
    assert judge(reported, [0.1135], 0.1135) == Verdict(None, "hardly better than chance (0.1135)", None)
    assert judge(reported, [0.10, 0.22], 0.1135).label == "hardly better than chance (0.1135)", "the mean is 0.16"
    assert judge(reported, [0.17], 0.1135).label == "better than chance (0.1135)"


@pytest.mark.parametrize(
    ("reported", "words"),
    [
        (Reported(kind="words", quote="slight gain"), "reported in words"),
        (Reported(kind="other_data", test=0.79), "reported on other data"),
        (Reported(), "nothing reported"),
    ],
)
def test_results_without_a_comparable_number_have_no_verdict(reported, words):
    assert judge(reported, [0.9, 0.91], 0.1) == Verdict(None, words, None)


def test_record_is_judged_by_the_test_accuracy_of_every_seed():
    record = make_record("mnist_cnn_adam", [0.5, 0.992], seeds=3)  # 0.992, 0.991, 0.99; reported: 0.9909
    assert judge_record(record) == Verdict(0.0001, "consistent", reproduced=True)
    assert judge_record(make_record("mnist_cnn_adam", [0.992])) == Verdict(0.0011, "one run only", None)
    assert judge_record(make_record("mnist_plain_deep_sgd", [0.12])).label == "hardly better than chance (0.1135)"


def test_best_and_last_epochs_are_compared_with_best_and_last():
    record = make_record("mnist_mlp_100", [0.97, 0.98, 0.978], seeds=3, validation=[0.1, 0.3, 0.2])
    best, last = compare_epochs(record)  # reported: 0.9786 and 0.9776
    assert (best.epoch, best.reported, best.accuracies) == ("best epoch by test accuracy", 0.9786, [0.98, 0.979, 0.978])
    assert (last.epoch, last.reported, last.accuracies) == ("last epoch", 0.9776, [0.978, 0.977, 0.976])
    assert (best.mean, best.deviation, best.verdict) == (0.979, 0.001, Verdict(0.0004, "consistent", reproduced=True))
    assert (last.mean, last.verdict) == (0.977, Verdict(-0.0006, "consistent", reproduced=True))
    assert judge_record(record).gap == round(0.969 - 0.9786, 6), "weights selected on validation data beside the best epoch"
    assert compare_epochs(make_record("mnist_mlp_100", [0.97]))[0].deviation is None


def test_epochs_are_not_compared_without_test_curves_or_a_reported_last_epoch():
    record = make_record("mnist_mlp_100", [0.97, 0.98], seeds=2)
    record.histories[1]["test_accuracy"] = float("nan")
    assert compare_epochs(record) == []
    assert compare_epochs(make_record("mnist_cnn_adam", [0.97, 0.98])) == []


def test_weights_after_the_last_step_are_compared_with_the_reported_last_epoch():
    last, selected = make_record("mnist_mlp_100", [0.97]), make_record("mnist_mlp_100", [0.97], validation=[0.1])
    assert (comparable(last).test, judge_record(last).gap) == (0.9776, round(0.97 - 0.9776, 6))
    assert (comparable(selected).test, judge_record(selected).gap) == (0.9786, round(0.97 - 0.9786, 6))
    assert comparable(make_record("mnist_cnn_adam", [0.97])).test == 0.9909


@pytest.mark.parametrize(
    ("reported", "text"),
    [
        (Reported(test=0.987), "0.9870"),
        (Reported(kind="over", test=0.97), "over 0.97"),
        (Reported(kind="almost", test=0.99), "almost 0.99"),
        (Reported(kind="words", quote="fails"), "“fails”"),
        (Reported(kind="about", test=0.44), "about 0.44"),
        (Reported(kind="almost", test=0.9876), "almost 0.9876"),
        (Reported(), "–"),
    ],
)
def test_format_reported_keeps_the_precision_of_the_report(reported, text):
    assert format_reported(reported) == text


def test_describe_reported_includes_all_results():
    reported = Reported(test=0.9, last_test=0.89, train=0.95, val=0.91, train_loss=0.2, test_loss=0.3, seconds_cpu=199)
    assert describe_reported(reported) == (
        "test accuracy 0.9000 in its best epoch and 0.8900 in its last, validation accuracy 0.91, train accuracy 0.95, "
        "train loss 0.2, test loss 0.3, 199 seconds on a CPU"
    )
    assert describe_reported(Reported(test=0.9, seconds_gpu=65.5)) == "test accuracy 0.9000, 65.5 seconds on a GPU"


def test_labels_of_rows_without_a_current_result():
    assert (NOT_RUN, EARLIER) == ("not yet run", "one run, earlier version")
