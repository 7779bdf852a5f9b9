"""No-weights stage: an empty file of weights, for the experiments whose weights are all drawn at random."""

import _here  # noqa: F401

from labbook.stage import run
from labbook.training.experiment import write_weights
from labbook.training.pretrained import PRETRAINED


def main() -> None:
    write_weights(PRETRAINED / "none.safetensors", {})


if __name__ == "__main__":
    run(main)
