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
REPORTED, MEAN = "reported", "ours, mean over seeds; line: one more run, 95 %"
EARLIER = "ours, one run, earlier version"
BOUND = "reported: over"
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
        interval: prediction interval of one more run; `None` for a single run.
        is_bound: whether the reported accuracy is a lower bound.
        is_earlier: whether ours is from an earlier version of the code.
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
        box = (LEFT / PAGE, bottom / height, 1 - (LEFT + RIGHT) / PAGE, ROW * (count + 1) / height)
        axis = figure.add_axes(box)
        bottom -= GAP
        for place, result in enumerate(results):
            if result.interval:
                axis.plot(result.interval, (place, place), color="C0")
            axis.plot(result.ours, place, linestyle="", **MARKERS[EARLIER if result.is_earlier else MEAN])
            axis.plot(result.reported, place, linestyle="", **MARKERS[BOUND if result.is_bound else REPORTED])
        axis.set_yticks(range(count), [result.name for result in results])
        axis.set(ylim=(count - 0.25, -0.75))
        axis.text(0, 1, title, transform=axis.transAxes, va="bottom", size="medium")
        axis.grid(axis="x")
        axis.tick_params(axis="y", length=0)
    figure.axes[-1].set_xlabel("test accuracy", labelpad=1)
    handles = [Line2D([], [], linestyle="", label=label, **look) for label, look in MARKERS.items()]
    figure.legend(
        handles=handles, loc="upper center", ncols=len(MARKERS), borderaxespad=0.1, handletextpad=0.2, columnspacing=1
    )
    return figure
