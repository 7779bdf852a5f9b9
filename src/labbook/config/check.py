"""Validate all of `params.yaml`, and compare the installed packages with those of the last run: labbook check."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from labbook.config.components import FAMILIES, find, load, names
from labbook.config.messages import error_lines
from labbook.config.project import SOURCES, Project, blocks_of, find_problems, training_blocks
from labbook.config.reading import PARAMS, read
from labbook.config.sweep import resolve_sweep
from labbook.config.train import Resolved, resolve
from labbook.errors import LabbookError, ParamsError
from labbook.training.components import check_component
from labbook.training.runtime import configure

__all__ = ["add_arguments", "check_packages", "check_project", "main"]

# Names that each file of a family must define.
REQUIRED: dict[str, tuple[str, ...]] = {
    "model": ("Settings", "build"),
    "task": ("evaluate",),
    "dataset": ("fetch", "prepare"),
    "derived": ("derive",),
    "pretrained": ("fetch", "read", "without_head"),
}
COMPONENTS = ("loss", "optimizer", "schedule")
# Groups of `params.yaml` whose keys name files of a family.
GROUPS = {"datasets": "dataset", "derived": "derived", "pretrained": "pretrained"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `labbook check`, which has no arguments."""
    parser.description = "Validate all of params.yaml, and compare the installed packages with those of the last run."


def main(arguments: argparse.Namespace) -> None:
    """Print that params.yaml is valid, or print one line per problem and exit with 1."""
    configure("cpu", threads=1, seed=0)  # otherwise, PyTorch's optimisers import its compiler, which takes a second
    problems = []
    try:
        project = check_project()
        print(
            f"{PARAMS} is valid: {', '.join(_format_count(project, group) for group in ('experiments', 'sweeps', 'datasets'))}"
        )
    except ParamsError as error:
        problems.append(str(error))
    try:
        problems += check_packages()
    except LabbookError as error:
        problems.append(str(error))
    if problems:
        sys.exit("\n".join(problems))


def check_project() -> Project:
    """Read and validate all of `params.yaml`, including the settings of all components.

    Raises:
        ParamsError: a key is wrong; the message has one line for each wrong key.
    """
    values = read()
    problems = [*find_problems(values), *(list(_incomplete_components()) or _wrong_components(values))]
    if not problems:
        problems = list(_wrong_sweeps(values))
    if problems:
        raise ParamsError("\n".join(dict.fromkeys(problems)))
    return Project.model_validate(values)


def check_packages() -> Iterator[str]:
    """Yield one line for each package whose installed version differs from the version in the stages' fingerprints.

    Raises:
        LabbookError: a fingerprint is damaged.
    """
    from labbook.fingerprint.check import ACCEPT, changed_packages

    for package, (recorded, installed) in changed_packages().items():
        yield (
            f"{package}: {installed} is installed, and the stages were recorded with {recorded}. Install {recorded}, or accept "
            f"{installed} with `{ACCEPT}`; then these stages run again: {_stages_using(package)}."
        )


def _format_count(project: Project, group: str) -> str:
    count = len(getattr(project, group))
    return f"{count} {group if count != 1 else group.removesuffix('s')}"


def _stages_using(package: str) -> str:
    """Return the kinds of stages that use a package, with the number of stages of each kind."""
    from labbook.fingerprint import record

    kinds: Counter[str] = Counter()
    for path in sorted(record.FOLDER.rglob("*.txt")):
        fingerprint = record.read(path)
        if fingerprint and package in fingerprint.packages:
            kinds[path.relative_to(record.FOLDER).with_suffix("").parts[0]] += 1
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.items())


def _incomplete_components() -> Iterator[str]:
    """Import every component, used or not, and yield one message per incomplete component."""
    for family, required in REQUIRED.items():
        for name in names(family):
            file = f"src/labbook/{FAMILIES[family]}/{name}.py"
            try:
                module = find(family, name, family)
            except Exception as error:  # the code of a new component can raise anything
                yield f"{file}: cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
                continue
            missing = [name for name in required if not hasattr(module, name)]
            if missing:
                yield f"{file}: does not define {', '.join(missing)}. See the other files in its folder."


def _wrong_components(values: dict[str, Any]) -> Iterator[str]:
    """Check that the files of named components exist, and check the components of every valid training."""
    for group, family in GROUPS.items():
        for name in blocks_of(values, group):
            yield from error_lines(find, family, name, f"{group}.{name}")
    for block in training_blocks(values):
        for source in SOURCES:
            try:
                resolved = resolve(values, block, source)
            except ParamsError:
                continue  # reported by `find_problems`
            yield from _check_components(resolved)


def _wrong_sweeps(values: dict[str, Any]) -> Iterator[str]:
    project = Project.model_validate(values)
    for name, sweep in project.sweeps.items():
        for source in SOURCES:
            for _, resolved in resolve_sweep(values, name, sweep, source):
                yield from _check_components(resolved)


def _check_components(resolved: Resolved) -> Iterator[str]:
    settings, key = resolved.settings, f"{resolved.block}.train"
    problems = [
        *error_lines(find, "task", settings.task, f"{key}.task"),
        *error_lines(load, "model", settings.model, f"{key}.model"),
    ]
    for kind in COMPONENTS:
        component = getattr(settings, kind)
        if component is not None:
            problems += error_lines(check_component, kind, component, f"{key}.{kind}")
    yield from map(resolved.relocate, problems)
