"""Gradcheck stage: every layer from scratch against PyTorch and central differences, metrics/gradcheck.json."""

from pathlib import Path

from labbook.core.files import write_json
from labbook.core.runtime import configure
from labbook.core.stage import run
from labbook.gradcheck import check_all


def main() -> None:
    configure("cpu", threads=1, seed=0)
    write_json(Path("metrics/gradcheck.json"), check_all())


if __name__ == "__main__":
    run(main)
