"""Synthetic records of experiments for tests of the report, with different numbers in every column."""

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from labbook.config.project import Project, parse_project
from labbook.config.reading import read
from labbook.config.train import resolve
from labbook.io import write_json, write_tsv
from labbook.plots import render, style
from labbook.report.records import Record

ROOT = Path(__file__).parents[1]
CLASSES = ("4", "9")
CONFUSION = "actual,predicted,count\n4,4,970\n4,9,30\n9,4,3\n9,9,606\n"


def params(source: str = "official") -> dict[str, Any]:
    """Return the repository's params.yaml with another data source."""
    return copy.deepcopy(_params()) | {"data": {"source": source}}


@functools.cache
def _params() -> dict[str, Any]:
    return read(ROOT / "params.yaml")


@functools.cache
def make_project(source: str = "official") -> Project:
    return parse_project(params(source))


def make_record(
    name: str, accuracies: Sequence[float], source: str = "official", seeds: int = 1, validation: Sequence[float] = ()
) -> Record:
    """Make a record.

    Args:
        name: name of an experiment of the repository.
        accuracies: test accuracy of the first seed by epoch; that of each further seed is lower by 0.001.
        source: data source.
        seeds: number of seeds; they are 0, 1, …
        validation: validation losses by row. If given, all rows belong to one epoch, and the row with the lowest loss is
            selected; otherwise, the last row is.
    """
    values = params()
    settings = resolve(values, f"experiments.{name}", source)
    official = resolve(values, f"experiments.{name}", "official").settings.model_dump(exclude_none=True)
    trained = settings.settings.model_dump(exclude_none=True) | {
        "seeds": seeds,
        "select": "best_val_loss" if validation else "last",
    }
    histories = {
        seed: make_history(seed, [accuracy - 0.001 * seed for accuracy in accuracies], validation) for seed in range(seeds)
    }
    summaries = [_summarize(seed, rows, selected=_lowest_row(validation)) for seed, rows in histories.items()]
    card = {
        "source": source,
        "device": "cpu",
        "torch": "2.0",
        "parameters": 21578,
        "dataset": "mnist",
        "digest": "d1",
        "classes": list(CLASSES),
        "image_shape": [1, 28, 28],
        "samples": {"train": 60000, "val": 0, "test": 10000},
        "settings": trained,
        "seeds": summaries,
        "metrics": summaries[0]["test"],
        "mistakes": [{"index": 0, "actual": "4", "predicted": "9", "confidence": 0.9}],
        "reliability": [{"from": 0.9333, "to": 1.0, "samples": 1991, "confidence": 0.99, "accuracy": 0.98}],
        "layers": [{"name": "1", "kind": "Linear", "shape": [10], "parameters": 21578}],
    }
    return Record(name, make_project().experiments[name], official, settings.origins, card, histories)


def make_history(seed: int, accuracies: Sequence[float], validation: Sequence[float] = ()) -> pd.DataFrame:
    count = len(accuracies)
    return pd.DataFrame(
        {
            "seed": seed,
            "epoch": [1] * count if validation else range(1, count + 1),
            "step": range(100, 100 * count + 1, 100),
            "lr": 0.05,
            "train_loss": [round(0.95 - accuracy, 6) for accuracy in accuracies],
            "train_accuracy": [round(accuracy + 0.005, 6) for accuracy in accuracies],
            "val_loss": [*validation] or float("nan"),
            "val_accuracy": [round(0.97 - loss, 6) for loss in validation] or float("nan"),
            "test_loss": [round(1.1 - accuracy, 6) for accuracy in accuracies],
            "test_accuracy": [round(accuracy, 6) for accuracy in accuracies],
        }
    )


def _lowest_row(validation: Sequence[float]) -> int:
    return list(validation).index(min(validation)) if validation else -1


def _summarize(seed: int, rows: pd.DataFrame, selected: int) -> dict[str, Any]:
    selected %= len(rows)
    row = rows.iloc[selected]
    accuracy = float(row["test_accuracy"])
    known = not rows["val_loss"].isna().any()
    return {
        "seed": seed,
        "steps": int(rows["step"].iloc[-1]),
        "epochs_trained": int(rows["epoch"].iloc[-1]),
        "stopped_early": False,
        "kept": {"row": selected, "epoch": int(row["epoch"]), "step": int(row["step"])},
        "train_loss": round(0.25 + 0.01 * seed, 6),
        "train_accuracy": round(0.95 - 0.002 * seed, 6),
        "val_loss": float(row["val_loss"]) if known else None,
        "val_accuracy": float(row["val_accuracy"]) if known else None,
        "test": {
            "test_loss": round(0.125 + 0.01 * seed, 6),
            "test_accuracy": accuracy,
            "test_ece": round(0.0123 + 0.001 * seed, 6),
            "chance_accuracy": 0.1135,
            "test_accuracy_per_class": {"4": 0.9878, "9": 0.997},
        },
    }


def write_record(record: Record, root: Path = Path()) -> None:
    """Write a record to files like those of the stages."""
    write_json(root / f"models/cards/{record.name}/card.json", record.card)
    rows = pd.concat(record.histories.values()).astype(object)
    rows = rows.where(rows.notna(), None).to_dict("records")
    write_tsv(root / f"plots/history/{record.name}.tsv", list(rows[0]), rows)
    write_pictures(record, root)


def write_pictures(record: Record, root: Path = Path(), kinds: Sequence[str] = ("samples",)) -> None:
    """Write the confusion counts and the pictures of a record."""
    folder = root / "plots/confusion"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{record.name}.csv").write_text(CONFUSION)
    for kind in kinds:
        picture = root / (
            f"plots/{kind}/{record.name}.png" if kind == "samples" else f"plots/explained/{record.name}/{kind}.png"
        )
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (7, 5)).save(picture)


def svg(draw: Callable[..., Figure], *arguments: Any) -> str:
    """Draw a figure and return it as SVG."""
    with style():
        return render(draw(*arguments), "svg").decode()
