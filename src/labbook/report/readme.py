"""Put the table of results into README.md, between its two marks: `python -m labbook.report.readme`."""

from pathlib import Path

import pandas as pd

from labbook.core.errors import DataError
from labbook.core.files import read_bytes, write_text
from labbook.core.stage import run
from labbook.report.tables import comparison, markdown

__all__ = ["filled"]

BEGIN, END = "<!-- results: written by `make readme` -->", "<!-- end of results -->"


def filled(readme: str, table: pd.DataFrame) -> str:
    """Replace what stands between the marks by the table.

    Args:
        readme: its text.
        table: as `results/official.csv` holds it.

    Raises:
        DataError: a mark is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"README.md: the marks {BEGIN} and {END} are not both there. Put them around the table's place.")
    return f"{before}{BEGIN}\n\n{markdown(comparison(table))}\n\n{END}{after}"


def main() -> None:
    """Fill README.md from `results/official.csv`."""
    readme, results = Path("README.md"), Path("results/official.csv")
    read_bytes(results, "It is written by the report stage of a run with data.source=official.")
    text = readme.read_text(encoding="utf-8")
    write_text(readme, filled(text, pd.read_csv(results)))


if __name__ == "__main__":
    run(main)
