"""The fingerprint of one stage, as a text file that people can read and `git diff` can compare."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labbook.errors import LabbookError
from labbook.fingerprint.packages import imported_versions
from labbook.fingerprint.sources import Sources

__all__ = ["FOLDER", "HEADER", "Fingerprint", "compute", "read"]

FOLDER = Path("code")  # where the `code` stage writes all fingerprints
HEADER = "# What this stage runs: code with a hash of its meaning, packages with their version. Written by the stage `code`."


@dataclass(frozen=True)
class Fingerprint:
    """What a stage runs.

    Attributes:
        code: the hash of each script, module and data file.
        packages: the version of each package that they import.
    """

    code: dict[str, str]
    packages: dict[str, str]

    def to_text(self) -> str:
        """Return the file's text: one entry per line, code first, then packages behind an empty line."""
        code, packages = (
            "".join(f"{name} {value}\n" for name, value in sorted(part.items())) for part in (self.code, self.packages)
        )
        return f"{HEADER}\n{code}\n{packages}"

    @classmethod
    def from_text(cls, text: str) -> "Fingerprint":
        """Parse what `to_text` wrote.

        Raises:
            ValueError: the text is something else.
        """
        header, _, rest = text.partition("\n")
        code, separator, packages = rest.partition("\n\n")
        if not header.startswith("#") or not separator:
            raise ValueError("no header, or no empty line between code and packages")
        return cls(*(dict(_entry(line) for line in part.splitlines()) for part in (code, packages)))

    def changes_to(self, other: "Fingerprint") -> list[str]:
        """Return one line for each module, data file and package that differs in `other`, the newer one."""
        return [
            *_changes(self.code, other.code, "code", values=False),
            *_changes(self.packages, other.packages, "package", values=True),
        ]


def compute(sources: Sources, script: str, parts: Iterable[str]) -> Fingerprint:
    """Compute the fingerprint of `stages/<script>.py`, which chooses the modules `parts` by name when it runs.

    Raises:
        LabbookError: a script or module is missing or is not valid Python.
    """
    closure = sources.closure(script, parts)
    return Fingerprint(closure.code, imported_versions(closure.imported))


def read(path: Path) -> Fingerprint | None:
    """Read a fingerprint, or return None if there is none.

    Raises:
        LabbookError: the file is damaged or cannot be read.
    """
    try:
        return Fingerprint.from_text(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LabbookError(f"{path}: not a fingerprint ({error}). Run `dvc repro --force --single-item code`.") from error


def _entry(line: str) -> tuple[str, str]:
    name, separator, value = line.rpartition(" ")
    if not separator:
        raise ValueError(f"no value in the line {line!r}")
    return name, value


def _changes(old: dict[str, str], new: dict[str, str], kind: str, values: bool) -> list[str]:
    lines = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before is None:
            lines.append(f"{kind} {name} is new")
        elif after is None:
            lines.append(f"{kind} {name} is no longer used")
        elif before != after:
            lines.append(f"{kind} {name}: {before} → {after}" if values else f"{kind} {name} changed")
    return lines
