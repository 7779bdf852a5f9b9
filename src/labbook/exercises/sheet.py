"""The sheet of all exercises: each with its question, its working, and what comes out beside what the coursework reported.

What is computed, and every number in a working, comes from the functions of this package. Only reported values are typed.
"""

from labbook.exercises import assignment_a, assignment_b, assignment_c, assignment_d
from labbook.exercises.exercise import Exercise

__all__ = ["exercises"]


def exercises() -> list[Exercise]:
    """Work every exercise, by assignment."""
    return [
        *assignment_a.exercises(),
        *assignment_b.exercises(),
        *assignment_c.exercises(),
        *assignment_d.exercises(),
    ]
