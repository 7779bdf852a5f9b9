"""Compare what is installed, and what code is there now, with what fingerprints name."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from labbook.errors import LabbookError
from labbook.fingerprint.packages import installed_versions
from labbook.fingerprint.record import FOLDER, Fingerprint, read
from labbook.fingerprint.sources import Sources

__all__ = ["ACCEPT", "changed_packages", "check_settings", "check_stage"]

ACCEPT = "dvc repro --force --single-item code"


def check_stage(root: Path = Path()) -> None:
    """Compare the running stage with its fingerprint, if it has one.

    The stage is the script in `sys.argv`, and its first argument. Code is compared only if DVC has started the stage, for only
    then does `dvc.lock` name the fingerprint as that of the outputs.

    Raises:
        LabbookError: another version of a package is installed, or code was edited after the fingerprint was written.
    """
    for path in _candidates(sys.argv):
        fingerprint = read(root / path)
        if fingerprint:
            _check_packages(path, fingerprint)
            if "DVC_STAGE" in os.environ:
                _check_code(fingerprint, Sources(root))
            return


def check_settings(settings: Mapping[str, str], root: Path = Path()) -> None:
    """Compare the settings that the running stage has read with those of its fingerprint, if DVC has started it.

    Args:
        settings: as JSON by dotted key.
        root: the folder of the project.

    Raises:
        LabbookError: `params.yaml` was edited after the fingerprint was written.
    """
    if "DVC_STAGE" not in os.environ:
        return
    for path in _candidates(sys.argv):
        fingerprint = read(root / path)
        if fingerprint:
            changed = sorted(key for key, _ in set(fingerprint.settings.items()) ^ set(settings.items()))
            if changed:
                raise LabbookError(
                    f"params.yaml was edited after the stage `code` had run: {', '.join(dict.fromkeys(changed))}. "
                    "Run `dvc repro` to start again with these settings."
                )
            return


def changed_packages(root: Path = Path()) -> dict[str, tuple[str, str]]:
    """Return each package of which another version is installed than fingerprints name: (recorded, installed).

    Raises:
        LabbookError: a fingerprint is damaged.
    """
    found: dict[str, tuple[str, str]] = {}
    for path in sorted((root / FOLDER).rglob("*.txt")):
        fingerprint = read(path)
        if fingerprint:
            found |= _changed(fingerprint)
    return dict(sorted(found.items()))


def _candidates(arguments: list[str]) -> list[Path]:
    """Return where the fingerprint of a stage may be: that of its item, else that of its script."""
    script = Path(arguments[0]).stem
    items = [FOLDER / script / f"{item}.txt" for item in arguments[1:2]]
    return [*items, FOLDER / f"{script}.txt"]


def _changed(fingerprint: Fingerprint) -> dict[str, tuple[str, str]]:
    recorded, installed = fingerprint.packages, installed_versions(fingerprint.packages)
    return {name: (recorded[name], installed[name]) for name in recorded if recorded[name] != installed[name]}


def _check_packages(path: Path, fingerprint: Fingerprint) -> None:
    changed = _changed(fingerprint)
    if changed:
        lines = "".join(
            f"\n  {name}: {recorded} there, {installed} installed" for name, (recorded, installed) in changed.items()
        )
        raise LabbookError(
            f"{path} names other versions than are installed:{lines}\n"
            f"To use the installed versions, run `{ACCEPT}`; every stage that uses one of these packages runs again. "
            "To go back to the versions of this project, run `pip install -r requirements.lock`."
        )


def _check_code(fingerprint: Fingerprint, sources: Sources) -> None:
    edited = [name for name, digest in fingerprint.code.items() if sources.digest(name) != digest]
    if edited:
        raise LabbookError(
            f"edited after the stage `code` had run: {', '.join(edited)}. Run `dvc repro` to start again with this code."
        )
