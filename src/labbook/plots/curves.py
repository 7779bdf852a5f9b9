"""Draw learning curves, sweeps and pairs of experiments. Draw and write them within `labbook.plots.style`.

Margins are fixed, in inches, because automatic layout took a third of the time of the report.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator
from numpy.typing import NDArray

from labbook.plots import COLUMN, PAGE

__all__ = [
    "WATCHED", "Curves", "draw_comparison", "draw_learning_curves", "draw_overview", "draw_pair", "draw_sweep",
]  # fmt: skip

WATCHED = {"gradient_norms": "gradient norm", "dead_units": "dead units"}
SPLITS = {"train": "C0", "val": "C2", "test": "C1"}
LINES = ("-", "--", ":", "-.")
LEFT, RIGHT, TOP, BOTTOM, BETWEEN = 0.55, 0.08, 0.28, 0.42, 0.55  # margins, and the space between two axes, in inches


@dataclass(frozen=True)
class Curves:
    """The learning curves of one training.

    Attributes:
        name: of the experiment.
        history: one row per validation, with the columns of `labbook.training.history.Row`.
        kept: the row whose weights were selected, or `None` if the last weights are always used.
        watched: for each row, values by key of `WATCHED` and by layer.
    """

    name: str
    history: pd.DataFrame
    kept: int | None = None
    watched: Sequence[Mapping[str, Mapping[str, float]]] = ()

    @property
    def progress(self) -> str:
        """Return the column for the horizontal axis: `epoch`, or `step` if an epoch has several rows."""
        return "epoch" if self.history["epoch"].is_unique else "step"

    def by_layer(self, key: str) -> dict[str, list[float]]:
        """Return the values by layer: `hidden 1`, `hidden 2`, …, and `output` for the last layer of gradient norms."""
        layers = list(self.watched[0].get(key, {})) if self.watched else []
        names = [f"hidden {number}" for number in range(1, len(layers) + 1)]
        if key == "gradient_norms" and names:
            names[-1] = "output"
        return {name: [row[key][layer] for row in self.watched] for name, layer in zip(names, layers, strict=True)}


def draw_learning_curves(curves: Curves) -> Figure:
    """Draw loss and accuracy by epoch, for each split in the history."""
    figure, axes = _grid(1, 2, PAGE, 2.5)
    history, progress = curves.history, curves.progress
    for axis, measure in zip(axes[0], ("loss", "accuracy"), strict=True):
        for split, colour in SPLITS.items():
            values = history[f"{split}_{measure}"]
            if values.notna().any():
                axis.plot(history[progress], values, color=colour, label=split)
        if curves.kept is not None:
            ink = mpl.rcParams["text.color"]
            axis.axvline(history[progress].iloc[curves.kept], color=ink, linestyle=":", linewidth=1, label="kept")
        axis.set(xlabel=progress, ylabel=measure)
        axis.locator_params(axis="x", integer=True)
    _legend_above(figure)
    return figure


def draw_comparison(members: Sequence[Curves]) -> Figure:
    """Draw training (dashed) and validation (solid) curves of several experiments by step."""
    figure, axes = _grid(1, 2, PAGE, 2.5)
    for axis, measure in zip(axes[0], ("loss", "accuracy"), strict=True):
        for index, curves in enumerate(members):
            history = curves.history
            axis.plot(history["step"], history[f"train_{measure}"], "--", color=f"C{index}")
            axis.plot(history["step"], history[f"val_{measure}"], color=f"C{index}", label=curves.name)
        axis.set(xlabel="step", ylabel=measure)
        axis.locator_params(axis="x", integer=True)
    _legend_above(figure)
    return figure


def draw_overview(members: Sequence[Curves], goal: float) -> Figure:
    """Draw the test error of each experiment by epoch, on a logarithmic scale.

    Args:
        members: the experiments.
        goal: a test accuracy to mark.
    """
    figure, axes = _grid(1, 1, PAGE, 3.4, right=1.9, top=RIGHT)
    axis = axes[0, 0]
    for index, curves in enumerate(members):
        error = 100 * (1 - curves.history["test_accuracy"])
        # Every second curve is dashed, so that both of two identical curves are visible. The style has an odd number of
        # colours, so a repeated colour has the other line style.
        axis.plot(curves.history["epoch"], error, ("--", "-")[index % 2], label=curves.name, color=f"C{index}")
    axis.axhline(100 * (1 - goal), color=mpl.rcParams["text.color"], linestyle=":", linewidth=1)
    axis.set(xlabel="epoch", ylabel="test error, %", yscale="log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    _legend_beside(axis)
    return figure


def draw_sweep(rows: pd.DataFrame, key: str) -> Figure:
    """Draw test accuracy against the swept value.

    Args:
        rows: one per value, with the columns `value` and `test_accuracy`.
        key: the setting that is swept.
    """
    figure, axes = _grid(1, 1, COLUMN, 2.3, top=RIGHT)
    axes[0, 0].plot(rows["value"], rows["test_accuracy"], color=SPLITS["test"], marker="o")
    axes[0, 0].set(xlabel=key, ylabel="test accuracy", ylim=(0, 1.02))
    return figure


def draw_pair(first: Curves, second: Curves) -> Figure:
    """Draw loss and recorded values of two experiments by step, side by side with the same scales."""
    members = (first, second)
    columns = [_measures(curves) for curves in members]
    measures = [measure for measure in columns[0] if measure in columns[1]]
    figure, axes = _grid(len(measures), 2, PAGE, 0.7 + 1.5 * len(measures), right=0.85, between=0.2, sharex="col", sharey="row")
    for place, (curves, column) in enumerate(zip(members, columns, strict=True)):
        axes[0, place].set_title(curves.name)
        axes[-1, place].set_xlabel("step")
        for axis, measure in zip(axes[:, place], measures, strict=True):
            for (name, values), line in zip(column[measure].items(), LINES, strict=False):
                axis.plot(curves.history["step"], values, line, label=name, color=SPLITS.get(name))
    for axis, measure in zip(axes[:, 0], measures, strict=True):
        axis.set_ylabel(measure)
        if measure == WATCHED["gradient_norms"]:
            _scale_by_powers(axis, [value for column in columns for values in column[measure].values() for value in values])
        else:
            axis.set_ylim(0, None if measure == "loss" else 1.02)
    figure.align_ylabels(axes[:, 0])
    for axis in axes[:, 1]:
        _legend_beside(axis)
    return figure


def _measures(curves: Curves) -> dict[str, dict[str, Any]]:
    """Return the series of each measure: loss by split, gradient norms and dead units by layer, test accuracy."""
    history = curves.history
    splits = [split for split in SPLITS if history[f"{split}_loss"].notna().any()]
    measures: dict[str, dict[str, Any]] = {"loss": {split: history[f"{split}_loss"] for split in splits}}
    measures |= {measure: layers for key, measure in WATCHED.items() if (layers := curves.by_layer(key))}
    if "test" in splits:
        measures["accuracy"] = {"test": history["test_accuracy"]}
    return measures


def _scale_by_powers(axis: Axes, values: Sequence[float]) -> None:
    """Use a logarithmic scale down to the smallest positive value, and a linear one below."""
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
    """Return a figure of this size, in inches, and its axes, (rows, columns)."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for axis in axes.flat:
        axis.grid()
        axis.locator_params(nbins=5)  # drawing ticks takes most of the time
    width_of_one = (width - LEFT - right - between * (columns - 1)) / columns
    figure.subplots_adjust(LEFT / width, BOTTOM / height, 1 - right / width, 1 - top / height, wspace=between / width_of_one)
    return figure, axes


def _legend_above(figure: Figure) -> None:
    """Place the legend above the axes, where it covers no curve."""
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="upper right", ncols=4, borderaxespad=0.2)


def _legend_beside(axis: Axes) -> None:
    if axis.lines:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
