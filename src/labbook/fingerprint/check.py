"""Compare the installed packages, the code and the settings with the fingerprints of stages."""

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
    """Compare code and packages of the running stage with its fingerprint, if it has one.

    The script and its first argument in `sys.argv` identify the stage. Code is compared only if DVC has started the stage,
    because only then does `dvc.lock` record the fingerprint with the outputs.

    Raises:
        LabbookError: a package has a different version, or code was edited after the fingerprint was written.
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
        settings: settings as JSON, by dotted key.
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
                    f"params.yaml was edited after the stage `code` ran: {', '.join(dict.fromkeys(changed))}. "
                    "Run `dvc repro` to start again with these settings."
                )
            return


def changed_packages(root: Path = Path()) -> dict[str, tuple[str, str]]:
    """Return the packages whose installed version differs from the one in a fingerprint: (recorded, installed).

    Raises:
        LabbookError: a fingerprint is damaged.
    """
    changed: dict[str, tuple[str, str]] = {}
    for path in sorted((root / FOLDER).rglob("*.txt")):
        fingerprint = read(path)
        if fingerprint:
            changed |= _changed_versions(fingerprint)
    return dict(sorted(changed.items()))


def _candidates(arguments: list[str]) -> list[Path]:
    """Return the possible paths of a stage's fingerprint: that of its item, then that of its script."""
    script = Path(arguments[0]).stem
    items = [FOLDER / script / f"{item}.txt" for item in arguments[1:2]]
    return [*items, FOLDER / f"{script}.txt"]


def _changed_versions(fingerprint: Fingerprint) -> dict[str, tuple[str, str]]:
    recorded, installed = fingerprint.packages, installed_versions(fingerprint.packages)
    return {name: (recorded[name], installed[name]) for name in recorded if recorded[name] != installed[name]}


def _check_packages(path: Path, fingerprint: Fingerprint) -> None:
    changed = _changed_versions(fingerprint)
    if changed:
        lines = "".join(
            f"\n  {name}: {recorded} recorded, {installed} installed" for name, (recorded, installed) in changed.items()
        )
        raise LabbookError(
            f"{path} records other versions than those installed:{lines}\n"
            f"To use the installed versions, run `{ACCEPT}`; every stage that uses one of these packages runs again. "
            "To go back to the versions of this project, run `pip install -r requirements.lock`."
        )


def _check_code(fingerprint: Fingerprint, sources: Sources) -> None:
    edited = [name for name, digest in fingerprint.code.items() if sources.digest(name) != digest]
    if edited:
        raise LabbookError(
            f"edited after the stage `code` ran: {', '.join(edited)}. Run `dvc repro` to start again with this code."
        )
