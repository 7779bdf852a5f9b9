"""How figures look, and how they are written: one style, and the same bytes for the same data.

https://matplotlib.org/stable/users/explain/customizing.html; https://reproducible-builds.org/docs/timestamps/.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
from matplotlib.figure import Figure

from labbook.core.files import write_bytes

__all__ = ["COLUMN", "PAGE", "render", "save", "style"]

STYLE = Path(__file__).with_name("labbook.mplstyle")
COLUMN, PAGE = 3.5, 7.2  # inches: as wide as a column of a two-column paper, and as its page's text

# What would differ with the day or with the version of the software.
UNSAID: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
    "svg": {"Creator": None, "Date": None},
}


@contextlib.contextmanager
def style(changes: Mapping[str, object] | None = None) -> Iterator[None]:
    """Draw and write in the project's style, whatever a user's own `matplotlibrc` says.

    Args:
        changes: settings of matplotlib's that take the place of the style's own.
    """
    with mpl.rc_context(dict(changes or {}), STYLE):  # type: ignore[arg-type]  # the stubs list every key
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PDF, PNG or SVG, by the suffix of `path`; its title is its name.

    Raises:
        LabbookError: the disk is full or the folder cannot be written.
    """
    write_bytes(path, render(figure, path.suffix.removeprefix("."), {"Title": path.stem}))


def render(figure: Figure, kind: str, metadata: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Give a figure as the bytes of a file of this kind: pdf, png or svg."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={**UNSAID[kind], **metadata})
    return buffer.getvalue()
