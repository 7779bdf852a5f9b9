"""Find the installed packages that provide imported modules, and their versions, without importing them.

`importlib.metadata.packages_distributions` finds them too, but parses the metadata and the file list of every installed
package, which takes longer than the rest of a fingerprint. Here, a package is first looked up by the name of the import. All
packages are searched only if the names differ, as for Pillow, which is imported as PIL.
https://packaging.python.org/en/latest/specifications/recording-installed-packages/
"""

import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["ABSENT", "IGNORED", "imported_versions", "installed_versions"]

# rich only prints and filelock only locks: their versions do not change the outputs of a stage.
IGNORED = {"filelock", "rich"}

ABSENT = "absent"  # version of a package that is imported but not installed


def imported_versions(imports: Iterable[str]) -> dict[str, str]:
    """Return the version of each installed package that provides one of the imports, such as `torch.nn`.

    The standard library and `IGNORED` are omitted. An import that no package provides has the version `ABSENT`.
    """
    modules = {name.partition(".")[0] for name in imports} - sys.stdlib_module_names
    providers = {provider for module in modules for provider in _providers(module, tuple(sys.path))}
    return installed_versions(providers - IGNORED)


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each distribution, without its local part, such as `+cpu`."""
    installed = _installed(tuple(sys.path))
    return {name: _version(installed[name]) if name in installed else ABSENT for name in distributions}


@cache
def _installed(folders: tuple[str, ...]) -> dict[str, Path]:
    """Return the metadata folder of every distribution, by its normalised name; an earlier folder hides a later one."""
    distributions: dict[str, Path] = {}
    for folder in filter(Path.is_dir, map(Path, folders)):
        for path in folder.iterdir():
            if path.suffix in {".dist-info", ".egg-info"}:
                distributions.setdefault(_normalise(path.stem.partition("-")[0]), path)
    return distributions


def _normalise(name: str) -> str:
    """Return the normalised name of a distribution: https://packaging.python.org/en/latest/specifications/name-normalization/."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _providers(module: str, folders: tuple[str, ...]) -> list[str]:
    """Return the distributions that install a top-level module, or its own name if none does."""
    installed, name = _installed(folders), _normalise(module)
    if name in installed and _provides(installed[name], module):
        return [name]
    return [other for other, path in installed.items() if _provides(path, module)] or [name]


def _provides(distribution: Path, module: str) -> bool:
    top_level = _read(distribution / "top_level.txt")
    if top_level is not None:
        return module in top_level.split()
    files = _read(distribution / "RECORD") or ""
    return f"\n{module}/" in f"\n{files}" or f"\n{module}." in f"\n{files}"


@cache
def _version(distribution: Path) -> str:
    """Read the version from a distribution's metadata, which is a folder, or one file in old installations."""
    metadata = _read(distribution / "METADATA") or _read(distribution / "PKG-INFO") or _read(distribution) or ""
    match = re.search(r"^Version: *([^\s+]+)", metadata, re.MULTILINE)
    return match[1] if match else ABSENT


@cache
def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except OSError:
        return None
