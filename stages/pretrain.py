"""Pretrain stage: weights to start from, without their head; the published ones, or trained on a drawn dataset."""

import argparse
from pathlib import Path

from labbook.core.parts import find
from labbook.core.settings import read_training
from labbook.core.stage import run
from labbook.training.checkpoint import CHECKPOINTS, discard
from labbook.training.experiment import train_experiment, write_weights
from labbook.training.start import PRETRAINED, read_start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pretrained")
    parser.add_argument("--source", choices=("embedded", "official"), required=True)
    parser.add_argument("--validation-fraction", type=float, required=True)
    arguments = parser.parse_args()
    name = arguments.pretrained
    folder = Path("data/raw") / f"pretrained_{name}"
    settings, runtime = read_training(f"pretrained.{name}")
    network = find("pretrained", name, "pretrained")
    dataset = find("dataset", settings.dataset, f"pretrained.{name}.train.dataset")
    if arguments.source == "official":
        weights = network.read(folder)
    else:
        packed = dataset.prepare(folder, "embedded", validation_fraction=arguments.validation_fraction, seed=runtime.seed)
        outcome = train_experiment(
            f"pretrained-{name}", settings, runtime, packed,
            key=f"pretrained.{name}.train", start=read_start(settings.pretrained),
        )  # fmt: skip
        weights = network.without_head(outcome.weights)
    write_weights(PRETRAINED / f"{name}.safetensors", weights, arguments.source)
    discard(CHECKPOINTS / f"pretrained-{name}")


if __name__ == "__main__":
    run(main)
