"""An exercise: a question, the steps of its solution, and its computed and reported results."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from labbook.exercises.steps import Step

__all__ = ["Exercise", "Result"]


@dataclass(frozen=True)
class Result:
    """One quantity of an exercise: its computed and its reported value, which are numbers or arrays."""

    quantity: str
    computed: Any
    reported: Any

    @property
    def agrees(self) -> bool:
        """Return whether the two values are equal, without tolerance."""
        return np.array_equal(self.computed, self.reported)


@dataclass(frozen=True)
class Exercise:
    """A question, the steps of its solution, and the results.

    Attributes:
        name: key in `metrics/exercises.json`, and anchor on the page.
        assignment: letter of the assignment.
        question: heading on the page.
        steps: steps of the solution, in order.
        results: all quantities of the answer.
    """

    name: str
    assignment: str
    question: str
    steps: tuple[Step, ...]
    results: tuple[Result, ...]

    @property
    def agrees(self) -> bool:
        """Return whether all results agree."""
        return all(result.agrees for result in self.results)
