"""Pair stage: two experiments trained again from several random starts, and what is seen in each."""

import argparse
from pathlib import Path

from labbook.core.files import read_json, write_json
from labbook.core.packed import read_packed
from labbook.core.settings import Runtime, TrainSettings
from labbook.core.stage import run
from labbook.pair import run_starts
from labbook.training.checkpoint import CHECKPOINTS, discard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pair")
    parser.add_argument("experiments", nargs=2)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--starts", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    runtime = Runtime(seed=arguments.seed, device=arguments.device, threads=arguments.threads)
    packed = read_packed(Path("data/processed") / f"{arguments.dataset}.safetensors")
    figures: dict[str, object] = {"source": packed.source}
    for name in arguments.experiments:
        summary = read_json(Path("models/summaries") / f"{name}.json", ("settings",), f"Run `dvc repro train@{name}`.")
        settings = TrainSettings.model_validate(summary["settings"])
        figures[name] = run_starts(
            f"{arguments.pair}/{name}", settings, runtime, packed, arguments.starts, key=f"experiments.{name}.train"
        )
    write_json(Path("metrics/pairs") / f"{arguments.pair}.json", figures)
    discard(CHECKPOINTS / arguments.pair)


if __name__ == "__main__":
    run(main)
