"""Exercises stage: what is worked out by hand, beside what was reported; metrics/exercises.json and a page of the report."""

from pathlib import Path

from labbook.core.files import write_json
from labbook.core.stage import run
from labbook.exercises.page import metrics, write_page
from labbook.exercises.sheet import exercises


def main() -> None:
    worked = exercises()
    write_json(Path("metrics/exercises.json"), metrics(worked))
    write_page(worked, Path("reports/exercises.html"))


if __name__ == "__main__":
    run(main)
