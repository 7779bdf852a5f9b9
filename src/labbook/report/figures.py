"""The page's figures, as SVG with the same bytes for the same data."""

import re

import pandas as pd
from matplotlib.figure import Figure

from labbook.figures import render, style
from labbook.figures.curves import draw_comparison, draw_learning_curves, draw_overview, draw_pair, draw_sweep
from labbook.report.records import Record, SweepRecord

__all__ = ["curve_points", "learning_curves", "overview", "pair_curves", "side_by_side", "standalone", "sweep_curve"]

INK = "#010203"  # stands for the page's own text colour, so that figures follow its light or dark theme
SCREEN: dict[str, object] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "font.size": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "grid.color": "#b0b0b0",
    "grid.alpha": 0.3,
}


def learning_curves(record: Record) -> str:
    """Draw loss and accuracy by epoch, for each split that was watched."""
    with style(SCREEN):
        return _svg(draw_learning_curves(record))


def sweep_curve(sweep: SweepRecord) -> str:
    """Draw test accuracy against the swept value."""
    with style(SCREEN):
        return _svg(draw_sweep(sweep))


def overview(records: list[Record]) -> str:
    """Draw the test error of each record by epoch, on a logarithmic scale."""
    with style(SCREEN):
        return _svg(draw_overview(records))


def side_by_side(records: list[Record]) -> str:
    """Draw train (dashed) and validation (solid) figures of several records by step, to see what one change did."""
    with style(SCREEN):
        return _svg(draw_comparison(records))


def pair_curves(records: list[Record]) -> str:
    """Draw, for two records side by side and to the same scales, loss and whatever was watched, by step."""
    with style(SCREEN):
        return _svg(draw_pair(records))


def curve_points(records: list[Record]) -> pd.DataFrame:
    """Put all histories below each other, an experiment's name in each row: one table for DVC's plots."""
    if not records:
        return pd.DataFrame(columns=["epoch", "train_accuracy", "experiment"])
    return pd.concat([record.history.assign(experiment=record.name) for record in records], ignore_index=True)


def standalone(svg: str) -> str:
    """Make a file of a page's figure: on white, for readers that show it alone."""
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg.replace("<svg ", '<svg style="background: white; color: #222" ', 1)


def _svg(figure: Figure) -> str:
    svg = render(figure, "svg").decode().replace(INK, "currentColor")
    return re.sub(r"[ \t]+$", "", svg[svg.index("<svg") :], flags=re.MULTILINE)
