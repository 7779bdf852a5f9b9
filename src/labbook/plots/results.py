"""Draw all results on official data: reported and reproduced test accuracies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labbook.plots import PAGE

__all__ = ["Result", "draw_results"]

ROW, GAP = 0.135, 0.34  # inches: height of an experiment, and between two panels
LEFT, RIGHT, TOP, BOTTOM = 1.75, 0.15, 0.4, 0.35  # inches around the panels
REPORTED, MEAN = "reported", "ours, mean over seeds; line: 95% prediction interval"
EARLIER = "ours, one run, earlier version"
BOUND = "reported lower bound"
MARKERS: Mapping[str, Mapping[str, Any]] = {
    REPORTED: {"marker": "|", "markersize": 8, "markeredgewidth": 1.5, "color": "#333333"},
    BOUND: {"marker": 5, "markersize": 6, "color": "#333333"},  # a caret to the right
    MEAN: {"marker": "o", "color": "C0"},
    EARLIER: {"marker": "o", "color": "C1", "markerfacecolor": "white"},
}


@dataclass(frozen=True)
class Result:
    """A reported test accuracy and ours.

    Attributes:
        name: of the experiment.
        reported: the accuracy in the report.
        ours: mean over the seeds, or the result of a single run.
        interval: 95% prediction interval of one more run; `None` for a single run.
        is_bound: whether the reported accuracy is a lower bound.
        is_earlier: whether ours is from a run by an earlier version of the code.
    """

    name: str
    reported: float
    ours: float
    interval: tuple[float, float] | None = None
    is_bound: bool = False
    is_earlier: bool = False


def draw_results(panels: Mapping[str, Sequence[Result]]) -> Figure:
    """Draw one panel per group of results, each with a separate scale.

    Args:
        panels: results by title.
    """
    counts = [len(results) for results in panels.values()]
    height = TOP + ROW * (sum(counts) + len(counts)) + GAP * (len(counts) - 1) + BOTTOM
    figure = Figure(figsize=(PAGE, height))
    bottom = height - TOP
    for count, (title, results) in zip(counts, panels.items(), strict=True):
        bottom -= ROW * (count + 1)
        bounds = (LEFT / PAGE, bottom / height, 1 - (LEFT + RIGHT) / PAGE, ROW * (count + 1) / height)
        ax = figure.add_axes(bounds)
        bottom -= GAP
        for position, result in enumerate(results):
            if result.interval:
                ax.plot(result.interval, (position, position), color="C0")
            ax.plot(result.ours, position, linestyle="", **MARKERS[EARLIER if result.is_earlier else MEAN])
            ax.plot(result.reported, position, linestyle="", **MARKERS[BOUND if result.is_bound else REPORTED])
        ax.set_yticks(range(count), [result.name for result in results])
        ax.set(ylim=(count - 0.25, -0.75))
        ax.text(0, 1, title, transform=ax.transAxes, va="bottom", size="medium")
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0)
    figure.axes[-1].set_xlabel("test accuracy", labelpad=1)
    handles = [Line2D([], [], linestyle="", label=label, **style) for label, style in MARKERS.items()]
    figure.legend(
        handles=handles, loc="upper center", ncols=len(MARKERS), borderaxespad=0.1, handletextpad=0.2, columnspacing=1
    )
    return figure
