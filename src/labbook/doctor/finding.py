"""What the doctor says: one line for what was found and what would do."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Args:
        found: what and where.
        remedy: what would do, for a person.
        mend: does it and says what was done; `None` where the doctor cannot.
        wrong: otherwise it is a note, and all is well.
    """

    found: str
    remedy: str = ""
    mend: Callable[[], str] | None = None
    wrong: bool = True

    def __str__(self) -> str:
        return f"{self.found}. {self.remedy}" if self.remedy else self.found
