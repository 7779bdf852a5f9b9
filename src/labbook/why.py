"""Explain why DVC would run a stage again: labbook why STAGE.

DVC lists the dependencies that changed; this command lists the modules, packages and settings.
"""

import argparse
import contextlib
import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labbook.errors import LabbookError
from labbook.fingerprint.check import ACCEPT
from labbook.fingerprint.record import FOLDER, Fingerprint, compute
from labbook.fingerprint.sources import Sources

__all__ = ["add_arguments", "main", "why"]

MISSING = object()  # the value of a setting that is not set
STATE_TEXTS = {"deleted": "is missing", "modified": "changed", "new": "is new", "not in cache": "is not in DVC's cache"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labbook why`."""
    parser.add_argument("stage", help="a stage, such as train@mnist_cnn, or all stages of one kind, such as train")


def main(arguments: argparse.Namespace) -> None:
    """Print why DVC would run a stage again."""
    print(why(arguments.stage))


def why(
    target: str,
    chosen: Mapping[str, Sequence[str]] | None = None,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    root: Path = Path(),
) -> str:
    """Return the reasons why `dvc repro` would run a stage again, as lines of text.

    Args:
        target: the name of a stage, or of a group of stages.
        chosen: the modules that each stage imports by name, by the key of its fingerprint; read from `params.yaml` by default.
        settings: the settings of each stage, by the key of its fingerprint; read from `params.yaml` if `chosen` is omitted.
        root: root folder of the DVC repository.

    Raises:
        LabbookError: there is no such stage, or DVC or the settings cannot be read.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    if chosen is None:
        from labbook.config.chosen import chosen_modules, settings_of_stages

        chosen, settings = chosen_modules(), settings_of_stages()
    try:
        with Repo(str(root)) as repo:
            return _Reasons(repo, chosen, settings or {}).explain(target)
    except DvcException as error:
        raise LabbookError(f"DVC: {error}") from error


class _Reasons:
    """Finds the reasons for stages of a repository; each stage is examined once."""

    def __init__(self, repo: Any, chosen: Mapping[str, Sequence[str]], settings: Mapping[str, Mapping[str, str]]) -> None:
        self._repo = repo
        self._chosen, self._settings = chosen, settings
        self._root = Path(repo.root_dir)
        self._sources = Sources(self._root)
        self._stages = {stage.addressing: stage for stage in repo.index.stages}
        self._reasons_by_stage: dict[str, list[str]] = {}
        self._locks: dict[str, dict[str, Any]] = {}

    def explain(self, target: str) -> str:
        names = [name for name in self._stages if name == target or name.startswith(f"{target}@")]
        if not names:
            near = difflib.get_close_matches(target, self._stages, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`dvc stage list` lists all stages."
            raise LabbookError(f"{target}: no such stage; {hint}")
        return "\n".join(line for name in names for line in self._explain_stage(name))

    def _explain_stage(self, name: str) -> Iterator[str]:
        from networkx import descendants

        reasons = self._reasons(name)
        upstream = sorted(stage.addressing for stage in descendants(self._repo.index.graph, self._stages[name]))
        would_run = {stage: self._reasons(stage) for stage in upstream if self._reasons(stage) and not self._writes_code(stage)}
        if reasons:
            yield f"{name} would run again:"
            yield from (f"  {reason}" for reason in reasons)
            if would_run:
                yield "These stages would run first:"
        elif would_run:
            yield f"{name} has not changed, but would run again if one of these stages writes something new:"
        else:
            yield f"{name} is up to date."
        for stage, reasons in would_run.items():
            yield f"  {stage}: {reasons[0]}" + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")

    def _reasons(self, name: str) -> list[str]:
        if name not in self._reasons_by_stage:
            self._reasons_by_stage[name] = list(self._find_reasons(self._stages[name]))
        return self._reasons_by_stage[name]

    def _find_reasons(self, stage: Any) -> Iterator[str]:
        locked = self._lock(stage.dvcfile).get(stage.name)
        if locked is None:
            yield "it has not run yet: dvc.lock has no entry for it"
            return
        if stage.cmd_changed:
            yield f"command: {_command(locked.get('cmd'))} → {_command(stage.cmd)}"
        if not stage.frozen:
            if stage.is_callback or stage.always_changed:
                yield "it runs every time: it has neither dependencies nor outputs, or dvc.yaml says `always_changed`"
            for dependency in stage.deps:
                yield from self._dependency(dependency)
        for output in stage.outs:
            yield from (f"output {path} {STATE_TEXTS.get(state, state)}" for path, state in output.status().items())

    def _lock(self, pipeline: Any) -> dict[str, Any]:
        """Return the entries of the dvc.lock beside a dvc.yaml, parsed once; DVC would parse it again for every stage."""
        if pipeline.path not in self._locks:
            self._locks[pipeline.path] = pipeline.lockfile_contents.get("stages", {})
        return self._locks[pipeline.path]

    def _dependency(self, dependency: Any) -> Iterator[str]:
        path = Path(dependency.fs_path)
        if hasattr(dependency, "read_params"):
            yield from _settings(dependency)
        elif not dependency.hash_info:
            yield f"file {dependency} is a new dependency"
        elif path.is_relative_to(self._root / FOLDER) and path.suffix == ".txt":
            yield from self._code(path, dependency.hash_info.value)
        else:
            yield from (f"file {name} {STATE_TEXTS.get(state, state)}" for name, state in dependency.status().items())

    def _code(self, path: Path, recorded: str) -> Iterator[str]:
        """Compare the fingerprint whose hash is `recorded` with the one that the stage `code` would write now."""
        relative = path.relative_to(self._root).as_posix()
        key = path.relative_to(self._root / FOLDER).with_suffix("").as_posix()
        if key not in self._chosen:
            yield f"file {relative}: the stage `code` does not write it"
            return
        now = compute(self._sources, key.partition("/")[0], self._chosen[key], self._settings.get(key, {}))
        if _md5(now.to_text().encode()) == recorded:
            return
        before = self._recorded(path, recorded)
        if before is None:
            yield f"code, packages or settings changed; DVC's cache lacks the old {relative}, or its format is outdated"
            return
        changes = before.changes_to(now) or [f"file {relative} has a different format"]
        if (
            (before.code, before.settings) == (now.code, now.settings)
            and path.is_file()
            and _md5(path.read_bytes()) == recorded
        ):
            changes[-1] += f" (DVC detects it after the stage `code` has run: `{ACCEPT}`)"
        yield from changes

    def _recorded(self, path: Path, recorded: str) -> Fingerprint | None:
        """Return the fingerprint with this MD5 from DVC's cache or the workspace, or `None` if it is missing or outdated."""
        for candidate in (Path(self._repo.cache.local.oid_to_path(recorded)), path):
            if candidate.is_file() and _md5(content := candidate.read_bytes()) == recorded:
                with contextlib.suppress(ValueError):
                    return Fingerprint.from_text(content.decode())
        return None

    def _writes_code(self, name: str) -> bool:
        return any(Path(output.fs_path) == self._root / FOLDER for output in self._stages[name].outs)


def _settings(dependency: Any) -> Iterator[str]:
    """Yield the settings of a parameter dependency that differ from those in dvc.lock."""
    if not dependency.exists:
        yield f"file {dependency} is missing"
        return
    before, now = dependency.hash_info.value or {}, dependency.read_params()
    for key in dependency.params or dict.fromkeys([*before, *now]):
        yield from _differences(key, before.get(key, MISSING), now.get(key, MISSING))


def _differences(key: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from _differences(f"{key}.{name}", before.get(name, MISSING), now.get(name, MISSING))
    elif before != now:
        yield f"setting {key}: {_value(before)} → {_value(now)}"


def _value(value: Any) -> str:
    return "not set" if value is MISSING else json.dumps(value, ensure_ascii=False, default=str)


def _command(command: Any) -> str:
    return " && ".join(command) if isinstance(command, list) else str(command)


def _md5(content: bytes) -> str:
    """Return the MD5 hash that DVC computes for a file."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
