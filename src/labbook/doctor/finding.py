"""What the doctor reports: a problem or a note, and how to fix it."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """A problem or a note.

    Args:
        message: what is wrong or worth knowing, and where.
        remedy: how to fix it.
        repair: fixes it and returns a description of the repair; `None` if the doctor cannot fix it.
        is_problem: whether it is a problem; otherwise it is a note.
    """

    message: str
    remedy: str = ""
    repair: Callable[[], str] | None = None
    is_problem: bool = True

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message
