"""Pretrain stage: write initial weights without the head, either published or trained on a drawn dataset."""

import _here  # noqa: F401

import argparse
from pathlib import Path

from labbook.config.components import find
from labbook.config.reading import read
from labbook.config.train import errors_at_origin, flat_settings, read_runtime, resolve
from labbook.fingerprint.check import check_settings
from labbook.stage import run
from labbook.training.checkpoint import CHECKPOINTS, discard
from labbook.training.experiment import train_experiment, write_weights
from labbook.training.pretrained import PRETRAINED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pretrained")
    parser.add_argument("--source", choices=("embedded", "official"), required=True)
    parser.add_argument("--validation-fraction", type=float, required=True)
    arguments = parser.parse_args()
    name = arguments.pretrained
    folder, values, key = Path("data/raw") / f"pretrained_{name}", read(), f"pretrained.{name}"
    settings, runtime = resolve(values, key, arguments.source).settings, read_runtime(values)
    check_settings(flat_settings(settings, runtime))
    network = find("pretrained", name, "pretrained")
    dataset = find("dataset", settings.inputs.dataset, f"{key}.train.inputs.dataset")
    if arguments.source == "official":
        weights = network.read(folder)
    else:
        packed = dataset.prepare(folder, "embedded", validation_fraction=arguments.validation_fraction, seed=runtime.seed)
        with errors_at_origin(key, arguments.source):
            result = train_experiment(f"pretrained-{name}", settings, runtime, packed, key=f"{key}.train")
        weights = network.without_head(result.weights)
    write_weights(PRETRAINED / f"{name}.safetensors", weights, arguments.source)
    discard(CHECKPOINTS / f"pretrained-{name}")


if __name__ == "__main__":
    run(main)
