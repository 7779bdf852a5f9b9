"""The history of a training: one row of metrics at each validation."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from labbook.io import write_tsv

__all__ = ["DECIMALS", "Row", "rounded", "write_history"]

DECIMALS = 6


@dataclass(frozen=True)
class Row:
    """One row: losses in nats, accuracies in [0, 1].

    Metrics on the training split are running means since the previous row, in training mode. Metrics on a split that the
    experiment does not use are `None`.
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


def write_history(path: Path, histories: Mapping[int, Iterable[Row]]) -> None:
    """Write the rows of all seeds to one TSV file."""
    columns = ["seed", *(field.name for field in fields(Row))]
    write_tsv(path, columns, ({"seed": seed, **rounded(row)} for seed, rows in histories.items() for row in rows))


def rounded(row: Row) -> dict[str, Any]:
    """Return the fields of a row by name, rounded to six decimals except for the learning rate."""
    return {
        name: round(value, DECIMALS) if isinstance(value, float) and name != "lr" else value
        for name, value in asdict(row).items()
    }
