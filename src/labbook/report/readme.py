"""Replace the table of results in README.md, between two markers."""

import pandas as pd

from labbook.errors import DataError
from labbook.report.tables import comparison, markdown

__all__ = ["BEGIN", "END", "fill"]

BEGIN, END = "<!-- results: written by `make readme` -->", "<!-- end of results -->"


def fill(readme: str, table: pd.DataFrame) -> str:
    """Return the text of the README with the table between the markers.

    Args:
        readme: text of the README.
        table: table of results, from `labbook.report.tables.results_table`.

    Raises:
        DataError: a marker is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"README.md: a marker is missing. Put {BEGIN} before the table and {END} after it.")
    return f"{before}{BEGIN}\n\n{markdown(comparison(table))}\n\n{END}{after}"
