"""Gradcheck stage: compare every NumPy layer with PyTorch and with central differences; write metrics/gradcheck.json."""

import _here  # noqa: F401

from pathlib import Path

from labbook.io import write_json
from labbook.numpy_nn.gradcheck import check_all
from labbook.stage import run
from labbook.training.runtime import configure


def main() -> None:
    configure("cpu", threads=1, seed=0)
    write_json(Path("metrics/gradcheck.json"), check_all())


if __name__ == "__main__":
    run(main)
