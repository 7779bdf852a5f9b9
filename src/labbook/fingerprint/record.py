"""The fingerprint of one stage: code, packages and settings, as a text file that is easy to read and compare."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labbook.errors import LabbookError
from labbook.fingerprint.packages import imported_versions
from labbook.fingerprint.sources import Sources

__all__ = ["FOLDER", "HEADER", "Fingerprint", "compute", "read"]

FOLDER = Path("code")  # where the `code` stage writes all fingerprints
HEADER = (
    "# What this stage runs: code with a hash of its meaning, packages with their version, then settings with their value. "
    "Written by the stage `code`."
)


@dataclass(frozen=True)
class Fingerprint:
    """Code, packages and settings of a stage.

    Attributes:
        code: the hash of each script, module and data file.
        packages: the version of each package that they import.
        settings: the value of each setting that the stage reads from `params.yaml`, as JSON.
    """

    code: dict[str, str]
    packages: dict[str, str]
    settings: dict[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return the file's text: one entry per line, and an empty line between code, packages and settings."""
        sections = (self.code, self.packages, self.settings)
        code, packages, settings = (
            "".join(f"{name} {value}\n" for name, value in sorted(section.items())) for section in sections
        )
        return f"{HEADER}\n{code}\n{packages}\n{settings}"

    @classmethod
    def from_text(cls, text: str) -> "Fingerprint":
        """Parse a text that `to_text` returned.

        Raises:
            ValueError: the text has a different format.
        """
        header, _, rest = text.partition("\n")
        sections = re.split(r"^\n", rest, flags=re.MULTILINE)
        if not header.startswith("#") or len(sections) != 3:
            raise ValueError("expected a header and three sections separated by empty lines")
        code, packages, settings = (section.splitlines() for section in sections)
        entries = [*(map(_entry, lines) for lines in (code, packages)), (_entry(line, json=True) for line in settings)]
        return cls(*map(dict, entries))

    def changes_to(self, other: "Fingerprint") -> list[str]:
        """Return one line for each module, data file, package and setting that differs in `other`, the newer one."""
        return [
            *_changes(self.code, other.code, "code", values=False),
            *_changes(self.packages, other.packages, "package", values=True),
            *_changes(self.settings, other.settings, "setting", values=True),
        ]


def compute(sources: Sources, script: str, modules: Iterable[str], settings: Mapping[str, str]) -> Fingerprint:
    """Compute the fingerprint of `stages/<script>.py`.

    Args:
        sources: sources of the project.
        script: stem of the stage's script.
        modules: modules that the script imports by name at run time.
        settings: settings that the script reads, as JSON by dotted key.

    Raises:
        LabbookError: a script or module is missing or is not valid Python.
    """
    closure = sources.closure(script, modules)
    return Fingerprint(closure.code, imported_versions(closure.imported), dict(settings))


def read(path: Path) -> Fingerprint | None:
    """Read a fingerprint; return `None` if the file is missing or has an older format.

    Raises:
        LabbookError: the file is damaged or cannot be read.
    """
    try:
        text = path.read_text("utf-8")
        outdated = text.startswith("#") and not text.startswith(f"{HEADER}\n")
        return None if outdated else Fingerprint.from_text(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LabbookError(f"{path}: not a fingerprint ({error}). Run `dvc repro --force --single-item code`.") from error


def _entry(line: str, *, json: bool = False) -> tuple[str, str]:
    """Split a line at its first space if the value is JSON, else at its last, because names of files may contain spaces."""
    name, separator, value = line.partition(" ") if json else line.rpartition(" ")
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
