"""What training writes down as it goes: one row each time it looks at its own figures."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from labbook.core.files import write_tsv

__all__ = ["Row", "rounded", "write_history"]

DIGITS = 6  # decimals that are kept


@dataclass(frozen=True)
class Row:
    """One row: losses in nats, accuracies in [0, 1]; train figures are those of the steps since the row before.

    Figures of a split that the experiment does not watch are `None`.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None


def write_history(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows as TSV, a name a column."""
    write_tsv(path, [field.name for field in fields(Row)], (rounded(row) for row in rows))


def rounded(row: Row) -> dict[str, object]:
    """Give a row by its names, figures to six decimals."""
    return {
        name: round(value, DIGITS) if isinstance(value, float) and name != "lr" else value
        for name, value in asdict(row).items()
    }
