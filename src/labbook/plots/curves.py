"""Draw learning curves, sweeps and pairs of experiments. Draw and write them within `labbook.plots.style`.

Margins are fixed, in inches, because automatic layout would take a third of the report's running time.
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
        name: name of the experiment.
        history: one row per validation, with the columns of `labbook.training.history.Row`.
        selected: index of the row whose weights were selected; `None` if the last weights are used regardless of metrics.
        watched: for each row, the recorded values by key of `WATCHED` and layer.
    """

    name: str
    history: pd.DataFrame
    selected: int | None = None
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
    for ax, metric in zip(axes[0], ("loss", "accuracy"), strict=True):
        for split, colour in SPLITS.items():
            values = history[f"{split}_{metric}"]
            if values.notna().any():
                ax.plot(history[progress], values, color=colour, label=split)
        if curves.selected is not None:
            colour = mpl.rcParams["text.color"]
            ax.axvline(history[progress].iloc[curves.selected], color=colour, linestyle=":", linewidth=1, label="selected")
        ax.set(xlabel=progress, ylabel=metric)
        ax.locator_params(axis="x", integer=True)
    _legend_above(figure)
    return figure


def draw_comparison(experiments: Sequence[Curves]) -> Figure:
    """Draw training (dashed) and validation (solid) curves of several experiments by step."""
    figure, axes = _grid(1, 2, PAGE, 2.5)
    for ax, metric in zip(axes[0], ("loss", "accuracy"), strict=True):
        for index, curves in enumerate(experiments):
            history = curves.history
            ax.plot(history["step"], history[f"train_{metric}"], "--", color=f"C{index}")
            ax.plot(history["step"], history[f"val_{metric}"], color=f"C{index}", label=curves.name)
        ax.set(xlabel="step", ylabel=metric)
        ax.locator_params(axis="x", integer=True)
    _legend_above(figure)
    return figure


def draw_overview(experiments: Sequence[Curves], goal: float) -> Figure:
    """Draw the test error of each experiment by epoch, on a logarithmic scale.

    Args:
        experiments: the experiments.
        goal: test accuracy to mark with a line.
    """
    figure, axes = _grid(1, 1, PAGE, 3.4, right=1.9, top=RIGHT)
    ax = axes[0, 0]
    for index, curves in enumerate(experiments):
        error = 100 * (1 - curves.history["test_accuracy"])
        # Every second curve is dashed, so that two identical curves are both visible. The style has an odd number of
        # colours, so a repeated colour gets the other line style.
        ax.plot(curves.history["epoch"], error, ("--", "-")[index % 2], label=curves.name, color=f"C{index}")
    ax.axhline(100 * (1 - goal), color=mpl.rcParams["text.color"], linestyle=":", linewidth=1)
    ax.set(xlabel="epoch", ylabel="test error, %", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    _legend_beside(ax)
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
    experiments = (first, second)
    columns = [_series_by_metric(curves) for curves in experiments]
    metrics = [metric for metric in columns[0] if metric in columns[1]]
    figure, axes = _grid(len(metrics), 2, PAGE, 0.7 + 1.5 * len(metrics), right=0.85, between=0.2, sharex="col", sharey="row")
    for place, (curves, column) in enumerate(zip(experiments, columns, strict=True)):
        axes[0, place].set_title(curves.name)
        axes[-1, place].set_xlabel("step")
        for ax, metric in zip(axes[:, place], metrics, strict=True):
            for (name, values), line in zip(column[metric].items(), LINES, strict=False):
                ax.plot(curves.history["step"], values, line, label=name, color=SPLITS.get(name))
    for ax, metric in zip(axes[:, 0], metrics, strict=True):
        ax.set_ylabel(metric)
        if metric == WATCHED["gradient_norms"]:
            _scale_by_powers(ax, [value for column in columns for values in column[metric].values() for value in values])
        else:
            ax.set_ylim(0, None if metric == "loss" else 1.02)
    figure.align_ylabels(axes[:, 0])
    for ax in axes[:, 1]:
        _legend_beside(ax)
    return figure


def _series_by_metric(curves: Curves) -> dict[str, dict[str, Any]]:
    """Return the curves of each metric: loss by split, gradient norms and dead units by layer, test accuracy."""
    history = curves.history
    splits = [split for split in SPLITS if history[f"{split}_loss"].notna().any()]
    metrics: dict[str, dict[str, Any]] = {"loss": {split: history[f"{split}_loss"] for split in splits}}
    metrics |= {metric: layers for key, metric in WATCHED.items() if (layers := curves.by_layer(key))}
    if "test" in splits:
        metrics["accuracy"] = {"test": history["test_accuracy"]}
    return metrics


def _scale_by_powers(ax: Axes, values: Sequence[float]) -> None:
    """Use a logarithmic scale down to the smallest positive value, and a linear one below."""
    lowest = 10.0 ** math.floor(math.log10(min((value for value in values if value > 0), default=1.0)))
    ax.set_yscale("symlog", linthresh=lowest, linscale=0.5)
    ax.set_ylim(bottom=-lowest / 2)


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
    for ax in axes.flat:
        ax.grid()
        ax.locator_params(nbins=5)  # drawing ticks takes most of the time
    axes_width = (width - LEFT - right - between * (columns - 1)) / columns
    figure.subplots_adjust(LEFT / width, BOTTOM / height, 1 - right / width, 1 - top / height, wspace=between / axes_width)
    return figure, axes


def _legend_above(figure: Figure) -> None:
    """Place the legend above the axes, where it covers no curve."""
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="upper right", ncols=4, borderaxespad=0.2)


def _legend_beside(ax: Axes) -> None:
    if ax.lines:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
