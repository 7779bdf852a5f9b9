"""Fetch stage: put a dataset's raw files into data/raw/<dataset>."""

import _here  # noqa: F401

import argparse
from pathlib import Path

from labbook.config.components import find
from labbook.stage import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--source", choices=("embedded", "official"), required=True)
    arguments = parser.parse_args()
    dataset = find("dataset", arguments.dataset, "datasets")
    dataset.fetch(arguments.source, Path("data/raw") / arguments.dataset)


if __name__ == "__main__":
    run(main)
