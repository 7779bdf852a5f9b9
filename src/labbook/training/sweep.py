"""Train one experiment for each value of a sweep, and evaluate each training on the test set."""

from typing import Any

from labbook.config.train import Runtime, TrainSettings
from labbook.data.packed import PackedDataset
from labbook.training.experiment import train_experiment
from labbook.training.parallel import run_parallel
from labbook.training.pretrained import read_pretrained

__all__ = ["run_sweep"]


def run_sweep(
    name: str, variants: list[tuple[float, TrainSettings]], runtime: Runtime, packed: PackedDataset
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Train each variant; return one row of metrics per value, and the timing of each training.

    Args:
        name: name of the sweep.
        variants: each value and its training settings.
        runtime: seed and device; the seed is the same for every value.
        packed: the dataset.

    Raises:
        LabbookError: see `train_experiment`.
    """

    def train(index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        value, settings = variants[index]
        result = train_experiment(
            f"{name}/{index}", settings, runtime, packed,
            key=f"sweeps.{name}.train", pretrained=read_pretrained(settings.inputs.pretrained), evaluate_test=True,
        )  # fmt: skip
        metrics = {key: result.summary[key] for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")}
        row = {"source": packed.source, "value": value, **metrics, **(result.test or {})}
        return row, result.timing

    rows, timings = zip(*run_parallel(train, range(len(variants))), strict=True)
    return list(rows), list(timings)
