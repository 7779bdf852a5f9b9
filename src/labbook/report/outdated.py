"""List the settings, data, code and packages that have changed since a ledger entry was written.

No code is run or imported: code is compared by fingerprints, and packages with `requirements.lock`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labbook.config.chosen import chosen_modules
from labbook.config.merging import flatten
from labbook.config.project import parse_project
from labbook.config.sweep import variants
from labbook.config.train import resolve
from labbook.evaluation.ledger import Entry
from labbook.evaluation.provenance import data_settings, experiment_stages, sweep_stages
from labbook.fingerprint.sources import Sources
from labbook.io import read_bytes

__all__ = ["CurrentState"]

LOCK = Path("requirements.lock")
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;+]+)", re.MULTILINE)


class CurrentState:
    """The current settings, code and packages of the project in the working directory.

    Args:
        values: content of `params.yaml`.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._project = parse_project(self._values)
        self._sources = Sources()
        self._chosen = chosen_modules()
        lock = read_bytes(LOCK, "Restore it with `git checkout`.").decode()
        self._packages = {_normalise(name): version for name, version in PINNED.findall(lock)}

    def changes_to_experiment(self, entry: Entry) -> Iterator[str]:
        """Yield a line for each setting, module and package that has changed since an experiment's entry was written."""
        if entry.name not in self._project.experiments:
            yield f"experiments.{entry.name} is no longer in params.yaml"
            return
        settings = resolve(self._values, f"experiments.{entry.name}", "official").settings.model_dump(exclude_none=True)
        yield from self._changes(entry, settings, experiment_stages(self._values, entry.name, settings["inputs"]))

    def changes_to_sweep(self, entry: Entry) -> Iterator[str]:
        """Yield the same lines for the entry of a sweep."""
        sweep = self._project.sweeps.get(entry.name)
        if sweep is None:
            yield f"sweeps.{entry.name} is no longer in params.yaml"
            return
        (_, first), *_ = trainings = variants(self._values, entry.name, sweep, "official")
        column = entry.history.splitlines()[0].split("\t").index("value")
        trained = [line.split("\t")[column] for line in entry.history.splitlines()[1:]]
        if trained != [str(value) for value, _ in trainings]:
            yield f"values of {sweep.vary.key}: {', '.join(trained)} → {', '.join(str(value) for value, _ in trainings)}"
        settings = first.model_dump(exclude_none=True)
        yield from self._changes(entry, settings, sweep_stages(self._values, entry.name, settings["inputs"]))

    def _changes(self, entry: Entry, settings: Mapping[str, Any], stages: Mapping[str, str]) -> Iterator[str]:
        values = entry.values
        yield from _differences("setting", flatten(values["settings"]), flatten(settings))
        yield from _differences(
            "setting", flatten(values["data"]["settings"]), flatten(data_settings(self._values, settings["inputs"]))
        )
        for kind in dict.fromkeys([*values["code"], *stages]):
            recorded, current = values["code"].get(kind, {}), self._code(stages.get(kind))
            modules: dict[str, list[str]] = {"changed": [], "new": [], "no longer used": []}
            for module in sorted({*recorded, *current}):
                if recorded.get(module) != current.get(module):
                    modules["new" if module not in recorded else "changed" if module in current else "no longer used"].append(
                        module
                    )
            yield from (f"code of {kind}, {word}: {', '.join(changed)}" for word, changed in modules.items() if changed)
        installed = {name: self._packages.get(_normalise(name), "not in requirements.lock") for name in values["packages"]}
        yield from _differences("package", values["packages"], installed)

    def _code(self, key: str | None) -> dict[str, str]:
        if key is None:
            return {}
        return self._sources.closure(key.partition("/")[0], self._chosen[key]).code


def _differences(kind: str, recorded: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*recorded, *current]):
        before, after = recorded.get(key, "not set"), current.get(key, "not set")
        if before != after:
            yield f"{kind} {key}: {before} → {after}"


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
