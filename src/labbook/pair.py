"""Train one experiment again from several random starts, and measure what tells whether its outcome is seen in each."""

from typing import Any

from labbook.at_once import run_at_once
from labbook.core.packed import Packed
from labbook.core.runtime import configure
from labbook.core.settings import Runtime, TrainSettings
from labbook.evaluation import plane
from labbook.examine import examine
from labbook.trained import restore
from labbook.training.experiment import Outcome, train_experiment
from labbook.training.start import read_start

__all__ = ["run_starts"]

FIGURES = ("test_loss", "test_accuracy", "boundary_pieces", "boundary_turning", "boundary_corners")


def run_starts(
    name: str, settings: TrainSettings, runtime: Runtime, packed: Packed, starts: int, *, key: str
) -> dict[str, dict[str, Any]]:
    """Give the figures of each start by its number; the first start is the experiment's own.

    Args:
        name: of the folder of its checkpoints.
        settings: of the experiment, on the dataset's source.
        runtime: seed, device, threads.
        packed: its dataset.
        starts: how many.
        key: where the settings stand in `params.yaml`, for messages.

    Raises:
        LabbookError: as `train_experiment`.
    """

    def train(restart: int) -> dict[str, Any]:
        begun = read_start(settings.pretrained)
        again = settings.model_copy(update={"restart": restart})
        outcome = train_experiment(f"{name}/{restart}", again, runtime, packed, key=key, start=begun)
        device = configure(runtime.device, runtime.threads, runtime.seed)
        evaluation = examine(plane, restore(again, packed, outcome.weights, device), packed, device)
        return {figure: evaluation.metrics[figure] for figure in FIGURES} | _of_training(outcome)

    restarts = range(settings.restart, settings.restart + starts)
    return dict(zip(map(str, restarts), run_at_once(train, restarts), strict=True))


def _of_training(outcome: Outcome) -> dict[str, Any]:
    """Give when train accuracy reached 0.9, a hidden layer's largest gradient at any row, and the deadest layer at the end."""
    watched = outcome.summary.get("watched", [{}])
    hidden = [norm for row in watched for norm in list(row.get("gradient_norms", {}).values())[:-1]]
    dead = watched[-1].get("dead_units", {}).values()
    return {
        "steps_to_90_percent": next((row.step for row in outcome.rows if row.train_accuracy >= 0.9), None),
        "largest_hidden_gradient": max(hidden, default=None),
        "dead_units": max(dead, default=None),
    }
