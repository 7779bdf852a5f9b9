"""Prepare stage: turn a dataset's raw files into one packed file, data/processed/<dataset>.safetensors."""

import _here  # noqa: F401

import argparse
from pathlib import Path

from labbook.config.components import find
from labbook.data.packed import write_packed
from labbook.stage import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--source", choices=("embedded", "official"), required=True)
    parser.add_argument("--validation-fraction", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    raw = Path("data/raw") / arguments.dataset
    dataset = find("dataset", arguments.dataset, "datasets")
    packed = dataset.prepare(raw, arguments.source, arguments.validation_fraction, arguments.seed)
    write_packed(Path("data/processed") / f"{arguments.dataset}.safetensors", packed)


if __name__ == "__main__":
    run(main)
