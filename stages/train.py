"""Train stage: one experiment's weights, history, summary and seconds."""

import argparse
from pathlib import Path

from labbook.core.files import write_json
from labbook.core.packed import read_packed
from labbook.core.settings import read_training
from labbook.core.stage import run
from labbook.training.checkpoint import CHECKPOINTS, discard
from labbook.training.distributed import joined, launch, started
from labbook.training.experiment import train_experiment, write_weights
from labbook.training.history import write_history
from labbook.training.start import read_start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("--checkpoint-seconds", type=float, default=5.0, help="at least so long between checkpoints")
    arguments = parser.parse_args()
    name = arguments.experiment
    settings, runtime = read_training(f"experiments.{name}")
    packed = read_packed(Path("data/processed") / f"{settings.dataset}.safetensors")
    count = settings.on(packed.source).processes
    if count > 1 and not started():
        del packed  # each process reads its own
        launch(count)
        return
    with joined() as processes:
        outcome = train_experiment(
            name, settings, runtime, packed,
            key=f"experiments.{name}.train", start=read_start(settings.pretrained),
            checkpoint_seconds=arguments.checkpoint_seconds, processes=processes,
        )  # fmt: skip
        if processes.rank == 0:
            write_weights(Path("models/weights") / f"{name}.safetensors", outcome.weights)
            write_history(Path("plots/history") / f"{name}.tsv", outcome.rows)
            write_json(Path("models/summaries") / f"{name}.json", outcome.summary)
            write_json(Path("metrics/timing") / f"{name}.json", outcome.timing)
            discard(CHECKPOINTS / name)


if __name__ == "__main__":
    run(main)
