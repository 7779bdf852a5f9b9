"""The questions of the assignments, answered with measured figures."""

from dataclasses import dataclass
from typing import Any

from labbook.report.records import Record

__all__ = ["Answer", "answer_b", "answer_c", "answer_d", "best_of_last_three", "threshold"]

RESOLUTION = 1e-6  # of the history's figures
BASE, BEST = "cifar10_cnn", "cifar10_cnn_best"
LAST_THREE = ("mnist_resnet_bn_sgd", "mnist_cnn_adam_tuned", "mnist_resnet_bn_adam")


@dataclass(frozen=True)
class Answer:
    """A question, and one sentence or two that answer it.

    Attributes:
        timed: two experiments whose seconds belong to the answer; they are not in the page's bytes, which fills them in.
    """

    question: str
    answer: str
    timed: tuple[str, str] | None = None


def threshold(source: str) -> float:
    """Give the test accuracy that "how many epochs" asks for: 0.98, and less on the small embedded data."""
    return 0.98 if source == "official" else 0.90


def answer_b(records: list[Record]) -> list[Answer]:
    """Answer the questions of assignment B for which both experiments were run."""
    by_name = {record.name: record for record in records}
    answers = []
    pairs = (
        ("mnist_mlp_2x50", "mnist_mlp_2x50_numpy", _pytorch_and_numpy),
        ("mnist_cnn_small", "mnist_cnn_pool_first", _swap),
        ("mnist_cnn_pool_first", "mnist_cnn_pool_first_tanh", _relu_and_tanh),
        ("mnist_cnn_small", "mnist_cnn_adam", _sgd_and_adam),
    )
    for first, second, answer in pairs:
        if first in by_name and second in by_name:
            answers.append(answer(by_name[first], by_name[second]))
    return answers


def answer_c(records: list[Record]) -> list[Answer]:
    """Tell what the size of the images does to the same network, if nothing else differs."""
    sizes = {"32×32": "tiny_wide_32px", "64×64": "tiny_wide", "128×128": "tiny_wide_128px"}
    by_name = {record.name: record for record in records}
    measured = [f"{by_name[name].test_accuracy:.4f} at {size}" for size, name in sizes.items() if name in by_name]
    runs = [by_name[name] for name in sizes.values() if name in by_name]
    if len(measured) < 2 or not all(_same_but(runs[0], run, "model", "augmentation") for run in runs):
        return []
    question = "What happens to the same network on images of another size?"
    return [
        Answer(question, f"Its test accuracy is {', '.join(measured)}. The images are scaled, and show no more at 128×128.")
    ]


def answer_d(records: list[Record]) -> list[Answer]:
    """Answer the questions of assignment D: what one change did, and whether the best model overfits."""
    by_name = {record.name: record for record in records}
    answers = []
    if BASE in by_name:
        base = by_name[BASE]
        changed = [record for record in records if record.name.startswith(f"{BASE}_plus_")]
        changed = [record for record in changed if _same_but(base, record, "model", "augmentation")]
        answers += [_one_change(by_name[BASE], changed)] if changed else []
    if BEST in by_name:
        answers.append(_overfitting(by_name[BEST]))
    return answers


def _same_but(first: Record, second: Record, *keys: str) -> bool:
    """Tell whether two trainings have the same settings, these keys of their blocks apart."""
    one, two = ({key: value for key, value in record.card["settings"].items() if key not in keys} for record in (first, second))
    return one | {"constraint": None} == two | {"constraint": None}


def _one_change(base: Record, changed: list[Record]) -> Answer:
    """Compare on validation data, which the choice is made by."""
    plain = base.kept["val_accuracy"]
    gains = sorted(((record.kept["val_accuracy"] - plain, record) for record in changed), key=lambda pair: -pair[0])
    told = [f"{record.name.removeprefix(f'{BASE}_plus_')} {100 * gain:+.1f}" for gain, record in gains]
    return Answer(
        "Which single change helps?",
        f"In percentage points of validation accuracy, against {plain:.4f} of {BASE}: {', '.join(told)}.",
    )


def _overfitting(record: Record) -> Answer:
    kept, last = record.kept, record.history.iloc[-1]
    question = "Does the best model overfit?"
    gap = f"validation loss {kept['val_loss']:.3f} and train loss {kept['train_loss']:.3f} with the kept weights"
    if last["val_loss"] > kept["val_loss"] and last["train_loss"] < kept["train_loss"]:
        return Answer(
            question,
            f"At the end, yes: {gap}; after that the train loss falls to {last['train_loss']:.3f} "
            f"while the validation loss rises to {last['val_loss']:.3f}.",
        )
    return Answer(
        question,
        f"Not by the last row: {gap}, {last['val_loss']:.3f} and {last['train_loss']:.3f} at the end.",
    )


def best_of_last_three(records: list[Record]) -> Record | None:
    """Choose the one of hand-in 2's last three models that is shown in detail: the most accurate, the first if equal."""
    last = [record for record in records if record.name in LAST_THREE]
    return max(last, key=lambda record: record.test_accuracy, default=None)


def _pytorch_and_numpy(pytorch: Record, numpy: Record) -> Answer:
    question = "Are NumPy and PyTorch equally accurate, and which is faster?"
    accuracies = f"Test accuracy is {pytorch.test_accuracy:.4f} in PyTorch and {numpy.test_accuracy:.4f} in NumPy"
    timed = pytorch.name, numpy.name
    if pytorch.card["seed"] != numpy.card["seed"] or not _same_but(pytorch, numpy, "backend"):
        return Answer(question, f"{accuracies}, but the two runs differ in other settings too.", timed)
    first, last = ((pytorch.history["train_loss"] - numpy.history["train_loss"]).abs().iloc[row] for row in (0, -1))
    first, last = (f"{max(difference, RESOLUTION):.1e}" for difference in (first, last))
    curves = f"their train losses differ by at most {first} after the first epoch and {last} after the last"
    return Answer(question, f"{accuracies}. From the same initial weights and in the same order, {curves}.", timed)


def _swap(relu_first: Record, pool_first: Record) -> Answer:
    question = "Does swapping pool and ReLU change the result?"
    relu, pool = relu_first.test_accuracy, pool_first.test_accuracy
    accuracies = f"Test accuracy is {relu:.4f} with ReLU first and {pool:.4f} with the pool first"
    if _settings_but_order(relu_first) != _settings_but_order(pool_first) or len(relu_first.history) != len(pool_first.history):
        return Answer(question, f"{accuracies}, but the two runs differ in other settings too.")
    columns = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    difference = (relu_first.history[columns] - pool_first.history[columns]).abs().max().max()
    if difference == 0:
        return Answer(
            question,
            f"No, and it cannot: both orders compute the same function. {accuracies}; the curves agree in every figure.",
        )
    return Answer(
        question,
        f"Both orders compute the same function, but the curves differ by up to {difference:.2g}. {accuracies}.",
    )


def _settings_but_order(record: Record) -> dict[str, Any]:
    settings = record.card["settings"]
    model = {key: value for key, value in settings["model"].items() if key != "pool_first"}
    return {**settings, "model": model, "seed": record.card["seed"]}


def _relu_and_tanh(relu: Record, tanh: Record) -> Answer:
    goal = threshold(relu.card["source"])
    reported = " (reported: about 20 and 50)" if relu.card["source"] == "official" else ""
    return Answer(
        f"How many epochs do ReLU and tanh need to reach {goal:.0%} on the test set?",
        f"ReLU {_epochs(relu, goal)}, tanh {_epochs(tanh, goal)}{reported}.",
    )


def _sgd_and_adam(sgd: Record, adam: Record) -> Answer:
    goal = threshold(sgd.card["source"])
    return Answer(
        "Does Adam get there faster than SGD without momentum?",
        f"To {goal:.0%} on the test set, SGD needs {_epochs(sgd, goal)} and Adam {_epochs(adam, goal)}; at the end they have "
        f"{sgd.test_accuracy:.4f} and {adam.test_accuracy:.4f}.",
    )


def _epochs(record: Record, goal: float) -> str:
    needed = record.epochs_to(goal)
    if needed is None:
        return f"does not reach it in {record.card['epochs_trained']} epochs"
    return f"{needed} epoch{'s' if needed > 1 else ''}"
