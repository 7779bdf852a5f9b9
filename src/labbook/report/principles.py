"""Describe experiments on 2D points, and count the seeds that show the outcome that the assignment claims.

An outcome is a condition on the measurements of one seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labbook.report.assignments import CLAIMS
from labbook.report.records import Record

__all__ = [
    "OUTCOMES", "Measured", "Outcome", "Seen", "count_seen", "describe_boundary", "describe_pair", "measure_seeds",
    "principles_table",
]  # fmt: skip

Measured = Mapping[str, Any]  # of one seed, see `measure_seeds`

BOUNDARY = ("boundary_pieces", "boundary_turning", "boundary_corners")
LEARNT = 0.9  # train accuracy; the first step that reaches it is measured
STRAIGHT = 10  # degrees: maximum total turning of a straight boundary
CORNERED = 0.5  # minimum share of the turning in the sharpest tenth of the length: 0.1 for a circle, 1 for a polygon
NEAR = 0.05  # maximum distance of two errors that count as about the same
SMALL = 0.1  # maximum error of a network that counts as having learnt
DEAD = 0.5  # minimum share of dead units in a layer


@dataclass(frozen=True)
class Outcome:
    """An outcome that an assignment claims.

    Attributes:
        words: the condition in words.
        seen: returns whether a seed fulfils it, given its measurements and those of the same seed of the reference experiment.
    """

    words: str
    seen: Callable[[Measured, Measured], bool]


@dataclass(frozen=True)
class Seen:
    """The number of seeds that show an outcome."""

    words: str
    count: int
    seeds: int


OUTCOMES = {
    "corners": Outcome(
        f"a boundary with corners and an error of at most {SMALL:g}",
        lambda own, _: _shape(own) == "corners" and _error(own) <= SMALL,
    ),
    "no_gradient": Outcome(
        f"no gradient in the hidden layer, no boundary, and an error within {NEAR:g} of 0.5",
        lambda own, _: own["largest_hidden_gradient"] == 0 and _shape(own) == "none" and _about(_error(own), 0.5),
    ),
    "slower_and_smoother": Outcome(
        f"slower than ReLU from the same seed, with a smoother boundary and an error within {NEAR:g} of its error",
        lambda own, relu: _slower(own, relu) and _smoother(own, relu) and _about(_error(own), _error(relu)),
    ),
    "straight_line": Outcome(
        f"one straight line and an error within {NEAR:g} of 0.4",
        lambda own, _: _shape(own) == "line" and _about(_error(own), 0.4),
    ),
    "dead_units": Outcome(
        f"at least {DEAD:.0%} of the units of a layer dead at the end, and an error within {NEAR:g} of 0.5",
        lambda own, _: own["dead_units"] is not None and own["dead_units"] >= DEAD and _about(_error(own), 0.5),
    ),
    "fewer_dead_units": Outcome(
        f"fewer dead units than sorted from the same seed, and an error of at most {SMALL:g}",
        lambda own, other: _fewer(own["dead_units"], other["dead_units"]) and _error(own) <= SMALL,
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
    learnt = history.loc[history["train_accuracy"] >= LEARNT, "step"]
    return {
        **{key: seed["test"].get(key) for key in ("test_accuracy", *BOUNDARY)},
        "steps_to_90_percent": None if learnt.empty else int(learnt.iloc[0]),
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


def count_seen(records: Sequence[Record]) -> dict[str, Seen]:
    """Count the seeds that show the claimed outcome, for each experiment with a claim.

    An experiment is skipped if its reference experiment was not run with the same seeds.
    """
    measured = {record.name: measure_seeds(record) for record in _claimed(records)}
    found = {}
    for name, seeds in measured.items():
        claim = CLAIMS[name]
        others = measured.get(claim.reference, {}) if claim.reference else seeds
        if seeds.keys() <= others.keys():
            outcome = OUTCOMES[claim.outcome]
            found[name] = Seen(outcome.words, sum(outcome.seen(seeds[seed], others[seed]) for seed in seeds), len(seeds))
    return found


def principles_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per experiment with a claim: test error by seed, outcome, and number of seeds that show it."""
    seen = count_seen(records)
    rows = [
        {
            "experiment": f"`{record.name}`",
            "test error by seed": ", ".join(f"{_error(measured):.3f}" for measured in measure_seeds(record).values()),
            "outcome": seen[record.name].words if record.name in seen else "–",
            "seen in": f"{seen[record.name].count} of {seen[record.name].seeds}" if record.name in seen else "–",
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
        parts.append(f"{LEARNT:.0%} of the points are classified correctly after {measured['steps_to_90_percent']} steps")
    else:
        parts.append(f"{LEARNT:.0%} of the points are never classified correctly")
    return ", ".join([*parts, describe_boundary(measured), f"test error {_error(measured):.3f}"])


def _shape(measured: Measured) -> str:
    if not measured["boundary_pieces"]:
        return "none"
    if measured["boundary_pieces"] == 1 and measured["boundary_turning"] < STRAIGHT:
        return "line"
    return "corners" if _corners(measured) >= CORNERED else "smooth"


def _corners(measured: Measured) -> float:
    return float(measured["boundary_corners"] or 0)  # undefined for zero turning


def _slower(own: Measured, other: Measured) -> bool:
    """Return whether both learn, and `other` in fewer steps."""
    return _fewer(other["steps_to_90_percent"], own["steps_to_90_percent"])


def _fewer(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one < other


def _smoother(own: Measured, other: Measured) -> bool:
    return _shape(own) == "smooth" and _shape(other) != "none" and _corners(own) < _corners(other)


def _error(measured: Measured) -> float:
    return 1 - float(measured["test_accuracy"])


def _about(error: float, wanted: float) -> bool:
    return abs(error - wanted) <= NEAR + 1e-9  # the last bit of 1 - 0.55 and 0.5 may differ
