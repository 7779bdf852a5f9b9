"""Train one experiment again for each value of a sweep, and measure each on the test set."""

from typing import Any

from labbook.at_once import run_at_once
from labbook.core.inference import measure, place
from labbook.core.packed import Packed
from labbook.core.runtime import configure
from labbook.core.settings import Runtime, TrainSettings
from labbook.trained import restore
from labbook.training.experiment import train_experiment
from labbook.training.start import read_start

__all__ = ["run_sweep"]


def run_sweep(
    name: str, variants: list[tuple[float, TrainSettings]], runtime: Runtime, packed: Packed
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Give one row a value, and the seconds of all.

    Args:
        name: of the sweep.
        variants: each value and its training settings.
        runtime: seed, device, threads; every value starts from the same seed.
        packed: the dataset.

    Raises:
        LabbookError: as `train_experiment`.
    """

    def train(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        value, settings = variants[number]
        start = read_start(settings.pretrained)
        outcome = train_experiment(f"{name}/{number}", settings, runtime, packed, key=f"sweeps.{name}.train", start=start)
        device = configure(runtime.device, runtime.threads, runtime.seed)
        restored = restore(settings.on(packed.source), packed, outcome.weights, device)
        loss, accuracy = measure(restored.model, restored.loss, place(packed.test, restored.convert, device))
        figures = {"test_loss": round(loss, 6), "test_accuracy": round(accuracy, 6)}
        return {"source": packed.source, "value": round(value, 6)} | outcome.summary["last"] | figures, outcome.timing

    rows, timings = zip(*run_at_once(train, range(len(variants))), strict=True)
    seconds = round(sum(timing["seconds"] for timing in timings), 3)
    return list(rows), timings[-1] | {"seconds": seconds}
