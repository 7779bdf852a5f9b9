"""Exercises stage: what is worked out by hand, beside what was reported; metrics/exercises.json and a page of the report."""

import _here  # noqa: F401

from pathlib import Path

from labbook.exercises.page import metrics, write_page
from labbook.exercises.sheet import exercises
from labbook.io import write_json
from labbook.stage import run


def main() -> None:
    worked = exercises()
    write_json(Path("metrics/exercises.json"), metrics(worked))
    write_page(worked, Path("reports/exercises.html"))


if __name__ == "__main__":
    run(main)
