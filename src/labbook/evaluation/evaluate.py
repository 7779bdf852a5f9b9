"""Evaluate a trained experiment on its test set: every seed, with the weights that its training selected."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labbook.config.components import find
from labbook.config.train import TrainSettings
from labbook.data.packed import PackedDataset
from labbook.errors import DataError
from labbook.evaluation import Evaluation, stack_predictions
from labbook.evaluation.layers import list_layers
from labbook.evaluation.restore import Restored, restore_seed, weights_path
from labbook.training.inference import predict, to_device

__all__ = ["METRICS", "ExperimentEvaluation", "evaluate_experiment", "evaluate_model", "flat_metrics"]

# Keys of metrics/<experiment>.json for every experiment; the value is `None` if the task has no such metric.
METRICS = ("test_accuracy", "test_sd", "test_loss", "test_ece", "val_accuracy", "train_accuracy", "test_miou")


@dataclass(frozen=True)
class ExperimentEvaluation:
    """Outputs of the evaluate stage.

    Attributes:
        metrics: means over the seeds, for `metrics/<experiment>.json`.
        card: the summary of the training with the test metrics of every seed, and the data of the page of the experiment.
        predictions: `labels` of the test set, and arrays whose first axis is the seeds.
        first: the evaluation of the first seed, whose confusion counts and samples are shown.
    """

    metrics: dict[str, float | None]
    card: dict[str, Any]
    predictions: dict[str, NDArray[Any]]
    first: Evaluation


def evaluate_experiment(
    name: str, summary: dict[str, Any], settings: TrainSettings, packed: PackedDataset, device: torch.device
) -> ExperimentEvaluation:
    """Evaluate all seeds of an experiment.

    Raises:
        DataError: weights are missing or damaged, or the dataset is not the one used for training.
    """
    if summary["digest"] != packed.digest:
        raise DataError(f"{name} was trained on a different version of {packed.name}. Run `dvc repro train@{name}`.")
    task = find("task", settings.task, f"experiments.{name}.train.task")
    seed_summaries = summary["seeds"]
    evaluations: list[Evaluation] = []
    layers: list[dict[str, Any]] = []
    for seed in seed_summaries:
        restored = restore_seed(name, seed["seed"], settings, packed, device)
        evaluations.append(evaluate_model(task, restored, packed, device))
        if not layers:
            layers = list_layers(restored.model, restored.convert(torch.from_numpy(packed.test.images[:1]).to(device)))
    first = evaluations[0]
    seeds = [{**seed, "test": evaluation.metrics} for seed, evaluation in zip(seed_summaries, evaluations, strict=True)]
    weights = [sha256(weights_path(name, seed["seed"]).read_bytes()).hexdigest() for seed in seed_summaries]
    card = {
        **summary,
        "weights": weights,
        "seeds": seeds,
        "metrics": first.metrics,
        "mistakes": first.mistakes,
        "reliability": first.reliability,
        "layers": layers,
    }
    predictions = stack_predictions([evaluation.predictions for evaluation in evaluations])
    return ExperimentEvaluation(flat_metrics(seeds), card, predictions, first)


def evaluate_model(task: ModuleType, restored: Restored, packed: PackedDataset, device: torch.device) -> Evaluation:
    """Evaluate a model on the test set.

    Args:
        task: a module of `labbook.evaluation.tasks`.
        restored: the model, on the device.
        packed: the dataset.
        device: the model's device.
    """
    logits, loss = predict(restored.model, restored.loss, to_device(packed.test, restored.convert, device))
    compute_logits = _logits_function(restored, device)
    evaluation: Evaluation = task.evaluate(logits.numpy(), packed.test.labels, loss, packed.classes, compute_logits)
    return evaluation


def flat_metrics(seeds: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Average the metrics of all seeds; `test_sd` is the standard deviation (n - 1) of their test accuracy."""
    tests = [seed["test"] for seed in seeds]
    accuracies = [test["test_accuracy"] for test in tests]
    means = {
        "test_accuracy": accuracies,
        "test_loss": [test["test_loss"] for test in tests],
        "test_ece": [test.get("test_ece") for test in tests],
        "val_accuracy": [seed["val_accuracy"] for seed in seeds],
        "train_accuracy": [seed["train_accuracy"] for seed in seeds],
        "test_miou": [test.get("test_miou") for test in tests],
    }
    metrics = {key: _mean(values) for key, values in means.items()}
    metrics["test_sd"] = _rounded(statistics.stdev(accuracies)) if len(accuracies) > 1 else None
    return {key: metrics[key] for key in METRICS}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(math.fsum(known) / len(known)) if len(known) == len(values) else None


def _rounded(value: float) -> float:
    return round(value, 6)


def _logits_function(restored: Restored, device: torch.device) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    @torch.no_grad()
    def compute_logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = restored.model(restored.convert(torch.from_numpy(images).to(device))).cpu().numpy()
        return logits

    return compute_logits
