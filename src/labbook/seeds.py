"""Train one experiment once for each of several seeds, measure each on the test set, and say how far the results scatter."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy.special import stdtrit

from labbook.at_once import run_at_once
from labbook.core.inference import measure, place
from labbook.core.packed import Packed
from labbook.core.runtime import configure
from labbook.core.settings import Runtime, TrainSettings
from labbook.trained import restore
from labbook.training.experiment import train_experiment
from labbook.training.start import read_start

__all__ = ["run_seeds", "summarise"]

CONFIDENCE = 0.95


def run_seeds(
    name: str, settings: TrainSettings, runtimes: Sequence[Runtime], packed: Packed, *, key: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the figures of each seed and what they say together, and the seconds of all.

    The test set is looked at once for each seed, with the weights that the experiment keeps.

    Args:
        name: of the folder of their checkpoints.
        settings: of the experiment.
        runtimes: seed, device, threads of each run.
        packed: the dataset, whose split does not depend on these seeds.
        key: where the settings stand in `params.yaml`, for messages.

    Raises:
        LabbookError: as `train_experiment`.
    """
    alone = settings.on(packed.source).model_copy(update={"test_curve": False, "watch": []})  # no figure of them is kept

    def train(runtime: Runtime) -> tuple[dict[str, float], dict[str, Any]]:
        start = read_start(settings.pretrained)
        outcome = train_experiment(f"{name}/{runtime.seed}", alone, runtime, packed, key=key, start=start)
        device = configure(runtime.device, runtime.threads, runtime.seed)
        restored = restore(alone, packed, outcome.weights, device)
        loss, accuracy = measure(restored.model, restored.loss, place(packed.test, restored.convert, device))
        return {"test_accuracy": round(accuracy, 6), "test_loss": round(loss, 6)}, outcome.timing

    figures, timings = zip(*run_at_once(train, runtimes), strict=True)
    runs = {str(runtime.seed): run for runtime, run in zip(runtimes, figures, strict=True)}
    together = {figure: summarise([run[figure] for run in figures]) for figure in ("test_accuracy", "test_loss")}
    seconds = round(sum(timing["seconds"] for timing in timings), 3)
    return {"source": packed.source, **together, "runs": runs}, timings[-1] | {"seconds": seconds}


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Give mean and standard deviation (n - 1), and both ends of two intervals by Student's t, to six decimals.

    With a probability of 95 %, `low` to `high` holds the mean of all seeds, and `run_low` to `run_high` the result of one more,
    if the results are normally distributed: G. J. Hahn, W. Q. Meeker, "Statistical Intervals", 1991, chapter 4.

    Args:
        values: two at least.
    """
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    reach = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * deviation
    of_mean, of_run = reach / math.sqrt(len(values)), reach * math.sqrt(1 + 1 / len(values))
    summary = {"mean": mean, "deviation": deviation, "low": mean - of_mean, "high": mean + of_mean}
    summary |= {"run_low": mean - of_run, "run_high": mean + of_run}
    return {key: round(value, 6) for key, value in summary.items()}
