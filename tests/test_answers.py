"""Answers to the questions of the assignments: differences with their intervals, and the claims of the reports."""

import dataclasses
import math

import pytest
from sample_records import make_project, make_record

from labbook.report.answers import Answer, answer
from labbook.report.assignments import EFFECTS, QUESTIONS
from labbook.report.claims import judge_effects, judge_epochs, judge_results
from labbook.report.differences import EPOCHS, STEPS, describe, difference, equal_except, format_interval
from labbook.report.records import Record
from labbook.statistics import Difference

INPUT = ("model", "preprocess", "augment")
BASE, ELU, FLIP = "cifar10_cnn", "cifar10_cnn_plus_elu", "cifar10_cnn_plus_flip"
DROPOUT, DOUBLE = "cifar10_cnn_plus_dropout", "cifar10_cnn_plus_double"


def answers(letter: str, *records: Record) -> list[str]:
    return [item.answer for item in answer(letter, records)]


def make_seeds(name: str, source: str = "official", **metrics: list[float]) -> Record:
    """Make a record with these metrics, one value per seed: `steps`, or accuracies such as `val_accuracy`."""
    seeds = len(next(iter(metrics.values())))
    record = make_record(name, [0.5], source, seeds=seeds, validation=[0.4])
    for metric, values in metrics.items():
        for seed, value in zip(record.seeds, values, strict=True):
            (seed["test"] if metric.startswith("test") else seed)[metric] = value
    return record


def test_difference_is_paired_if_only_the_compared_settings_differ():
    first, second = make_seeds(BASE, val_accuracy=[0.5, 0.6, 0.7]), make_seeds(FLIP, val_accuracy=[0.51, 0.62, 0.73])
    # Differences 0.01, 0.02, 0.03: deviation 0.01, and 4.302653 is t with two degrees of freedom.
    half = 4.302653 * 0.01 / math.sqrt(3)
    result = difference(first, second, "val_accuracy", *INPUT)
    assert (result.mean, result.n) == (0.02, 3)
    assert (result.low, result.high) == pytest.approx((0.02 - half, 0.02 + half), abs=2e-6)
    unpaired = difference(first, second, "val_accuracy", "model")
    assert unpaired.mean == 0.02
    assert unpaired.high - unpaired.low > 0.4, "deviations of 0.1, which pairing cancels"
    second.settings["epochs"] = 3
    assert difference(first, second, "val_accuracy", *INPUT) == unpaired
    assert not equal_except(first, second, *INPUT)


def test_seeds_are_paired_only_if_they_are_the_same_in_the_same_order():
    first, second = make_seeds(BASE, val_accuracy=[0.5, 0.7]), make_seeds(FLIP, val_accuracy=[0.6, 0.8])
    assert difference(first, second, "val_accuracy", *INPUT).low == 0.1
    for seeds in ([0, 2], [1, 0]):
        other = dataclasses.replace(second, histories=dict(zip(seeds, second.histories.values(), strict=True)))
        assert not equal_except(first, other, *INPUT)
        assert difference(first, other, "val_accuracy", *INPUT).low < 0


def test_difference_is_none_for_single_runs_and_missing_metrics():
    one, more = make_seeds(BASE, val_accuracy=[0.5]), make_seeds(FLIP, val_accuracy=[0.5, 0.6])
    assert difference(one, one, "val_accuracy") is None
    assert difference(one, more, "val_accuracy", *INPUT) is None
    assert difference(more, more, "test_miou") is None


@pytest.mark.parametrize(
    ("result", "unit", "sentence"),
    [
        (
            Difference(0.0123, 0.01, 0.0146, 5),
            None,
            "The difference is +1.23 percentage points (95% interval +1.00 to +1.46).",
        ),
        (Difference(-0.02, -0.03, -0.01, 5), None, "The difference is -2.00 percentage points (95% interval -3.00 to -1.00)."),
        (
            Difference(0.001, -0.002, 0.004, 5),
            None,
            "No difference was measured: +0.10 percentage points (95% interval -0.20 to +0.40).",
        ),
        (Difference(-3.25, -5, -1.5, 5), EPOCHS, "The difference is -3.2 epochs (95% interval -5.0 to -1.5)."),
        (Difference(1053, 702, 1404, 5), STEPS, "The difference is +1053 steps (95% interval +702 to +1404)."),
        (None, None, "With one run each, a difference cannot be distinguished from seed-to-seed variance."),
    ],
)
def test_describe_difference(result, unit, sentence):
    assert describe(result, *([unit] if unit else [])) == sentence


def test_described_difference_names_its_subject_and_has_no_negative_zero():
    assert describe(Difference(0.1, 0.1, 0.1, 2), of="in test accuracy").startswith("The difference in test accuracy is +10.00")
    assert (
        describe(None, of="in size")
        == "With one run each, a difference in size cannot be distinguished from seed-to-seed variance."
    )
    assert format_interval(Difference(-1e-6, -1e-6, 0, 2)) == "+0.00 percentage points (95% interval +0.00 to +0.00)"


def test_answers_on_embedded_data_contain_measurements_but_no_judged_claims():
    swap, tanh, adam = answer(
        "B",
        [
            make_record("mnist_cnn_small", [0.87, 0.901, 0.925], "embedded"),
            make_record("mnist_cnn_pool_first", [0.87, 0.901, 0.925], "embedded"),
            make_record("mnist_cnn_pool_first_tanh", [0.8, 0.85, 0.87], "embedded"),
            make_record("mnist_cnn_adam", [0.902, 0.925, 0.95], "embedded"),
        ],
    )
    assert swap.answer == (
        "No: both orders compute the same function. Test accuracy is 0.9250 with ReLU first and 0.9250 with the pool first. "
        "Their curves are identical in every seed."
    )
    assert tanh.question == "How many epochs do ReLU and tanh need to reach 90% on the test set?"
    assert tanh.answer == (
        "ReLU needs 2 epochs, tanh does not reach it in 3 epochs. Not every seed reaches it, so no interval is given."
    )
    assert adam.answer == (
        "To reach 90% test accuracy, SGD needs 2 epochs and Adam needs 1 epoch. With one run each, a difference cannot "
        "be distinguished from seed-to-seed variance. Their final test accuracies are 0.9250 and 0.9500. With one run each, a "
        "difference in test accuracy cannot be distinguished from seed-to-seed variance."
    )
    assert (swap.claims, tanh.claims, adam.claims) == ((), (), ())


def test_answers_with_several_seeds_contain_intervals():
    sgd = make_record("mnist_cnn_small", [0.97, 0.9805, 0.985], seeds=3)  # reaches 0.98 in epochs 2, 3, 3
    adam = make_record("mnist_cnn_adam", [0.9825, 0.985, 0.991], seeds=3)  # in epoch 1 each
    (result,) = answer("B", [sgd, adam])
    # Epochs: -1, -2, -2; accuracies: 0.006 each.
    half = 4.302653 * math.sqrt(1 / 3) / math.sqrt(3)
    assert result.answer == (
        "To reach 98% test accuracy, SGD needs 2 to 3 epochs and Adam needs 1 epoch. The difference is -1.7 epochs "
        f"(95% interval {-5 / 3 - half:+.1f} to {-5 / 3 + half:+.1f}). Their final test accuracies are 0.9840 ± 0.0010 and "
        "0.9900 ± 0.0010. The difference in test accuracy is +0.60 percentage points (95% interval +0.60 to +0.60)."
    )
    (claim,) = result.claims
    assert claim.claim == "test accuracy over 0.98 with SGD and 0.9909 with Adam"
    assert (claim.judgement, claim.holds) == ("Our results agree (SGD: reached; Adam: consistent).", True)


def test_epochs_are_paired_by_seed_if_only_the_optimizer_differs():
    sgd = make_record("mnist_cnn_small", [0.97, 0.9805, 0.985], seeds=3)  # reaches 0.98 in epochs 2, 3, 3
    adam = make_record("mnist_cnn_adam", [0.9805, 0.985, 0.991], seeds=3)  # in epochs 1, 2, 2
    assert "The difference is -1.0 epochs (95% interval -1.0 to -1.0)." in answers("B", sgd, adam)[0]
    adam.settings["batch_size"] = 7
    half = 2.776445 * math.sqrt(2 * (1 / 3) / 3)  # t with four degrees of freedom, and a variance of 1/3 on both sides
    interval = f"95% interval {-1 - half:+.1f} to {-1 + half:+.1f}"
    assert f"No difference was measured: -1.0 epochs ({interval})." in answers("B", sgd, adam)[0]


def test_seeds_below_the_threshold_are_counted_and_prevent_an_interval():
    sgd, adam = (make_record(name, [0.97, 0.981], seeds=3) for name in ("mnist_cnn_small", "mnist_cnn_adam"))
    (text,) = answers("B", sgd, adam)
    assert "SGD needs 2 epochs in 2 of 3 seeds and Adam needs 2 epochs in 2 of 3 seeds. Not every seed reaches it" in text


def test_claims_that_results_contradict_or_cannot_confirm():
    low = make_record("mnist_cnn_adam", [0.985], seeds=3)
    (result,) = answer("B", [make_record("mnist_cnn_small", [0.985], seeds=3), low])
    assert result.claims[0].judgement == "Our results differ (SGD: reached; Adam: ours is lower)."
    assert result.claims[0].holds is False
    single = make_record("mnist_cnn_small", [0.985]), make_record("mnist_cnn_adam", [0.985])
    (claim,) = answer("B", single)[0].claims
    assert (claim.judgement, claim.holds) == ("Our results cannot confirm it (SGD: reached; Adam: one run only).", None)


@pytest.mark.parametrize(
    ("ours", "words", "holds"),
    [
        ([24, 25, 26], "Our results agree (ReLU: consistent).", True),
        ([40, 41, 42], "Our results differ (ReLU: ours is higher).", False),
        ([10, 10, 10], "Our results differ (ReLU: ours is lower).", False),
        ([20, None, 20], "Our results differ (ReLU: not reached in 1 of 3 seeds).", False),
        ([40], "Our results cannot confirm it (ReLU: one run only).", None),
        ([None], "Our results cannot confirm it (ReLU: not reached in one run).", None),
    ],
)
def test_reported_epochs_are_judged_as_rounded_numbers(ours, words, holds):
    judged = judge_epochs({"ReLU": (20, ours)})
    assert (judged.claim, judged.judgement, judged.holds) == ("about 20 epochs with ReLU", words, holds)


def test_relu_and_tanh_are_compared_with_the_reported_epochs():
    relu, tanh = (make_record(name, [0.97, 0.99], seeds=2) for name in ("mnist_cnn_pool_first", "mnist_cnn_pool_first_tanh"))
    (result,) = answer("B", [relu, tanh])
    assert result.answer == (
        "ReLU needs 2 epochs, tanh needs 2 epochs. No difference was measured: +0.0 epochs (95% interval +0.0 to +0.0)."
    )
    epochs, accuracy = result.claims
    assert epochs.claim == "about 20 epochs with ReLU and about 50 epochs with tanh"
    assert epochs.judgement == "Our results differ (ReLU: ours is lower; tanh: ours is lower)."
    assert accuracy.claim == "test accuracy 0.9874 with ReLU and 0.9870 with tanh"


def test_pytorch_and_numpy_are_compared_in_all_seeds():
    pytorch, numpy = (make_record(name, [0.9, 0.972], seeds=2) for name in ("mnist_mlp_2x50", "mnist_mlp_2x50_numpy"))
    numpy.histories[1]["train_loss"] += [0, 2e-3]
    (result,) = answer("B", [pytorch, numpy])
    assert result.timed == ("mnist_mlp_2x50", "mnist_mlp_2x50_numpy")
    assert result.answer == (
        "Test accuracy is 0.9715 ± 0.0007 in PyTorch and 0.9715 ± 0.0007 in NumPy. No difference was measured: +0.00 "
        "percentage points (95% interval +0.00 to +0.00). From the same initial weights and with the same order of images, "
        "their train losses differ by at most 1.0e-06 after the first epoch and 2.0e-03 after the last."
    )
    more = make_record("mnist_mlp_2x50_numpy", [0.9, 0.971], seeds=3)
    assert answers("B", pytorch, more)[0].endswith("The two also differ in other settings.")


def test_pool_and_relu_curves_are_compared_in_every_seed():
    first, second = (make_record(name, [0.98], seeds=2) for name in ("mnist_cnn_small", "mnist_cnn_pool_first"))
    second.histories[1]["test_loss"] += 0.01
    assert "but their curves differ by up to 0.01." in answers("B", first, second)[0]
    second.settings["model"]["channels"] = [1]
    assert answers("B", first, second)[0].endswith("The two also differ in other settings.")


def test_two_networks_are_compared_with_the_claim_of_the_report():
    wide, deep = (
        make_seeds(name, test_accuracy=values)
        for name, values in (("cifar10_wide", [0.86, 0.87, 0.88]), ("cifar10_deep_residual", [0.83, 0.841, 0.849]))
    )
    (result,) = answer("C", [wide, deep])
    assert result.question == "Is the wide or the deep network more accurate on CIFAR-10?"
    assert result.answer.startswith(
        "Test accuracy is 0.8700 ± 0.0100 with cifar10_wide and 0.8400 ± 0.0095 with cifar10_deep_resid"
    )
    assert "The difference is -3.00 percentage points (95% interval" in result.answer
    (claim,) = result.claims
    assert claim.claim == "test accuracy 0.8670 with cifar10_wide and 0.8386 with cifar10_deep_residual"
    assert (claim.judgement, claim.holds) == ("Our results agree.", True)
    (reversed_claim,) = answer("C", [make_seeds("cifar10_wide", test_accuracy=[0.8, 0.81, 0.82]), deep])[0].claims
    assert (reversed_claim.judgement, reversed_claim.holds) == ("Our results differ (the test accuracy is higher).", False)
    single = make_seeds("scenes_unet", test_accuracy=[0.9]), make_seeds("scenes_unet_sgd", test_accuracy=[0.8])
    (unet,) = answer("E", single)
    assert unet.answer.endswith("With one run each, a difference cannot be distinguished from seed-to-seed variance.")
    assert unet.claims[0].claim == "“was worse”"
    assert unet.claims[0].judgement == "Our results cannot confirm it (one run each)."


def effects(changed: Record, *others: Record, base: tuple[float, ...] = (0.5, 0.51, 0.52)) -> tuple[str, bool | None]:
    unchanged = make_seeds(
        BASE,
        val_accuracy=[*base],
        test_accuracy=[*base],
        train_accuracy=[*base],
        steps=[3510 + 351 * seed for seed in range(3)],
    )
    judged = judge_effects(unchanged, changed, others, INPUT)
    return judged.judgement, judged.holds


@pytest.mark.parametrize(
    ("name", "values", "words", "holds"),
    [
        (DROPOUT, [0.51, 0.521, 0.529], "Our results agree.", True),
        (
            DROPOUT,
            [0.5, 0.52, 0.51],
            "Our results cannot confirm it (no difference in validation accuracy was measured).",
            None,
        ),
        (DROPOUT, [0.49, 0.501, 0.509], "Our results differ (the validation accuracy is lower).", False),
        (DOUBLE, [0.49, 0.501, 0.509], "Our results agree.", True),
        (DOUBLE, [0.5, 0.52, 0.51], "Our results agree.", True),
        (DOUBLE, [0.51, 0.521, 0.529], "Our results differ (the validation accuracy is higher).", False),
    ],
)
def test_claimed_gain_is_judged_by_its_interval(name, values, words, holds):
    assert effects(make_seeds(name, val_accuracy=values)) == (words, holds)


def test_claim_with_several_parts_holds_if_all_parts_hold():
    up, down, same = [0.51, 0.521, 0.529], [0.49, 0.501, 0.509], [0.5, 0.52, 0.51]
    assert effects(make_seeds(ELU, train_accuracy=up, val_accuracy=down, test_accuracy=down)) == ("Our results agree.", True)
    assert effects(make_seeds(ELU, train_accuracy=up, val_accuracy=up, test_accuracy=same)) == (
        "Our results differ (the validation accuracy is higher; no difference in test accuracy was measured).",
        False,
    )
    assert effects(make_seeds(ELU, train_accuracy=same, val_accuracy=down, test_accuracy=down)) == (
        "Our results cannot confirm it (no difference in train accuracy was measured).",
        None,
    )


def test_highest_effect_is_compared_with_every_other_change():
    flip = make_seeds(FLIP, val_accuracy=[0.60, 0.611, 0.619], steps=[4212, 4563, 4915])
    little = make_seeds(DROPOUT, val_accuracy=[0.55, 0.56, 0.57])
    equal = make_seeds(DOUBLE, val_accuracy=[0.60, 0.62, 0.61])
    more = make_seeds(ELU, val_accuracy=[0.65, 0.66, 0.67])
    assert effects(flip, little) == ("Our results agree.", True)
    assert effects(flip) == ("Our results cannot confirm it (no other change was run).", None)
    assert effects(flip, little, equal) == (
        "Our results cannot confirm it (no difference from cifar10_cnn_plus_double was measured).",
        None,
    )
    assert effects(flip, little, equal, more) == (
        "Our results differ (the validation accuracy of cifar10_cnn_plus_elu is higher).",
        False,
    )
    fewer_steps = make_seeds(FLIP, val_accuracy=[0.60, 0.611, 0.619], steps=[2106, 2457, 2809])
    assert effects(fewer_steps, little) == ("Our results differ (the number of steps is lower).", False)


def test_claims_are_judged_only_on_official_data_and_only_if_the_report_makes_one():
    base = make_seeds(BASE, "embedded", val_accuracy=[0.5, 0.51])
    assert judge_effects(base, make_seeds(DROPOUT, "embedded", val_accuracy=[0.5, 0.51]), (), INPUT) is None
    assert (
        judge_effects(make_seeds(DROPOUT, val_accuracy=[0.5, 0.51]), make_seeds(BASE, val_accuracy=[0.5, 0.51]), (), INPUT)
        is None
    )


def test_reported_accuracies_are_judged_only_if_all_results_are_official():
    first, second = (make_record(name, [0.98]) for name in ("mnist_cnn_small", "mnist_cnn_adam"))
    (claim,) = judge_results({"SGD": first, "Adam": second})
    assert claim.claim == "test accuracy over 0.98 with SGD and 0.9909 with Adam"
    assert judge_results({"SGD": first, "Adam": make_record("mnist_cnn_adam", [0.98], "embedded")}) == ()
    assert judge_results({"SGD": make_record("mnist_cnn_small", [0.98], "embedded"), "Adam": second}) == ()


def test_single_changes_are_sorted_by_gain_and_have_intervals():
    base = make_seeds(BASE, val_accuracy=[0.57, 0.57, 0.57])
    elu = make_seeds(ELU, val_accuracy=[0.47, 0.47, 0.47])
    flip = make_seeds(FLIP, val_accuracy=[0.67, 0.67, 0.67])
    dropout = make_seeds(DROPOUT, val_accuracy=[0.56, 0.58, 0.60])
    (result,) = answer("D", [base, elu, flip, dropout])
    assert result.answer == (
        f"Changes with a measured gain: {FLIP}. Differences in validation accuracy are relative to "
        "cifar10_cnn, whose validation accuracy is 0.5700 ± 0.0000."
    )
    half = 100 * 4.302653 * 0.02 / math.sqrt(3)
    assert [(change.name, change.interval, change.verdict) for change in result.changes] == [
        (FLIP, "+10.00 percentage points (95% interval +10.00 to +10.00)", "above zero"),
        (
            DROPOUT,
            f"+1.00 percentage points (95% interval {1 - half:+.2f} to {1 + half:+.2f})",
            "no difference measured",
        ),
        (ELU, "-10.00 percentage points (95% interval -10.00 to -10.00)", "below zero"),
    ]
    assert [change.claim.claim for change in result.changes] == [
        "“helped most; more steps until stopping”",
        "“slight gain”",
        "“better on train, worse on val and test”",
    ]
    assert answers("D", elu, flip) == []
    assert answers("D", base) == []


def test_experiments_that_differ_in_other_settings_are_not_single_changes():
    base, flip, elu = (make_seeds(name, val_accuracy=[0.5, 0.5]) for name in (BASE, FLIP, ELU))
    flip.settings["epochs"] = 3
    (result,) = answer("D", [base, flip, elu])
    assert [change.name for change in result.changes] == [ELU]
    assert result.answer.startswith("No change has a measured gain.")
    assert result.answer.endswith(f"Not compared, because other settings differ as well: {FLIP}.")


def test_single_changes_with_one_run_each_have_no_measured_gain():
    result: Answer
    (result,) = answer("D", [make_seeds(name, "embedded", val_accuracy=[value]) for name, value in ((BASE, 0.5), (ELU, 0.52))])
    assert result.answer.startswith("With one run each, a gain cannot be distinguished from seed-to-seed variance.")
    (change,) = result.changes
    assert (change.interval, change.verdict, change.claim) == ("+2.00 percentage points", "one run each", None)


def test_every_single_change_has_a_claim_with_effects():
    (changes,) = (question.experiments for question in QUESTIONS["D"] if question.kind == "single_changes")
    experiments = make_project().experiments
    assert set(changes[1:]) <= set(EFFECTS) <= set(experiments)
    assert all(experiments[name].reported.quote for name in changes[1:])
    compared = {question.experiments[1] for asked in QUESTIONS.values() for question in asked if question.kind == "accuracies"}
    assert set(EFFECTS) == compared | set(changes[1:])


@pytest.mark.parametrize(
    ("accuracies", "validation", "words"),
    [
        (
            [0.5, 0.7, 0.9],
            [0.6, 0.4, 0.5],
            "falls in 1 of 1 seeds. In seed 0, validation and train loss are 0.400 and 0.250 with",
        ),
        (
            [0.5, 0.7, 0.9],
            [0.6, 0.4, 0.3],
            "in 0 of 1 seeds. In seed 0, validation and train loss are 0.300 and 0.050 with the",
        ),
        (
            [0.5, 0.7, 0.9],
            [0.6, 0.3, 0.3],
            "in 0 of 1 seeds. In seed 0, validation and train loss are 0.300 and 0.250 with the",
        ),
        ([0.5, 0.9, 0.7], [0.6, 0.3, 0.5], "0.300 and 0.050 with the selected weights, and 0.500 and 0.250 at the end."),
    ],
)
def test_overfitting_is_a_rising_validation_loss_and_a_falling_train_loss(accuracies, validation, words):
    (text,) = answers("D", make_record("cifar10_cnn_best", accuracies, validation=validation))
    assert words in text


def test_overfitting_is_counted_over_the_seeds():
    record = make_record("cifar10_cnn_best", [0.5, 0.7, 0.9], seeds=3, validation=[0.6, 0.4, 0.5])
    record.histories[1].loc[2, "val_loss"] = 0.39
    assert "the validation loss rises while the train loss falls in 2 of 3 seeds." in answers("D", record)[0]


def test_image_sizes_are_compared_if_two_were_run_and_nothing_else_differs():
    small, large = (make_record(name, [value]) for name, value in (("tiny_wide_32px", 0.3), ("tiny_wide_128px", 0.4)))
    assert answers("C", small) == []
    (result,) = answer("C", [small, large])
    assert "0.3000 at 32×32 and 0.4000 at 128×128. With one run each, a difference cannot be distinguished" in result.answer
    assert [(claim.claim, claim.holds) for claim in result.claims] == [("“asked but not answered”", None)]
    small.settings["epochs"] = 3
    assert answers("C", small, large) == []
    several = [make_record(name, [value], seeds=2) for name, value in (("tiny_wide_32px", 0.3), ("tiny_wide_128px", 0.4))]
    assert "The difference between 32×32 and 128×128 is +10.00 percentage points" in answers("C", *several)[0]


def test_questions_whose_experiments_were_not_run_are_omitted():
    assert answers("B", make_record("mnist_mlp_100", [0.9])) == []
    assert answers("A", make_record("mnist_mlp_100", [0.9])) == []
