"""Exercises stage: solve the paper exercises; write metrics/exercises.json and a page of the site."""

import _here  # noqa: F401

from pathlib import Path

from labbook.exercises.page import metrics, write_page
from labbook.exercises.sheet import exercises
from labbook.io import write_json
from labbook.stage import run


def main() -> None:
    solved = exercises()
    write_json(Path("metrics/exercises.json"), metrics(solved))
    write_page(solved, Path("reports/exercises.html"))


if __name__ == "__main__":
    run(main)
