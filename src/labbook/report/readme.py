"""The table of results in README.md, between its two marks."""

import pandas as pd

from labbook.errors import DataError
from labbook.report.tables import comparison, markdown

__all__ = ["BEGIN", "END", "fill"]

BEGIN, END = "<!-- results: written by `make readme` -->", "<!-- end of results -->"


def fill(readme: str, table: pd.DataFrame) -> str:
    """Return the text of the README with the table between the marks.

    Args:
        readme: its text.
        table: as `labbook.report.tables.results_table` returns it.

    Raises:
        DataError: a mark is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"README.md: the marks {BEGIN} and {END} are not both there. Put them around the table.")
    return f"{before}{BEGIN}\n\n{markdown(comparison(table))}\n\n{END}{after}"
