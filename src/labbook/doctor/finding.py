"""A finding of the doctor: a problem or a note, and how to fix it."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """A problem or a note.

    Args:
        found: what was found, and where.
        remedy: how to fix it.
        repair: fixes it and returns what was done; `None` if the doctor cannot fix it.
        wrong: whether it is a problem; otherwise it is a note.
    """

    found: str
    remedy: str = ""
    repair: Callable[[], str] | None = None
    wrong: bool = True

    def __str__(self) -> str:
        return f"{self.found}. {self.remedy}" if self.remedy else self.found
