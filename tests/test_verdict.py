"""Verdicts: whether a reported test accuracy could be one more run of ours."""

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

FIVE = [0.978, 0.979, 0.98, 0.981, 0.982]  # mean 0.98, deviation √2.5 / 1000
HALF = 2.776445 * math.sqrt(2.5 * 1.2) / 1000  # of the prediction interval; t with four degrees of freedom


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_report_that_is_one_more_run_is_consistent_in_95_of_100_cases(seeds):
    runs = np.random.default_rng(seeds).normal(0.98, 0.002, (2000, seeds + 1))
    words = [judge(Reported(test=reported), list(ours), chance=0.1).words for reported, *ours in runs]
    assert words.count("consistent") / len(words) == pytest.approx(0.95, abs=0.02)
    assert set(words) == {"consistent", "ours is higher", "ours is lower"}
    assert words.count("ours is higher") == pytest.approx(words.count("ours is lower"), rel=0.5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_gap_of_one_deviation_is_consistent_and_one_of_ten_is_not(sign):
    deviation = statistics.stdev(FIVE)
    assert judge(Reported(test=0.98 + sign * deviation), FIVE, 0.1).words == "consistent"
    verdict = judge(Reported(test=0.98 + sign * 10 * deviation), FIVE, 0.1)
    assert (verdict.words, verdict.good) == ("ours is lower" if sign > 0 else "ours is higher", False)
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
def test_the_border_is_the_prediction_interval_of_one_more_run(reported, words):
    verdict = judge(Reported(test=reported), FIVE, 0.1)
    assert (verdict.words, verdict.good) == (words, words == "consistent")
    assert verdict.gap == pytest.approx(0.98 - reported, abs=1e-6)


def test_a_single_run_has_a_gap_and_no_verdict():
    assert judge(Reported(test=0.98), [0.9], 0.1) == Verdict(-0.08, "one run only", None)


def test_seeds_without_variance_are_consistent_with_the_same_number_alone():
    assert judge_run("exact", 0.9, [0.9, 0.9, 0.9]) == Verdict(0, "consistent", good=True)
    assert judge_run("exact", 0.9001, [0.9, 0.9, 0.9]).words == "ours is lower"


@pytest.mark.parametrize(
    ("kind", "value", "least", "greatest"),
    [
        ("exact", 0.987, 0.987, 0.987),
        ("about", 0.44, 0.435, 0.445),
        ("about", 20, 15, 25),
        ("about", 0.5, 0.45, 0.55),
        ("almost", 0.99, 0.98, 0.99),
    ],
)
def test_a_rounded_number_stands_for_all_that_are_rounded_to_it(kind, value, least, greatest):
    assert bounds(kind, value) == (pytest.approx(least), pytest.approx(greatest))
    spread = [least - 0.01, least - 0.01 + 1e-4]  # interval of ±0.0011 around it
    assert judge_run(kind, value, spread).words == "ours is lower"
    assert judge_run(kind, value, [least - 1e-4, least + 1e-4]).words == "consistent"
    assert judge_run(kind, value, [greatest - 1e-4, greatest + 1e-4]).words == "consistent"
    assert judge_run(kind, value, [greatest + 0.01, greatest + 0.01 + 1e-4]).words == "ours is higher"


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
def test_the_mean_has_to_pass_a_lower_bound(accuracies, words):
    verdict = judge(Reported(kind="over", test=0.97), accuracies, 0.1)
    assert (verdict.words, verdict.good) == (words, words == "reached")
    assert verdict.gap == pytest.approx(statistics.fmean(accuracies) - 0.97, abs=1e-6)


def test_guessing_is_answered_with_chance_and_never_with_a_verdict():
    reported = Reported(kind="guessing", quote="fails")
    assert judge(reported, [0.1135], 0.1135) == Verdict(None, "hardly better than chance (0.1135)", None)
    assert judge(reported, [0.10, 0.22], 0.1135).words == "hardly better than chance (0.1135)", "0.16 is the mean"
    assert judge(reported, [0.17], 0.1135).words == "better than chance (0.1135)"


@pytest.mark.parametrize(
    ("reported", "words"),
    [
        (Reported(kind="words", quote="slight gain"), "reported in words"),
        (Reported(kind="other_data", test=0.79), "reported on other data"),
        (Reported(), "nothing reported"),
    ],
)
def test_what_cannot_be_compared_gets_no_verdict(reported, words):
    assert judge(reported, [0.9, 0.91], 0.1) == Verdict(None, words, None)


def test_a_record_is_judged_by_the_test_accuracy_of_every_seed():
    record = make_record("mnist_cnn_adam", [0.5, 0.992], seeds=3)  # 0.992, 0.991, 0.99; reported: 0.9909
    assert judge_record(record) == Verdict(0.0001, "consistent", good=True)
    assert judge_record(make_record("mnist_cnn_adam", [0.992])) == Verdict(0.0011, "one run only", None)
    assert judge_record(make_record("mnist_plain_deep_sgd", [0.12])).words == "hardly better than chance (0.1135)"


def test_the_best_epoch_is_compared_with_the_best_and_the_last_with_the_last():
    record = make_record("mnist_mlp_100", [0.97, 0.98, 0.978], seeds=3, validation=[0.1, 0.3, 0.2])
    best, last = compare_epochs(record)  # reported: 0.9786 and 0.9776
    assert (best.epoch, best.reported, best.accuracies) == ("best epoch by test accuracy", 0.9786, [0.98, 0.979, 0.978])
    assert (last.epoch, last.reported, last.accuracies) == ("last epoch", 0.9776, [0.978, 0.977, 0.976])
    assert (best.mean, best.deviation, best.verdict) == (0.979, 0.001, Verdict(0.0004, "consistent", good=True))
    assert (last.mean, last.verdict) == (0.977, Verdict(-0.0006, "consistent", good=True))
    assert judge_record(record).gap == round(0.969 - 0.9786, 6), "weights selected on validation data beside the best epoch"
    assert compare_epochs(make_record("mnist_mlp_100", [0.97]))[0].deviation is None


def test_epochs_are_not_compared_without_a_test_curve_of_every_seed_or_a_last_epoch_in_the_report():
    record = make_record("mnist_mlp_100", [0.97, 0.98], seeds=2)
    record.histories[1]["test_accuracy"] = float("nan")
    assert compare_epochs(record) == []
    assert compare_epochs(make_record("mnist_cnn_adam", [0.97, 0.98])) == []


def test_the_last_weights_are_judged_by_the_last_epoch_of_the_report():
    last, selected = make_record("mnist_mlp_100", [0.97]), make_record("mnist_mlp_100", [0.97], validation=[0.1])
    assert (comparable(last).test, judge_record(last).gap) == (0.9776, round(0.97 - 0.9776, 6))
    assert (comparable(selected).test, judge_record(selected).gap) == (0.9786, round(0.97 - 0.9786, 6))
    assert comparable(make_record("mnist_cnn_adam", [0.97])).test == 0.9909


@pytest.mark.parametrize(
    ("reported", "printed"),
    [
        (Reported(test=0.987), "0.9870"),
        (Reported(kind="over", test=0.97), "over 0.97"),
        (Reported(kind="almost", test=0.99), "almost 0.99"),
        (Reported(kind="words", quote="fails"), "“fails”"),
        (Reported(kind="about", test=0.44), "about 0.44"),
        (Reported(), "–"),
    ],
)
def test_reported_results_are_printed_as_the_report_did(reported, printed):
    assert format_reported(reported) == printed


def test_everything_reported_is_described():
    reported = Reported(test=0.9, last_test=0.89, train=0.95, val=0.91, train_loss=0.2, test_loss=0.3, seconds_cpu=199)
    assert describe_reported(reported) == (
        "test accuracy 0.9000 in its best epoch and 0.8900 in its last, validation accuracy 0.91, train accuracy 0.95, "
        "train loss 0.2, test loss 0.3, 199 seconds on a CPU"
    )
    assert describe_reported(Reported(test=0.9, seconds_gpu=65.5)) == "test accuracy 0.9000, 65.5 seconds on a GPU"


def test_rows_without_a_result_of_today_have_words_of_their_own():
    assert (NOT_RUN, EARLIER) == ("not yet run", "one run, earlier version")
