"""The exercises of all assignments."""

from labbook.exercises import assignment_a, assignment_b, assignment_c, assignment_d
from labbook.exercises.exercise import Exercise

__all__ = ["exercises"]


def exercises() -> list[Exercise]:
    """Solve the exercises of all assignments."""
    return [
        *assignment_a.exercises(),
        *assignment_b.exercises(),
        *assignment_c.exercises(),
        *assignment_d.exercises(),
    ]
