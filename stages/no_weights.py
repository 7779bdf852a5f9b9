"""No-weights stage: write an empty weights file for experiments that start from random weights."""

import _here  # noqa: F401

from labbook.stage import run
from labbook.training.experiment import write_weights
from labbook.training.pretrained import PRETRAINED


def main() -> None:
    write_weights(PRETRAINED / "none.safetensors", {})


if __name__ == "__main__":
    run(main)
