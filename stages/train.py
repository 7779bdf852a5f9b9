"""Train stage: train one experiment from each of its seeds, and write weights, history and summary."""

import _here  # noqa: F401

import argparse
from pathlib import Path

from labbook.config.reading import look_up, read
from labbook.config.train import errors_at_origin, flat_settings, read_training
from labbook.data.packed import read_packed
from labbook.fingerprint.check import check_settings
from labbook.io import write_folder, write_json
from labbook.stage import run
from labbook.training.checkpoint import CHECKPOINT_SECONDS, CHECKPOINTS, discard
from labbook.training.distributed import is_launched, join_processes
from labbook.training.experiment import summarize, train_seeds, write_weights
from labbook.training.history import write_history
from labbook.training.launch import launch
from labbook.training.pretrained import read_pretrained
from labbook.training.timing import write_timing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS, help="seconds between two checkpoints")
    arguments = parser.parse_args()
    name, key = arguments.experiment, f"experiments.{arguments.experiment}.train"
    packed = read_packed(Path("data/processed") / f"{look_up(read(), f'{key}.inputs.dataset')}.safetensors")
    settings, runtime = read_training(name, packed.source)
    check_settings(flat_settings(settings, runtime))
    if settings.world_size > 1 and not is_launched():
        del packed  # each process reads its own copy
        launch(settings.world_size)
        return
    with join_processes() as processes, errors_at_origin(f"experiments.{name}", packed.source):
        results = train_seeds(
            name, settings, runtime, packed, key=key, pretrained=read_pretrained(settings.inputs.pretrained),
            checkpoint_seconds=arguments.checkpoint_seconds, processes=processes,
        )  # fmt: skip
        if processes.rank == 0:
            with write_folder(Path("models/trained") / name) as folder:
                for result in results:
                    write_weights(folder / f"seed-{result.summary['seed']}.safetensors", result.weights)
                write_json(folder / "summary.json", summarize(name, settings, packed, results))
            write_history(Path("plots/history") / f"{name}.tsv", {result.summary["seed"]: result.rows for result in results})
            write_timing(name, packed.source, [result.timing for result in results])
            discard(CHECKPOINTS / name)


if __name__ == "__main__":
    run(main)
