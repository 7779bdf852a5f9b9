"""Fetch-pretrained stage: fetch published weights, or draw the dataset on which embedded weights are trained."""

import _here  # noqa: F401

import argparse
from pathlib import Path

from labbook.config.components import find
from labbook.stage import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pretrained")
    parser.add_argument("--source", choices=("embedded", "official"), required=True)
    parser.add_argument("--dataset", required=True)
    arguments = parser.parse_args()
    folder = Path("data/raw") / f"pretrained_{arguments.pretrained}"
    network = find("pretrained", arguments.pretrained, "pretrained")
    dataset = find("dataset", arguments.dataset, f"pretrained.{arguments.pretrained}.train.inputs.dataset")
    if arguments.source == "official":
        network.fetch(folder)
    else:
        dataset.fetch("embedded", folder)


if __name__ == "__main__":
    run(main)
