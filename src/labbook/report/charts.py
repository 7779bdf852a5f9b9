"""Data of the charts that the site draws in the browser."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from labbook.plots.curves import WATCHED
from labbook.report.answers import threshold
from labbook.report.records import Record, SweepRecord

__all__ = [
    "Lines", "Series", "comparison_curves", "error_curves", "learning_curves", "pair_charts", "reliability", "sparkline",
    "sweep_curve", "watched_values",
]  # fmt: skip

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # column prefix in a history, and name
METRICS = ("loss", "accuracy")
COLOURS = 8  # in the style sheet
SPARKLINE = (96, 24)  # width and height of a sparkline, in pixels
SPARKLINE_POINTS = 48


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: name in the legend.
        colour: index of a colour of the page.
        x: horizontal positions of the points.
        y: their values; `None` leaves a gap.
        dashed: whether the line is dashed, to distinguish it from another of the same colour.
    """

    name: str
    colour: int
    x: list[float]
    y: list[float | None]
    dashed: bool = False


@dataclass(frozen=True)
class Lines:
    """A line chart.

    Attributes:
        label: description for screen readers.
        x: name of the horizontal axis.
        y: name of the vertical axis.
        series: the lines.
        scale: scale of the vertical axis; `symlog` is linear around zero.
        selected: position of the selected weights on the horizontal axis, if any.
        target: target value on the vertical axis, if any.
        y_range: range of the vertical axis, if it is shared with another chart.
        dots: whether to draw the points.
    """

    label: str
    x: str
    y: str
    series: tuple[Series, ...]
    scale: Literal["linear", "log", "symlog"] = "linear"
    selected: float | None = None
    target: float | None = None
    y_range: tuple[float, float] | None = None
    dots: bool = False


def learning_curves(record: Record) -> list[Lines]:
    """Return charts of loss and accuracy by epoch, one line per measured split."""
    curves = record.curves
    history, x = curves.history, curves.progress
    selected = None if curves.selected is None else float(history[x].iloc[curves.selected])
    charts = []
    for metric in METRICS:
        series = [
            Series(name, colour, _numbers(history[x]), _values(history[f"{split}_{metric}"]))
            for colour, (split, name) in enumerate(SPLITS.items())
            if history[f"{split}_{metric}"].notna().any()
        ]
        label = f"{metric.capitalize()} of {record.name} by {x}: " + ", ".join(_describe_ends(line) for line in series)
        charts.append(Lines(label, x, metric, tuple(series), selected=selected))
    return charts


def watched_values(record: Record) -> list[Lines]:
    """Return charts of gradient norms and dead units by step and layer, if they were recorded."""
    steps = _numbers(record.history["step"])
    charts = []
    for key, y in WATCHED.items():
        series = tuple(
            Series(name, colour, steps, [*values])
            for colour, (name, values) in enumerate(record.curves.by_layer(key).items(), start=len(SPLITS))
        )
        if series:
            label = f"{y.capitalize()} of {record.name} by step and layer: " + ", ".join(
                _describe_ends(line) for line in series
            )
            charts.append(Lines(label, "step", y, series, scale="symlog" if key == "gradient_norms" else "linear"))
    return charts


def pair_charts(first: Sequence[Lines], second: Sequence[Lines]) -> list[tuple[Lines, Lines]]:
    """Pair the charts of two experiments that show the same metric, and give both the same range."""
    pairs = []
    for left in first:
        for right in second:
            if left.y == right.y:
                values = [value for chart in (left, right) for line in chart.series for value in line.y if value is not None]
                y_range = (min(values), max(values))
                pairs.append((replace(left, y_range=y_range), replace(right, y_range=y_range)))
    return pairs


def error_curves(records: Sequence[Record]) -> Lines:
    """Return a chart of the test error of each record by epoch, in percent, on a logarithmic scale."""
    series = [
        Series(
            record.name,
            position,
            _numbers(record.history["epoch"]),
            [None if math.isnan(accuracy) else round(100 * (1 - accuracy), 4) for accuracy in record.history["test_accuracy"]],
            dashed=(position + position // COLOURS) % 2 == 0,  # so that two identical lines are both visible
        )
        for position, record in enumerate(records)
    ]
    target = 100 * (1 - threshold(records[0].card["source"]))
    label = "Test error by epoch, logarithmic scale: " + ", ".join(_describe_ends(line) for line in series)
    return Lines(label, "epoch", "test error, %", tuple(series), scale="log", target=round(target, 4))


def comparison_curves(records: Sequence[Record]) -> list[Lines]:
    """Return charts of training (dashed) and validation curves of several records by step."""
    charts = []
    for metric in METRICS:
        series = [
            Series(
                f"{record.name}, {SPLITS[split]}",
                position,
                _numbers(record.history["step"]),
                _values(record.history[f"{split}_{metric}"]),
                dashed=split == "train",
            )
            for position, record in enumerate(records)
            for split in ("train", "val")
        ]
        label = f"{metric.capitalize()} by step: " + ", ".join(_describe_ends(line) for line in series)
        charts.append(Lines(label, "step", metric, tuple(series)))
    return charts


def sweep_curve(sweep: SweepRecord) -> Lines:
    """Return a chart of test accuracy against the swept value."""
    line = Series("test", 2, _numbers(sweep.rows["value"]), _values(sweep.rows["test_accuracy"]))
    label = f"Test accuracy against {sweep.spec.vary.key}; the table has the values"
    return Lines(label, sweep.spec.vary.key, "test accuracy", (line,), y_range=(0, 1), dots=True)


def reliability(record: Record) -> dict[str, Any] | None:
    """Return the data of a reliability diagram, if calibration was measured."""
    bins = record.card.get("reliability")
    if not bins:
        return None
    error = record.card["metrics"]["test_ece"]
    return {"label": f"Accuracy by confidence of {record.name}; expected calibration error {error:.4f}", "bins": bins}


def sparkline(record: Record) -> dict[str, str]:
    """Return the points of a sparkline of accuracy, and its label for screen readers."""
    history = record.history
    split = next(split for split in ("test", "val", "train") if history[f"{split}_accuracy"].notna().any())
    curve = history[f"{split}_accuracy"].dropna()
    sampled = list(curve.iloc[:: max(1, len(curve) // SPARKLINE_POINTS)])
    width, height = SPARKLINE
    step = (width - 4) / max(1, len(sampled) - 1)
    points = " ".join(
        f"{2 + step * position:.1f},{height - 2 - (height - 4) * value:.1f}" for position, value in enumerate(sampled)
    )
    label = f"{SPLITS[split]} accuracy from {curve.iloc[0]:.2f} to {curve.iloc[-1]:.2f}, at most {curve.max():.2f}"
    return {"points": points, "label": label}


def _numbers(column: "pd.Series[float]") -> list[float]:
    return [value.item() if hasattr(value, "item") else value for value in column]


def _values(column: "pd.Series[float]") -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in column]


def _describe_ends(line: Series) -> str:
    """Describe the first and the last value of a line."""
    known = [value for value in line.y if value is not None]
    return f"{line.name} from {known[0]:.4g} to {known[-1]:.4g}" if known else line.name
