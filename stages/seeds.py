"""Seeds stage: one experiment trained again from each of several seeds, and how far their test figures scatter."""

import argparse
from pathlib import Path

from labbook.core.files import write_json
from labbook.core.packed import read_packed
from labbook.core.stage import run
from labbook.params.seeds import read_seeds
from labbook.seeds import run_seeds
from labbook.training.checkpoint import CHECKPOINTS, discard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    name = parser.parse_args().experiment
    settings, runtimes = read_seeds(name)
    packed = read_packed(Path("data/processed") / f"{settings.dataset}.safetensors")
    stage = f"seeds@{name}"  # no name of an experiment or a sweep
    figures, timing = run_seeds(stage, settings, runtimes, packed, key=f"experiments.{name}.train")
    write_json(Path("metrics/seeds") / f"{name}.json", figures)
    write_json(Path("metrics/timing") / f"{stage}.json", timing)
    discard(CHECKPOINTS / stage)


if __name__ == "__main__":
    run(main)
