"""Answers to the questions of the assignments, from measured results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from labbook.report.assignments import QUESTIONS, Question
from labbook.report.changes import INPUT, Change, compare_changes, summarize_changes
from labbook.report.claims import JudgedClaim, is_official, judge_effects, judge_epochs, judge_results
from labbook.report.differences import EPOCHS, describe, difference, difference_of, equal_except
from labbook.report.records import Record

__all__ = ["ANSWERS", "Answer", "answer", "format_accuracy", "threshold"]

RESOLUTION = 1e-6  # of the metrics in a history, which have six decimals
CURVES = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
COMPARED = ("model", "optimizer")  # settings that may differ between two experiments that are compared
OTHER_SETTINGS = "The two also differ in other settings."


@dataclass(frozen=True)
class Answer:
    """A question and its answer in one or two sentences.

    Attributes:
        question: the question, as a heading.
        answer: text with the measured values.
        claims: judged claims of the report; empty on embedded data.
        changes: rows of a table.
        timed: two experiments whose training times are part of the answer; a script of the page fills them in.
    """

    question: str
    answer: str
    claims: tuple[JudgedClaim, ...] = ()
    changes: tuple[Change, ...] = ()
    timed: tuple[str, str] | None = None


def answer(letter: str, records: Sequence[Record]) -> list[Answer]:
    """Return the answers to those questions of an assignment whose experiments were run."""
    by_name = {record.name: record for record in records}
    questions = QUESTIONS.get(letter, ())
    answers = [ANSWERS[item.kind](item, [by_name.get(name) for name in item.experiments]) for item in questions]
    return [item for item in answers if item]


def threshold(source: str) -> float:
    """Return the test accuracy up to which epochs are counted: 0.98, or 0.90 on the small embedded data."""
    return 0.98 if source == "official" else 0.90


def format_accuracy(record: Record, metric: str = "test_accuracy") -> str:
    """Format an accuracy with four decimals, and with its standard deviation if there are several seeds."""
    mean, deviation = record.mean(metric), record.deviation(metric)
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def _pytorch_and_numpy(_: Question, records: Sequence[Record | None]) -> Answer | None:
    pytorch, numpy = records
    if not pytorch or not numpy:
        return None
    if equal_except(pytorch, numpy, "backend"):
        first, last = (
            max(
                abs(pytorch.histories[seed]["train_loss"] - rows["train_loss"]).iloc[row]
                for seed, rows in numpy.histories.items()
            )
            for row in (0, -1)
        )
        detail = (
            f"From the same initial weights and with the same order of images, their train losses differ by at most "
            f"{max(first, RESOLUTION):.1e} after the first epoch and {max(last, RESOLUTION):.1e} after the last."
        )
    else:
        detail = OTHER_SETTINGS
    return Answer(
        "Are NumPy and PyTorch equally accurate, and which is faster?",
        f"Test accuracy is {format_accuracy(pytorch)} in PyTorch and {format_accuracy(numpy)} in NumPy. "
        f"{describe(difference(pytorch, numpy, 'test_accuracy', 'backend'))} {detail}",
        judge_results({"PyTorch": pytorch, "NumPy": numpy}),
        timed=(pytorch.name, numpy.name),
    )


def _pool_and_relu(_: Question, records: Sequence[Record | None]) -> Answer | None:
    relu_first, pool_first = records
    if not relu_first or not pool_first:
        return None
    question = "Does swapping pool and ReLU change the result?"
    claims = judge_results({"ReLU first": relu_first, "pool first": pool_first})
    accuracies = (
        f"Test accuracy is {format_accuracy(relu_first)} with ReLU first and {format_accuracy(pool_first)} with the pool first"
    )
    measured = describe(difference(relu_first, pool_first, "test_accuracy", "model.pool_first"))
    if not equal_except(relu_first, pool_first, "model.pool_first") or len(relu_first.history) != len(pool_first.history):
        return Answer(question, f"{accuracies}. {measured} {OTHER_SETTINGS}", claims)
    largest = max(
        (relu_first.histories[seed][CURVES] - pool_first.histories[seed][CURVES]).abs().max().max()
        for seed in relu_first.histories
    )
    if largest == 0:
        measured = "Their curves are identical in every seed."
        return Answer(question, f"No: both orders compute the same function. {accuracies}. {measured}", claims)
    curves = f"Both orders compute the same function, but their curves differ by up to {largest:.2g}."
    return Answer(question, f"{curves} {accuracies}. {measured}", claims)


def _relu_and_tanh(question: Question, records: Sequence[Record | None]) -> Answer | None:
    relu, tanh = records
    if not relu or not tanh:
        return None
    claims = judge_results({"ReLU": relu, "tanh": tanh})
    if is_official(relu):
        numbers = zip(question.reported, (_epochs_to_threshold(relu), _epochs_to_threshold(tanh)), strict=True)
        claims = (judge_epochs(dict(zip(("ReLU", "tanh"), numbers, strict=True))), *claims)
    return Answer(
        f"How many epochs do ReLU and tanh need to reach {threshold(relu.card['source']):.0%} on the test set?",
        f"ReLU {_format_epochs(relu)}, tanh {_format_epochs(tanh)}. {_describe_epochs(relu, tanh, 'model.activation')}",
        claims,
    )


def _sgd_and_adam(_: Question, records: Sequence[Record | None]) -> Answer | None:
    sgd, adam = records
    if not sgd or not adam:
        return None
    goal = f"{threshold(sgd.card['source']):.0%}"
    return Answer(
        "Does Adam converge faster than SGD without momentum?",
        f"To reach {goal} test accuracy, SGD {_format_epochs(sgd)} and Adam {_format_epochs(adam)}. "
        f"{_describe_epochs(sgd, adam, 'optimizer')} Their final test accuracies are {format_accuracy(sgd)} and "
        f"{format_accuracy(adam)}. {describe(difference(sgd, adam, 'test_accuracy', 'optimizer'), of='in test accuracy')}",
        judge_results({"SGD": sgd, "Adam": adam}),
    )


def _accuracies(question: Question, records: Sequence[Record | None]) -> Answer | None:
    """Compare the test accuracies of two experiments, regardless of which settings differ."""
    first, second = records
    if not first or not second:
        return None
    return Answer(
        question.text,
        f"Test accuracy is {format_accuracy(first)} with {first.name} and {format_accuracy(second)} with {second.name}. "
        f"{describe(difference(first, second, 'test_accuracy', *COMPARED))}",
        tuple(filter(None, [judge_effects(first, second, (), COMPARED)])),
    )


def _image_sizes(_: Question, records: Sequence[Record | None]) -> Answer | None:
    """Compare the same network on images of several sizes, if nothing else differs."""
    known = [record for record in records if record]
    if len(known) < 2 or not all(equal_except(known[0], record, *INPUT) for record in known):
        return None
    *measured, last = [f"{format_accuracy(record)} at {_size(record)}" for record in known]
    steps = [describe(None)]
    if len(known[0].seeds) > 1:
        steps = [
            describe(difference(small, large, "test_accuracy", *INPUT), of=f"between {_size(small)} and {_size(large)}")
            for small, large in pairwise(known)
        ]
    quotes = dict.fromkeys(record.spec.reported.quote for record in known if is_official(record))
    return Answer(
        "What happens to the same network on images of another size?",
        f"Its test accuracy is {', '.join(measured)} and {last}. {' '.join(steps)} Larger images are upscaled "
        "and contain no additional detail.",
        tuple(JudgedClaim(f"“{quote}”", "The report gives no result to compare.", holds=None) for quote in quotes if quote),
    )


def _single_changes(_: Question, records: Sequence[Record | None]) -> Answer | None:
    base, *others = records
    run = [record for record in others if record]
    changes = compare_changes(base, run) if base and base.values("val_accuracy") else []
    if not base or not changes:
        return None
    skipped = {record.name for record in run} - {change.name for change in changes}
    note = f" Not compared, because other settings differ as well: {', '.join(sorted(skipped))}." if skipped else ""
    return Answer(
        "Which single change helps?",
        f"{summarize_changes(changes)} Differences in validation accuracy are relative to {base.name}, whose validation "
        f"accuracy is {format_accuracy(base, 'val_accuracy')}.{note}",
        changes=tuple(changes),
    )


def _overfitting(_: Question, records: Sequence[Record | None]) -> Answer | None:
    (record,) = records
    if not record or record.history["val_loss"].isna().any():
        return None
    seeds = [_selected_and_last(record, seed) for seed in record.seeds]
    count = sum(
        last["val_loss"] > selected["val_loss"] and last["train_loss"] < selected["train_loss"] for selected, last in seeds
    )
    selected, last = (f"{row['val_loss']:.3f} and {row['train_loss']:.3f}" for row in seeds[0])
    return Answer(
        "Does the best model overfit?",
        f"After the selected weights, the validation loss rises while the train loss falls in {count} of "
        f"{len(seeds)} seeds. In seed {record.seeds[0]['seed']}, validation and train loss are {selected} with the "
        f"selected weights, and {last} at the end.",
    )


ANSWERS: dict[str, Callable[[Question, Sequence[Record | None]], Answer | None]] = {
    "pytorch_and_numpy": _pytorch_and_numpy,
    "pool_and_relu": _pool_and_relu,
    "relu_and_tanh": _relu_and_tanh,
    "sgd_and_adam": _sgd_and_adam,
    "accuracies": _accuracies,
    "image_sizes": _image_sizes,
    "single_changes": _single_changes,
    "overfitting": _overfitting,
}


def _selected_and_last(record: Record, seed: Mapping[str, Any]) -> tuple[pd.Series, pd.Series]:
    """Return two rows of a seed's history: that of the selected weights and the last one."""
    history = record.histories[seed["seed"]]
    return history.iloc[seed["kept"]["row"]], history.iloc[-1]


def _size(record: Record) -> str:
    side = record.settings["preprocess"].get("resize") or record.card["image_shape"][-1]
    return f"{side}×{side}"


def _epochs_to_threshold(record: Record) -> list[int | None]:
    """Return the number of epochs until each seed reaches the threshold; `None` if it does not."""
    goal = threshold(record.card["source"])
    reached = [history.loc[history["test_accuracy"] >= goal, "epoch"] for history in record.histories.values()]
    return [None if epochs.empty else int(epochs.iloc[0]) for epochs in reached]


def _format_epochs(record: Record) -> str:
    """Describe how many epochs the seeds need to reach the threshold."""
    counted = _epochs_to_threshold(record)
    needed = sorted(count for count in counted if count is not None)
    if not needed:
        return f"does not reach it in {record.history['epoch'].iloc[-1]} epochs"
    epochs = f"{needed[0]} to {needed[-1]} epochs" if needed[0] < needed[-1] else _pluralize(needed[0], "epoch")
    share = f" in {len(needed)} of {len(counted)} seeds" if len(needed) < len(counted) else ""
    return f"needs {epochs}{share}"


def _describe_epochs(first: Record, second: Record, key: str) -> str:
    """Describe the difference between the numbers of epochs that two experiments need, if every seed reaches the threshold."""
    first_epochs, second_epochs = (
        [count for count in _epochs_to_threshold(record) if count is not None] for record in (first, second)
    )
    if len(first_epochs) < len(first.seeds) or len(second_epochs) < len(second.seeds):
        return "Not every seed reaches it, so no interval is given."
    return describe(difference_of(first_epochs, second_epochs, paired=equal_except(first, second, key)), EPOCHS)


def _pluralize(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number > 1 else ''}"
