"""Describe experiments on 2D points, and count the seeds whose outcome is the one that the assignment claims.

An outcome is a condition on the measurements of one seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labbook.report.assignments import CLAIMS
from labbook.report.records import Record

__all__ = [
    "OUTCOMES", "Measured", "Outcome", "OutcomeCount", "count_outcomes", "describe_boundary", "describe_pair", "measure_seeds",
    "principles_table",
]  # fmt: skip

Measured = Mapping[str, Any]  # of one seed, see `measure_seeds`

BOUNDARY = ("boundary_pieces", "boundary_turning", "boundary_corners")
LEARNED = 0.9  # train accuracy; `steps_to_90_percent` is the first step that reaches it
MAX_LINE_TURNING = 10  # degrees; maximum total turning of a straight boundary
MIN_CORNERS = 0.5  # minimum share of the turning in the sharpest tenth of the length: 0.1 for a circle, 1 for a polygon
TOLERANCE = 0.05  # maximum difference of two errors that are considered equal
MAX_ERROR = 0.1  # maximum error of a network that has learned
MIN_DEAD_UNITS = 0.5  # minimum share of dead units in a layer


@dataclass(frozen=True)
class Outcome:
    """An outcome that an assignment claims.

    Attributes:
        description: the condition in words.
        holds: function of a seed's measurements and those of the same seed of the reference experiment.
    """

    description: str
    holds: Callable[[Measured, Measured], bool]


@dataclass(frozen=True)
class OutcomeCount:
    """The number of seeds that have an outcome."""

    description: str
    count: int
    seeds: int


OUTCOMES = {
    "corners": Outcome(
        f"a boundary with corners and an error of at most {MAX_ERROR:g}",
        lambda measured, _: _shape(measured) == "corners" and _error(measured) <= MAX_ERROR,
    ),
    "no_gradient": Outcome(
        f"no gradient in the hidden layer, no boundary, and an error within {TOLERANCE:g} of 0.5",
        lambda measured, _: (
            measured["largest_hidden_gradient"] == 0 and _shape(measured) == "none" and _is_close(_error(measured), 0.5)
        ),
    ),
    "slower_and_smoother": Outcome(
        f"slower than ReLU from the same seed, with a smoother boundary and an error within {TOLERANCE:g} of its error",
        lambda measured, relu: (
            _slower(measured, relu) and _smoother(measured, relu) and _is_close(_error(measured), _error(relu))
        ),
    ),
    "straight_line": Outcome(
        f"one straight line and an error within {TOLERANCE:g} of 0.4",
        lambda measured, _: _shape(measured) == "line" and _is_close(_error(measured), 0.4),
    ),
    "dead_units": Outcome(
        f"at least {MIN_DEAD_UNITS:.0%} of the units of a layer dead at the end, and an error within {TOLERANCE:g} of 0.5",
        lambda measured, _: (
            measured["dead_units"] is not None and measured["dead_units"] >= MIN_DEAD_UNITS and _is_close(_error(measured), 0.5)
        ),
    ),
    "fewer_dead_units": Outcome(
        f"fewer dead units than sorted from the same seed, and an error of at most {MAX_ERROR:g}",
        lambda measured, other: _fewer(measured["dead_units"], other["dead_units"]) and _error(measured) <= MAX_ERROR,
    ),
}


def measure_seeds(record: Record) -> dict[int, Measured]:
    """Return the measurements of each seed.

    The keys are `test_accuracy`, those of the boundary, `steps_to_90_percent` of train accuracy, `largest_hidden_gradient` in
    any row of the history, and `dead_units`, the largest share of a layer after the last row. Missing measurements are `None`.
    """
    return {seed["seed"]: _measure(seed, record.histories[seed["seed"]]) for seed in record.seeds}


def _measure(seed: Mapping[str, Any], history: pd.DataFrame) -> Measured:
    rows = seed.get("watched", [{}])
    hidden = [norm for row in rows for norm in list(row.get("gradient_norms", {}).values())[:-1]]
    learned = history.loc[history["train_accuracy"] >= LEARNED, "step"]
    return {
        **{key: seed["test"].get(key) for key in ("test_accuracy", *BOUNDARY)},
        "steps_to_90_percent": None if learned.empty else int(learned.iloc[0]),
        "largest_hidden_gradient": max(hidden, default=None),
        "dead_units": max(rows[-1].get("dead_units", {}).values(), default=None),
    }


def describe_pair(members: Sequence[Record]) -> str:
    """Return a sentence that describes the first seed of each experiment."""
    return (
        "; ".join(f"{record.spec.title}: {_describe(next(iter(measure_seeds(record).values())))}" for record in members) + "."
    )


def describe_boundary(measured: Measured) -> str:
    """Describe the shape of the boundary between the two classes."""
    return {
        "none": "no boundary",
        "line": "one straight line as the boundary",
        "corners": "a boundary with corners",
        "smooth": "a smooth boundary",
    }[_shape(measured)]


def count_outcomes(records: Sequence[Record]) -> dict[str, OutcomeCount]:
    """Count the seeds that have the claimed outcome, for each experiment with a claim.

    An experiment is skipped if its reference experiment was not run with the same seeds.
    """
    measured = {record.name: measure_seeds(record) for record in _claimed(records)}
    counts = {}
    for name, seeds in measured.items():
        claim = CLAIMS[name]
        references = measured.get(claim.reference, {}) if claim.reference else seeds
        if seeds.keys() <= references.keys():
            outcome = OUTCOMES[claim.outcome]
            counts[name] = OutcomeCount(
                outcome.description, sum(outcome.holds(seeds[seed], references[seed]) for seed in seeds), len(seeds)
            )
    return counts


def principles_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per experiment with a claim: test error by seed, claimed outcome, and number of seeds that have it."""
    counts = count_outcomes(records)
    rows = [
        {
            "experiment": f"`{record.name}`",
            "test error by seed": ", ".join(f"{_error(measured):.3f}" for measured in measure_seeds(record).values()),
            "outcome": counts[record.name].description if record.name in counts else "–",
            "observed in": f"{counts[record.name].count} of {counts[record.name].seeds}" if record.name in counts else "–",
        }
        for record in _claimed(records)
    ]
    return pd.DataFrame(rows)


def _claimed(records: Sequence[Record]) -> list[Record]:
    """Return the experiments on 2D points that have a claim."""
    return [record for record in records if record.name in CLAIMS and record.settings["task"] == "toy2d"]


def _describe(measured: Measured) -> str:
    """Describe one seed: hidden gradients, dead units or learning speed, boundary and error."""
    parts = []
    if measured["largest_hidden_gradient"] == 0:
        parts.append("no gradient reaches a hidden layer")
    if measured["dead_units"] is not None:
        parts.append(f"up to {measured['dead_units']:.0%} of the units of a layer are dead at the end")
    elif measured["steps_to_90_percent"] is not None:
        parts.append(f"{LEARNED:.0%} of the points are classified correctly after {measured['steps_to_90_percent']} steps")
    else:
        parts.append(f"{LEARNED:.0%} of the points are never classified correctly")
    return ", ".join([*parts, describe_boundary(measured), f"test error {_error(measured):.3f}"])


def _shape(measured: Measured) -> str:
    if not measured["boundary_pieces"]:
        return "none"
    if measured["boundary_pieces"] == 1 and measured["boundary_turning"] < MAX_LINE_TURNING:
        return "line"
    return "corners" if _corners(measured) >= MIN_CORNERS else "smooth"


def _corners(measured: Measured) -> float:
    return float(measured["boundary_corners"] or 0)  # undefined for zero turning


def _slower(measured: Measured, other: Measured) -> bool:
    """Return whether both learn, and `other` in fewer steps."""
    return _fewer(other["steps_to_90_percent"], measured["steps_to_90_percent"])


def _fewer(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one < other


def _smoother(measured: Measured, other: Measured) -> bool:
    return _shape(measured) == "smooth" and _shape(other) != "none" and _corners(measured) < _corners(other)


def _error(measured: Measured) -> float:
    return 1 - float(measured["test_accuracy"])


def _is_close(error: float, expected: float) -> bool:
    return abs(error - expected) <= TOLERANCE + 1e-9  # the last bit of 1 - 0.55 and 0.5 may differ
