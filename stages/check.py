"""Check stage: refuse a wrong params.yaml before anything else runs."""

from pathlib import Path

from labbook.core.files import write_text
from labbook.core.stage import run
from labbook.params.check import check_project


def main() -> None:
    check_project()
    # Always the same bytes, so that a valid change of params.yaml reruns no stage but those that it concerns.
    write_text(Path("data/params.ok"), "params.yaml is valid\n")


if __name__ == "__main__":
    run(main)
