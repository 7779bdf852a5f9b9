"""The report's figures, as SVG with the same bytes for the same data."""

import contextlib
import io
import math
import re
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labbook.report.answers import threshold
from labbook.report.records import Record, SweepRecord

__all__ = ["curve_points", "learning_curves", "overview", "pair_curves", "side_by_side", "standalone", "sweep_curve"]

# Okabe and Ito's palette: told apart by colour-blind readers, and readable on white and on black.
COLOURS = {"train": "#0072B2", "val": "#E69F00", "test": "#D55E00"}
STYLE: dict[str, object] = {
    "svg.hashsalt": "labbook",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}
GRADIENTS = "gradient norm"
INK = "#010203"  # stands for the page's own text colour, so that figures follow its light or dark theme


def learning_curves(record: Record) -> str:
    """Draw loss and accuracy by epoch, for each split that was watched."""
    with _style():
        figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.7), layout="constrained")
        for axis, measure in zip(axes, ("loss", "accuracy"), strict=True):
            for split, colour in COLOURS.items():
                values = record.history[f"{split}_{measure}"]
                if values.notna().any():
                    axis.plot(record.history[record.progress], values, color=colour, label=split, linewidth=1.4)
            if record.card["kept"] != "last":
                axis.axvline(record.kept[record.progress], color=INK, linestyle=":", linewidth=1, label="kept")
            axis.set(xlabel=record.progress, ylabel=measure)
        return _svg(_finish(figure))


def sweep_curve(sweep: SweepRecord) -> str:
    """Draw test accuracy against the swept value."""
    with _style():
        figure, axis = plt.subplots(figsize=(4.6, 2.6), layout="constrained")
        axis.plot(sweep.rows["value"], sweep.rows["test_accuracy"], color=COLOURS["test"], marker="o", markersize=4)
        axis.set_xlabel(sweep.asked.vary.key)
        axis.set_ylabel("test accuracy")
        axis.set_ylim(0, 1.02)
        return _svg(figure)


def overview(records: list[Record]) -> str:
    """Draw the test error of each record by epoch, on a logarithmic scale."""
    with _style():
        figure, axis = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
        for place, record in enumerate(records):
            error = 100 * (1 - record.history["test_accuracy"])
            # Every second one is dashed, so that two that agree in every figure are both seen.
            style = ("--", "-")[(place + place // 10) % 2]
            axis.plot(record.history["epoch"], error, style, label=record.name, linewidth=1.3, color=f"C{place % 10}")
        for source in {record.card["source"] for record in records}:
            axis.axhline(100 * (1 - threshold(source)), color=INK, linestyle=":", linewidth=1)
        axis.set(xlabel="epoch", ylabel="test error, %", yscale="log")
        axis.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        if records:
            axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
        return _svg(figure)


def side_by_side(records: list[Record]) -> str:
    """Draw train (dashed) and validation (solid) figures of several records by step, to see what one change did."""
    with _style():
        figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
        for axis, measure in zip(axes, ("loss", "accuracy"), strict=True):
            for place, record in enumerate(records):
                steps = record.history["step"]
                axis.plot(steps, record.history[f"train_{measure}"], color=f"C{place}", linestyle="--", linewidth=1.2)
                axis.plot(steps, record.history[f"val_{measure}"], color=f"C{place}", linewidth=1.4, label=record.name)
            axis.set(xlabel="step", ylabel=measure)
        return _svg(_finish(figure))


def pair_curves(records: list[Record]) -> str:
    """Draw, for two records side by side and to the same scales, loss and whatever was watched, by step."""
    columns = [_watched(record) for record in records]
    measures = [measure for measure in columns[0] if all(measure in column for column in columns)]
    with _style():
        figure, axes = plt.subplots(
            len(measures),
            2,
            figsize=(9, 0.6 + 1.9 * len(measures)),
            layout="constrained",
            sharex="col",
            sharey="row",
            squeeze=False,
        )
        for place, (record, column) in enumerate(zip(records, columns, strict=True)):
            axes[0, place].set_title(record.name)
            axes[-1, place].set_xlabel("step")
            for axis, measure in zip(axes[:, place], measures, strict=True):
                for (name, values), style in zip(column[measure].items(), ("-", "--", ":", "-."), strict=False):
                    colour = COLOURS.get(name)
                    axis.plot(record.history["step"], values, style, label=name, linewidth=1.3, color=colour)
        for axis, measure in zip(axes[:, 0], measures, strict=True):
            axis.set_ylabel(measure)
            if measure == GRADIENTS:
                _scale_by_powers(axis, [value for column in columns for values in column[measure].values() for value in values])
            else:
                axis.set_ylim(0, None if measure == "loss" else 1.02)
        for axis in axes[:, 1]:
            axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
        return _svg(figure)


def _watched(record: Record) -> dict[str, dict[str, Any]]:
    """Give the series of each measure: loss by split, gradient norms and dead units by layer, test accuracy."""
    history, watched = record.history, record.card.get("watched", [])
    splits = [split for split in COLOURS if history[f"{split}_loss"].notna().any()]
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


def curve_points(records: list[Record]) -> pd.DataFrame:
    """Put all histories below each other, an experiment's name in each row: one table for DVC's plots."""
    if not records:
        return pd.DataFrame(columns=["epoch", "train_accuracy", "experiment"])
    return pd.concat([record.history.assign(experiment=record.name) for record in records], ignore_index=True)


def _finish(figure: Figure) -> Figure:
    """Label whole epochs and full figures, and put the legend above the axes: inside, there is always a curve below it."""
    for axis in figure.axes:
        axis.locator_params(axis="x", integer=True)
        axis.ticklabel_format(axis="y", useOffset=False)
    figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    return figure


def _style() -> contextlib.AbstractContextManager[None]:
    inks = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    return mpl.rc_context(STYLE | inks)  # type: ignore[arg-type]  # the stubs list every key


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = buffer.getvalue().replace(INK, "currentColor")
    return re.sub(r"[ \t]+$", "", svg[svg.index("<svg") :], flags=re.MULTILINE)


def standalone(svg: str) -> str:
    """Make a file of a page's figure: on white, for readers that show it alone."""
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg.replace("<svg ", '<svg style="background: white; color: #222" ', 1)
