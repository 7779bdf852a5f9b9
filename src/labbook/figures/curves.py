"""What training and experiments gave, as curves. Draw and write within `labbook.figures.style`.

Margins are fixed, in inches: a layout that was worked out anew for each figure took a third of the report's time.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator
from numpy.typing import NDArray

from labbook.figures import COLUMN, PAGE
from labbook.params.project import Project
from labbook.report.answers import threshold
from labbook.report.records import Record, SweepRecord, of_overview

__all__ = ["KINDS", "draw_all", "draw_comparison", "draw_learning_curves", "draw_overview", "draw_pair", "draw_sweep"]

KINDS = ("comparisons", "curves", "overview", "pairs", "sweeps")
COMPARED = (("cifar10_cnn", "cifar10_cnn_plus_flip"),)  # without and with augmentation

SPLITS = {"train": "C0", "val": "C2", "test": "C1"}
GRADIENTS = "gradient norm"
LEFT, RIGHT, TOP, BOTTOM, BETWEEN = 0.55, 0.08, 0.28, 0.42, 0.55  # margins, and what is between two axes, in inches


def draw_all(project: Project, records: Sequence[Record], sweeps: Sequence[SweepRecord]) -> Iterator[tuple[str, str, Figure]]:
    """Draw whatever these records show: the kind, one of `KINDS`, the name and the figure of each."""
    by_name = {record.name: record for record in records}
    for record in records:
        yield "curves", record.name, draw_learning_curves(record)
    for sweep in sweeps:
        yield "sweeps", sweep.name, draw_sweep(sweep)
    if watched := of_overview(list(records)):
        yield "overview", f"assignment_{watched[0].asked.assignment.lower()}", draw_overview(watched)
    for name, pair in project.pairs.items():
        if {pair.first, pair.second} <= by_name.keys():
            yield "pairs", name, draw_pair([by_name[pair.first], by_name[pair.second]])
    for names in COMPARED:
        if by_name.keys() >= set(names):
            yield "comparisons", names[-1], draw_comparison([by_name[name] for name in names])


def draw_learning_curves(record: Record) -> Figure:
    """Draw loss and accuracy by epoch, for each split that was watched."""
    figure, axes = _grid(1, 2, PAGE, 2.5)
    for axis, measure in zip(axes[0], ("loss", "accuracy"), strict=True):
        for split, colour in SPLITS.items():
            values = record.history[f"{split}_{measure}"]
            if values.notna().any():
                axis.plot(record.history[record.progress], values, color=colour, label=split)
        if record.card["kept"] != "last":
            ink = mpl.rcParams["text.color"]
            axis.axvline(record.kept[record.progress], color=ink, linestyle=":", linewidth=1, label="kept")
        axis.set(xlabel=record.progress, ylabel=measure)
        axis.locator_params(axis="x", integer=True)
    _legend_above(figure)
    return figure


def draw_comparison(records: Sequence[Record]) -> Figure:
    """Draw train (dashed) and validation (solid) figures of several records by step, to see what one change did."""
    figure, axes = _grid(1, 2, PAGE, 2.5)
    for axis, measure in zip(axes[0], ("loss", "accuracy"), strict=True):
        for place, record in enumerate(records):
            steps = record.history["step"]
            axis.plot(steps, record.history[f"train_{measure}"], "--", color=f"C{place}")
            axis.plot(steps, record.history[f"val_{measure}"], color=f"C{place}", label=record.name)
        axis.set(xlabel="step", ylabel=measure)
        axis.locator_params(axis="x", integer=True)
    _legend_above(figure)
    return figure


def draw_overview(records: Sequence[Record]) -> Figure:
    """Draw the test error of each record by epoch, on a logarithmic scale."""
    figure, axes = _grid(1, 1, PAGE, 3.4, right=1.9, top=RIGHT)
    axis = axes[0, 0]
    for place, record in enumerate(records):
        error = 100 * (1 - record.history["test_accuracy"])
        # Every second one is dashed: two that agree in every figure are both seen. The style has an odd number of colours, so
        # that each comes back with the other line.
        axis.plot(record.history["epoch"], error, ("--", "-")[place % 2], label=record.name, color=f"C{place}")
    for source in {record.card["source"] for record in records}:
        axis.axhline(100 * (1 - threshold(source)), color=mpl.rcParams["text.color"], linestyle=":", linewidth=1)
    axis.set(xlabel="epoch", ylabel="test error, %", yscale="log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    _legend_beside(axis)
    return figure


def draw_sweep(sweep: SweepRecord) -> Figure:
    """Draw test accuracy against the swept value."""
    figure, axes = _grid(1, 1, COLUMN, 2.3, top=RIGHT)
    axes[0, 0].plot(sweep.rows["value"], sweep.rows["test_accuracy"], color=SPLITS["test"], marker="o")
    axes[0, 0].set(xlabel=sweep.asked.vary.key, ylabel="test accuracy", ylim=(0, 1.02))
    return figure


def draw_pair(records: Sequence[Record]) -> Figure:
    """Draw, for two records side by side and to the same scales, loss and whatever was watched, by step."""
    columns = [_watched(record) for record in records]
    measures = [measure for measure in columns[0] if all(measure in column for column in columns)]
    figure, axes = _grid(len(measures), 2, PAGE, 0.7 + 1.5 * len(measures), right=0.85, between=0.2, sharex="col", sharey="row")
    for place, (record, column) in enumerate(zip(records, columns, strict=True)):
        axes[0, place].set_title(record.name)
        axes[-1, place].set_xlabel("step")
        for axis, measure in zip(axes[:, place], measures, strict=True):
            for (name, values), line in zip(column[measure].items(), ("-", "--", ":", "-."), strict=False):
                axis.plot(record.history["step"], values, line, label=name, color=SPLITS.get(name))
    for axis, measure in zip(axes[:, 0], measures, strict=True):
        axis.set_ylabel(measure)
        if measure == GRADIENTS:
            _scale_by_powers(axis, [value for column in columns for values in column[measure].values() for value in values])
        else:
            axis.set_ylim(0, None if measure == "loss" else 1.02)
    figure.align_ylabels(axes[:, 0])
    for axis in axes[:, 1]:
        _legend_beside(axis)
    return figure


def _watched(record: Record) -> dict[str, dict[str, Any]]:
    """Give the series of each measure: loss by split, gradient norms and dead units by layer, test accuracy."""
    history, watched = record.history, record.card.get("watched", [])
    splits = [split for split in SPLITS if history[f"{split}_loss"].notna().any()]
    measures: dict[str, dict[str, Any]] = {"loss": {split: history[f"{split}_loss"] for split in splits}}
    for measure, key in ((GRADIENTS, "gradient_norms"), ("dead units", "dead_units")):
        layers = list(watched[0].get(key, {})) if watched else []
        names = [f"hidden {number}" for number in range(1, len(layers) + 1)]
        if key == "gradient_norms" and names:
            names[-1] = "output"
        if layers:
            measures[measure] = {name: [row[key][layer] for row in watched] for name, layer in zip(names, layers, strict=True)}
    if "test" in splits:
        measures["accuracy"] = {"test": history["test_accuracy"]}
    return measures


def _scale_by_powers(axis: Axes, values: list[float]) -> None:
    """Scale by powers of ten down to the smallest value above zero; below it, evenly to zero and a little further."""
    lowest = 10.0 ** math.floor(math.log10(min((value for value in values if value > 0), default=1.0)))
    axis.set_yscale("symlog", linthresh=lowest, linscale=0.5)
    axis.set_ylim(bottom=-lowest / 2)


def _grid(
    rows: int,
    columns: int,
    width: float,
    height: float,
    *,
    right: float = RIGHT,
    top: float = TOP,
    between: float = BETWEEN,
    **shared: Any,
) -> tuple[Figure, NDArray[Any]]:
    """Make axes, (rows, columns), in a figure of so many inches."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for axis in axes.flat:
        axis.grid()
        axis.locator_params(nbins=5)  # ticks take most of the time of drawing
    of_one = (width - LEFT - right - between * (columns - 1)) / columns
    figure.subplots_adjust(LEFT / width, BOTTOM / height, 1 - right / width, 1 - top / height, wspace=between / of_one)
    return figure, axes


def _legend_above(figure: Figure) -> None:
    """Put the legend above the axes: inside, there is always a curve below it."""
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="upper right", ncols=4, borderaxespad=0.2)


def _legend_beside(axis: Axes) -> None:
    if axis.lines:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
