"""Find the installed packages that provide what code imports, and their versions, without importing any of them.

`importlib.metadata.packages_distributions` finds them too, but parses the metadata and the file list of every installed
package, which takes longer than the rest of a fingerprint. Here, a package is first looked up by the name of the import. All
packages are searched only if the names differ, as with Pillow, which is imported as PIL.
https://packaging.python.org/en/latest/specifications/recording-installed-packages/
"""

import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["ABSENT", "NOT_COUNTED", "imported_versions", "installed_versions"]

# rich only prints and filelock only locks: their versions do not change what a stage writes.
NOT_COUNTED = {"filelock", "rich"}

ABSENT = "absent"  # version of a package that is imported but not installed


def imported_versions(imports: Iterable[str]) -> dict[str, str]:
    """Return the version of each installed package that provides one of the imports, such as `torch.nn`.

    The standard library and `NOT_COUNTED` are left out. An import that nothing provides has the version `ABSENT`.
    """
    tops = {name.partition(".")[0] for name in imports} - sys.stdlib_module_names
    providers = {provider for top in tops for provider in _providers(top, tuple(sys.path))}
    return installed_versions(providers - NOT_COUNTED)


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each distribution, without the build's label, such as `+cpu`."""
    installed = _installed(tuple(sys.path))
    return {name: _version(installed[name]) if name in installed else ABSENT for name in distributions}


@cache
def _installed(folders: tuple[str, ...]) -> dict[str, Path]:
    """Return the metadata folder of every distribution, by its normalised name; an earlier folder hides a later one."""
    found: dict[str, Path] = {}
    for folder in filter(Path.is_dir, map(Path, folders)):
        for path in folder.iterdir():
            if path.suffix in {".dist-info", ".egg-info"}:
                found.setdefault(_normalise(path.stem.partition("-")[0]), path)
    return found


def _normalise(name: str) -> str:
    """Return the normalised name of a distribution: https://packaging.python.org/en/latest/specifications/name-normalization/."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _providers(top: str, folders: tuple[str, ...]) -> list[str]:
    """Return the distributions that install the module or package `top`, or `top` itself if none does."""
    installed, same = _installed(folders), _normalise(top)
    if same in installed and _provides(installed[same], top):
        return [same]
    return [name for name, path in installed.items() if _provides(path, top)] or [same]


def _provides(distribution: Path, top: str) -> bool:
    listed = _read(distribution / "top_level.txt")
    if listed is not None:
        return top in listed.split()
    files = _read(distribution / "RECORD") or ""
    return f"\n{top}/" in f"\n{files}" or f"\n{top}." in f"\n{files}"


@cache
def _version(distribution: Path) -> str:
    """Read the version from a distribution's metadata, which is a folder, or one file in old installations."""
    metadata = _read(distribution / "METADATA") or _read(distribution / "PKG-INFO") or _read(distribution) or ""
    found = re.search(r"^Version: *([^\s+]+)", metadata, re.MULTILINE)
    return found[1] if found else ABSENT


@cache
def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except OSError:
        return None
