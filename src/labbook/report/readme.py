"""Put the table of results into README.md, between its two marks: `python -m labbook.report.readme`."""

from pathlib import Path

import pandas as pd

from labbook.errors import DataError
from labbook.io import read_bytes, write_bytes, write_text
from labbook.report.tables import COLUMNS, comparison, markdown
from labbook.stage import run

__all__ = ["fill", "read_results"]

BEGIN, END = "<!-- results: written by `make readme` -->", "<!-- end of results -->"


def read_results(path: Path) -> pd.DataFrame:
    """Read a table of results; columns that it lacks are empty.

    Raises:
        DataError: the file is missing.
    """
    read_bytes(path, "It is written by the report stage of a run with data.source=official.")
    return pd.read_csv(path).reindex(columns=COLUMNS)


def fill(readme: str, table: pd.DataFrame) -> str:
    """Return the text of the README with the table between the marks.

    Args:
        readme: its text.
        table: see `read_results`.

    Raises:
        DataError: a mark is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"README.md: the marks {BEGIN} and {END} are not both there. Put them around the table.")
    return f"{before}{BEGIN}\n\n{markdown(comparison(table))}\n\n{END}{after}"


def main() -> None:
    """Copy the tables of the last run on official data to `results/`, where git tracks them, and fill README.md."""
    for name in ("official.csv", "official.md"):
        made = Path("reports/tables") / name
        if made.is_file():
            write_bytes(Path("results") / name, made.read_bytes())
    readme = Path("README.md")
    table = read_results(Path("results/official.csv"))
    write_text(readme, fill(readme.read_text(encoding="utf-8"), table))


if __name__ == "__main__":
    run(main)
