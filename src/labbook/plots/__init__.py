"""A common style for all figures, and files whose bytes depend only on the data.

https://matplotlib.org/stable/users/explain/customizing.html; https://reproducible-builds.org/docs/timestamps/.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
from matplotlib.figure import Figure

from labbook.io import write_bytes

__all__ = ["COLUMN", "PAGE", "render", "save", "style"]

STYLE = Path(__file__).with_name("labbook.mplstyle")
COLUMN, PAGE = 3.5, 7.2  # inches: column width and text width of a two-column paper

# Metadata that depends on the date or on the version of the software.
OMITTED_METADATA: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
    "svg": {"Creator": None, "Date": None},
}


@contextlib.contextmanager
def style(changes: Mapping[str, object] | None = None) -> Iterator[None]:
    """Apply the style of the project, regardless of the user's `matplotlibrc`.

    Args:
        changes: matplotlib settings that override the style.
    """
    with mpl.rc_context(dict(changes or {}), STYLE):  # type: ignore[arg-type]  # the stubs list every key
        yield


def save(figure: Figure, path: Path, title: str | None = None) -> None:
    """Write a figure as PDF, PNG or SVG, depending on the suffix of `path`; the default title is the stem of `path`.

    Raises:
        LabbookError: the disk is full or the folder cannot be written.
    """
    write_bytes(path, render(figure, path.suffix.removeprefix("."), {"Title": title or path.stem}))


def render(figure: Figure, kind: str, metadata: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Render a figure as pdf, png or svg, and return the bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={**OMITTED_METADATA[kind], **metadata})
    return buffer.getvalue()
