"""Derive stage: create the packed dataset data/processed/<dataset>.safetensors from another one."""

import _here  # noqa: F401

import argparse
from pathlib import Path

from labbook.config.components import find
from labbook.data.packed import read_packed, write_packed
from labbook.stage import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--made-from", required=True)
    parser.add_argument("--validation-fraction", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    processed = Path("data/processed")
    source = read_packed(processed / f"{arguments.made_from}.safetensors")
    dataset = find("derived", arguments.dataset, "derived")
    packed = dataset.derive(source, arguments.validation_fraction, arguments.seed)
    write_packed(processed / f"{arguments.dataset}.safetensors", packed)


if __name__ == "__main__":
    run(main)
