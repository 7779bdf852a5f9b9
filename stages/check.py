"""Check stage: refuse a wrong params.yaml before anything else runs."""

from pathlib import Path

from labbook.files import write_text
from labbook.params.check import check_project
from labbook.stage import run


def main() -> None:
    check_project()
    # Always the same bytes, so that a valid change of params.yaml reruns no stage but those that it concerns.
    write_text(Path("data/params.ok"), "params.yaml is valid\n")


if __name__ == "__main__":
    run(main)
