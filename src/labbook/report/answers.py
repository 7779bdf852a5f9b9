"""The questions of the assignments, answered with what was measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from labbook.report.assignments import DETAILED, QUESTIONS
from labbook.report.records import Record

__all__ = ["ANSWERS", "Answer", "answer", "choose_detailed", "print_accuracy", "threshold"]

RESOLUTION = 1e-6  # of the metrics in a history
CURVES = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]


@dataclass(frozen=True)
class Answer:
    """A question, and a sentence or two that answer it.

    Attributes:
        question: as the page prints it.
        answer: with the measured values.
        timed: two experiments whose seconds belong to the answer; the page fills them in, since they differ from run to run.
    """

    question: str
    answer: str
    timed: tuple[str, str] | None = None


def answer(letter: str, records: Sequence[Record]) -> list[Answer]:
    """Answer those questions of an assignment for which the experiments were run."""
    by_name = {record.name: record for record in records}
    asked = QUESTIONS.get(letter, ())
    found = [ANSWERS[question.kind]([by_name.get(name) for name in question.experiments]) for question in asked]
    return [one for one in found if one]


def threshold(source: str) -> float:
    """Return the test accuracy of "how many epochs until": 0.98, and less on the small embedded data."""
    return 0.98 if source == "official" else 0.90


def print_accuracy(record: Record, metric: str = "test_accuracy") -> str:
    """Return an accuracy to four decimals, with its standard deviation where there are several seeds."""
    mean, deviation = record.mean(metric), record.deviation(metric)
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def choose_detailed(letter: str, records: Sequence[Record]) -> Record | None:
    """Choose the experiment that an assignment shows in detail: the most accurate of its candidates, the first if equal."""
    candidates = [record for record in records if record.name in DETAILED.get(letter, ())]
    return max(candidates, key=lambda record: record.test_accuracy, default=None)


def _pytorch_and_numpy(records: Sequence[Record | None]) -> Answer | None:
    pytorch, numpy = records
    if not pytorch or not numpy:
        return None
    question = "Are NumPy and PyTorch equally accurate, and which is faster?"
    accuracies = f"Test accuracy is {print_accuracy(pytorch)} in PyTorch and {print_accuracy(numpy)} in NumPy"
    timed = pytorch.name, numpy.name
    if not _same_but(pytorch, numpy, "backend"):
        return Answer(question, f"{accuracies}, but the two runs differ in other settings too.", timed)
    first, last = ((pytorch.history["train_loss"] - numpy.history["train_loss"]).abs().iloc[row] for row in (0, -1))
    first, last = (f"{max(difference, RESOLUTION):.1e}" for difference in (first, last))
    curves = f"their train losses differ by at most {first} after the first epoch and {last} after the last"
    return Answer(question, f"{accuracies}. From the same initial weights and in the same order, {curves}.", timed)


def _pool_and_relu(records: Sequence[Record | None]) -> Answer | None:
    relu_first, pool_first = records
    if not relu_first or not pool_first:
        return None
    question = "Does swapping pool and ReLU change the result?"
    accuracies = (
        f"Test accuracy is {print_accuracy(relu_first)} with ReLU first and {print_accuracy(pool_first)} with the pool first"
    )
    if not _same_but(relu_first, pool_first, "model.pool_first") or len(relu_first.history) != len(pool_first.history):
        return Answer(question, f"{accuracies}, but the two runs differ in other settings too.")
    difference = max(
        (relu_first.histories[seed][CURVES] - pool_first.histories[seed][CURVES]).abs().max().max()
        for seed in relu_first.histories
    )
    if difference == 0:
        return Answer(
            question,
            f"No, and it cannot: both orders compute the same function. {accuracies}; the curves are identical.",
        )
    return Answer(
        question,
        f"Both orders compute the same function, but the curves differ by up to {difference:.2g}. {accuracies}.",
    )


def _relu_and_tanh(records: Sequence[Record | None]) -> Answer | None:
    relu, tanh = records
    if not relu or not tanh:
        return None
    source = relu.card["source"]
    reported = " (reported: about 20 and 50)" if source == "official" else ""
    return Answer(
        f"How many epochs do ReLU and tanh need to reach {threshold(source):.0%} on the test set?",
        f"ReLU {_epochs(relu)}, tanh {_epochs(tanh)}{reported}.",
    )


def _sgd_and_adam(records: Sequence[Record | None]) -> Answer | None:
    sgd, adam = records
    if not sgd or not adam:
        return None
    return Answer(
        "Does Adam get there faster than SGD without momentum?",
        f"To {threshold(sgd.card['source']):.0%} on the test set, SGD {_epochs(sgd)} and Adam {_epochs(adam)}; at the end they "
        f"have {print_accuracy(sgd)} and {print_accuracy(adam)}.",
    )


def _image_sizes(records: Sequence[Record | None]) -> Answer | None:
    """Compare the same network on images of several sizes, if nothing else differs."""
    known = [record for record in records if record]
    if len(known) < 2 or not all(_same_but(known[0], record, "model", "preprocess", "augment") for record in known):
        return None
    measured = [f"{print_accuracy(record)} at {_size(record)}" for record in known]
    return Answer(
        "What happens to the same network on images of another size?",
        f"Its test accuracy is {', '.join(measured)}. Larger images are scaled up, and show nothing more.",
    )


def _single_changes(records: Sequence[Record | None]) -> Answer | None:
    """Compare changes to the first experiment on validation data, by which a choice is made."""
    base, *others = records
    before = base.mean("val_accuracy") if base else None
    if not base or before is None:
        return None
    changed = [record for record in others if record and _same_but(base, record, "model", "preprocess", "augment")]
    gains = [(after - before, record) for record in changed if (after := record.mean("val_accuracy")) is not None]
    if not gains:
        return None
    gains.sort(key=lambda pair: -pair[0])
    words = [f"{record.name.removeprefix(f'{base.name}_plus_')} {100 * gain:+.1f}" for gain, record in gains]
    return Answer(
        "Which single change helps?",
        f"In percentage points of validation accuracy, against {print_accuracy(base, 'val_accuracy')} of {base.name}: "
        f"{', '.join(words)}.",
    )


def _overfitting(records: Sequence[Record | None]) -> Answer | None:
    (record,) = records
    if not record or record.history["val_loss"].isna().any():
        return None
    kept, last = record.kept, record.history.iloc[-1]
    question = "Does the best model overfit?"
    weights = "the kept weights" + (" of the first seed" if len(record.seeds) > 1 else "")
    losses = f"validation loss {kept['val_loss']:.3f} and train loss {kept['train_loss']:.3f} with {weights}"
    if last["val_loss"] > kept["val_loss"] and last["train_loss"] < kept["train_loss"]:
        return Answer(
            question,
            f"At the end, yes: {losses}; after that the train loss falls to {last['train_loss']:.3f} "
            f"while the validation loss rises to {last['val_loss']:.3f}.",
        )
    return Answer(
        question,
        f"Not by the last row: {losses}, {last['val_loss']:.3f} and {last['train_loss']:.3f} at the end.",
    )


ANSWERS: dict[str, Callable[[Sequence[Record | None]], Answer | None]] = {
    "pytorch_and_numpy": _pytorch_and_numpy,
    "pool_and_relu": _pool_and_relu,
    "relu_and_tanh": _relu_and_tanh,
    "sgd_and_adam": _sgd_and_adam,
    "image_sizes": _image_sizes,
    "single_changes": _single_changes,
    "overfitting": _overfitting,
}


def _same_but(first: Record, second: Record, *keys: str) -> bool:
    """Return whether two trainings have the same seeds and the same settings, apart from these dotted keys."""
    if list(first.histories) != list(second.histories):
        return False
    one, two = (_without({**record.settings, "constraint": None}, keys) for record in (first, second))
    return one == two


def _without(settings: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    left = dict(settings)
    for key in keys:
        name, _, rest = key.partition(".")
        value = left.pop(name, {})
        if rest:
            left[name] = _without(value, [rest])
    return left


def _size(record: Record) -> str:
    side = record.settings["preprocess"].get("resize") or record.card["image_shape"][-1]
    return f"{side}×{side}"


def _epochs(record: Record) -> str:
    """Return in words how many epochs the seeds need to reach the threshold."""
    goal = threshold(record.card["source"])
    reached = [history.loc[history["test_accuracy"] >= goal, "epoch"] for history in record.histories.values()]
    needed = sorted(int(epochs.iloc[0]) for epochs in reached if not epochs.empty)
    if not needed:
        return f"does not reach it in {record.history['epoch'].iloc[-1]} epochs"
    epochs = f"{needed[0]} to {needed[-1]} epochs" if needed[0] < needed[-1] else _count(needed[0], "epoch")
    share = f" in {len(needed)} of {len(reached)} seeds" if len(needed) < len(reached) else ""
    return f"needs {epochs}{share}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number > 1 else ''}"
