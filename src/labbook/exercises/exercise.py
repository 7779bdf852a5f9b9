"""What an exercise is: a question, the way to its answer, and each figure beside what the coursework reported."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from labbook.exercises.steps import Step

__all__ = ["Exercise", "Result"]


@dataclass(frozen=True)
class Result:
    """One figure of an exercise: ours and the reported one, numbers or arrays."""

    figure: str
    computed: Any
    reported: Any

    @property
    def agrees(self) -> bool:
        """Whether both are the same, with no tolerance."""
        return np.array_equal(self.computed, self.reported)


@dataclass(frozen=True)
class Exercise:
    """A question, the way to its answer, and the answer.

    Attributes:
        name: in `metrics/exercises.json` and as the target of links.
        assignment: its letter.
        question: as a heading.
        working: the steps, in order.
        results: every figure that comes out.
    """

    name: str
    assignment: str
    question: str
    working: tuple[Step, ...]
    results: tuple[Result, ...]

    @property
    def agrees(self) -> bool:
        """Whether every figure does."""
        return all(result.agrees for result in self.results)
