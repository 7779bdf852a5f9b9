"""What two experiments on points in a plane show: words chosen by measured figures, and how many random starts agree.

The assignment says what each of them does; an outcome turns that into conditions on the figures of one random start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labbook.report.records import PairRecord

__all__ = ["OUTCOMES", "Figures", "Outcome", "Seen", "count_seen", "principles_table", "tell_boundary", "tell_pair"]

Figures = Mapping[str, Any]  # of one random start, as the pair stage wrote them

STRAIGHT = 10  # degrees: a boundary that turns less is a line
CORNERED = 0.5  # of its turning in the sharpest tenth of its length: 0.1 for a circle, 1 for a polygon
NEAR = 0.05  # two errors that are as close are about the same
SMALL = 0.1  # an error up to this is that of a network that has learnt
DEAD = 0.5  # of the units of a layer


@dataclass(frozen=True)
class Outcome:
    """What the assignment says of an experiment.

    Attributes:
        words: the conditions, for the reader.
        seen: whether the figures of a start fulfil them; the second ones are those of `beside`.
        beside: the experiment whose same start it is compared with, if any.
    """

    words: str
    seen: Callable[[Figures, Figures], bool]
    beside: str | None = None


@dataclass(frozen=True)
class Seen:
    """In how many of the random starts an outcome is seen."""

    words: str
    count: int
    starts: int


OUTCOMES = {
    "rings_relu_random": Outcome(
        f"a boundary with corners and an error of at most {SMALL:g}",
        lambda own, _: _shape(own) == "corners" and _error(own) <= SMALL,
    ),
    "rings_relu_zero": Outcome(
        f"no gradient in the hidden layer, no boundary, and an error within {NEAR:g} of 0.5",
        lambda own, _: own["largest_hidden_gradient"] == 0 and _shape(own) == "none" and _about(_error(own), 0.5),
    ),
    "rings_sigmoid_random": Outcome(
        f"slower than ReLU from the same start, with a smoother boundary and an error within {NEAR:g} of its",
        lambda own, relu: _slower(own, relu) and _smoother(own, relu) and _about(_error(own), _error(relu)),
        beside="rings_relu_random",
    ),
    "rings_sigmoid_zero": Outcome(
        f"one straight line and an error within {NEAR:g} of 0.4",
        lambda own, _: _shape(own) == "line" and _about(_error(own), 0.4),
    ),
    "dying_relu_sorted": Outcome(
        f"at least {DEAD:.0%} of a layer's units dead at the end, and an error within {NEAR:g} of 0.5",
        lambda own, _: own["dead_units"] >= DEAD and _about(_error(own), 0.5),
    ),
    "dying_relu_shuffled": Outcome(
        f"fewer dead units than sorted from the same start, and an error of at most {SMALL:g}",
        lambda own, other: own["dead_units"] < other["dead_units"] and _error(own) <= SMALL,
        beside="dying_relu_sorted",
    ),
}


def tell_pair(pair: PairRecord) -> str:
    """Say in one sentence what the first start of both experiments shows."""
    return "; ".join(f"{pair.titles[name]}: {_tell(next(iter(starts.values())))}" for name, starts in pair.starts.items()) + "."


def tell_boundary(figures: Figures) -> str:
    """Say what the boundary between the two classes is like."""
    return {
        "none": "no boundary",
        "line": "one straight line as the boundary",
        "corners": "a boundary with corners",
        "smooth": "a smooth boundary",
    }[_shape(figures)]


def count_seen(pairs: Sequence[PairRecord]) -> dict[str, Seen]:
    """Count for each experiment the starts in which its outcome is seen, where what it is compared with was run too."""
    starts = {name: rows for pair in pairs for name, rows in pair.starts.items()}
    found = {}
    for name, rows in starts.items():
        outcome = OUTCOMES.get(name)
        others = starts.get(outcome.beside, {}) if outcome and outcome.beside else rows
        if outcome and rows.keys() <= others.keys():
            found[name] = Seen(outcome.words, sum(outcome.seen(rows[start], others[start]) for start in rows), len(rows))
    return found


def principles_table(pairs: Sequence[PairRecord]) -> pd.DataFrame:
    """Put one row an experiment: its errors by random start, what the outcome is, and in how many of them it is seen."""
    seen = count_seen(pairs)
    rows = [
        {
            "experiment": f"`{name}`",
            "test error by random start": ", ".join(f"{_error(figures):.3f}" for figures in starts.values()),
            "outcome": seen[name].words if name in seen else "–",
            "seen in": f"{seen[name].count} of {seen[name].starts}" if name in seen else "–",
        }
        for pair in pairs
        for name, starts in pair.starts.items()
    ]
    return pd.DataFrame(rows)


def _tell(figures: Figures) -> str:
    """Say what one start shows: what reached the hidden layers, which units died, when it learnt, the boundary, the error."""
    parts = []
    if figures["largest_hidden_gradient"] == 0:
        parts.append("no gradient ever reaches a hidden layer")
    if figures["dead_units"] is not None:
        parts.append(f"up to {figures['dead_units']:.0%} of a layer's units are dead at the end")
    elif figures["steps_to_90_percent"] is not None:
        parts.append(f"90% of the points are right after {figures['steps_to_90_percent']} steps")
    else:
        parts.append("90% of the points are never right")
    return ", ".join([*parts, tell_boundary(figures), f"test error {_error(figures):.3f}"])


def _shape(figures: Figures) -> str:
    if not figures["boundary_pieces"]:
        return "none"
    if figures["boundary_pieces"] == 1 and figures["boundary_turning"] < STRAIGHT:
        return "line"
    return "corners" if figures["boundary_corners"] >= CORNERED else "smooth"


def _slower(own: Figures, other: Figures) -> bool:
    """Tell whether both learn, and the other one in fewer steps."""
    return (
        None not in (own["steps_to_90_percent"], other["steps_to_90_percent"])
        and own["steps_to_90_percent"] > other["steps_to_90_percent"]
    )


def _smoother(own: Figures, other: Figures) -> bool:
    return _shape(own) == "smooth" and _shape(other) != "none" and own["boundary_corners"] < other["boundary_corners"]


def _error(figures: Figures) -> float:
    return 1 - float(figures["test_accuracy"])


def _about(error: float, wanted: float) -> bool:
    return abs(error - wanted) <= NEAR + 1e-9  # of 1 - 0.55 and 0.5 the last bit may differ
