"""The error of this package; it stands apart from `labbook.errors`, on which every training depends."""

from labbook.errors import LabbookError

__all__ = ["ExerciseError"]


class ExerciseError(LabbookError):
    """Numbers with which an exercise cannot be worked."""
