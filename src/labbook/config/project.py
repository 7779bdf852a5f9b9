"""The schema of `params.yaml`: datasets, defaults, experiments with their reported results, sweeps and explanations."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from labbook.config.components import Strict
from labbook.config.explain import Explain
from labbook.config.merging import split_embedded
from labbook.config.messages import closest, describe, error_lines
from labbook.config.reported import Reported
from labbook.config.sweep import Sweep, resolve_sweep
from labbook.config.train import Assignment, Resolved, Runtime, find_unknown_keys, resolve
from labbook.errors import ParamsError

__all__ = [
    "SOURCES", "Data", "Dataset", "Derived", "Experiment", "Pretrained", "Project", "Source", "blocks_of", "find_problems",
    "parse_project", "training_blocks",
]  # fmt: skip

Source = Literal["official", "embedded"]

NAME = re.compile("[a-z][a-z0-9_-]*")
STAGES_WITH_METRICS = frozenset({"exercises", "gradcheck"})  # stages that write metrics/NAME.json without being an experiment
SOURCES: tuple[Source, ...] = ("official", "embedded")
# Settings that select files or modules: `dvc.yaml` and the fingerprints require the same value for both data sources.
CHOICES = (
    "inputs.dataset",
    "inputs.pretrained",
    "backend",
    "task",
    "model.name",
    "loss.name",
    "optimizer.name",
    "schedule.name",
)


def _check_name(name: Any) -> Any:
    if not _is_name(name):
        raise ValueError(
            "a name consists of lower-case letters, digits, _ and -, and begins with a letter "
            "(DVC drops numbers silently and fails on dots)"
        )
    return name


Name = Annotated[str, BeforeValidator(_check_name)]


class Experiment(Strict):
    """One model of one assignment."""

    assignment: str = Field(description="a block of `defaults`; its first letter selects the page of the report")
    title: str
    reported: Reported = Reported()
    train: dict[str, Any] = Field(description="settings that differ from the assignment's defaults, see TrainSettings")


class Data(Strict):
    """Source of the data: embedded data for a quick run, or the official data."""

    source: Source


class Dataset(Strict):
    """Settings for preparing a dataset."""

    validation_fraction: float = Field(
        gt=0, le=0.5, description="fraction of the training set, drawn separately for each class"
    )


class Derived(Dataset):
    """Settings for making a dataset from a prepared one."""

    made_from: str
    seed: int = Field(ge=0, lt=2**32)


class Pretrained(Dataset):
    """Settings for training initial weights on embedded data instead of downloading published weights."""

    train: dict[str, Any]


class Project(Runtime):
    """All of `params.yaml`."""

    data: Data
    defaults: dict[Assignment, dict[str, Any]]
    datasets: dict[Name, Dataset]
    derived: dict[Name, Derived] = Field(min_length=1)
    pretrained: dict[Name, Pretrained] = Field(min_length=1)
    experiments: dict[Name, Experiment] = Field(min_length=1)
    sweeps: dict[Name, Sweep] = Field(min_length=1, description="not empty, because DVC needs the folder of their results")
    explain: dict[Name, Explain] = Field(min_length=1, description="by experiment; not empty, like sweeps")

    @property
    def source(self) -> Source:
        """Return the data source, `embedded` or `official`."""
        return self.data.source


def parse_project(values: dict[str, Any]) -> Project:
    """Validate the whole file, except for the settings of models and other components, which `labbook check` validates.

    Raises:
        ParamsError: a key is wrong; the message has one line for each wrong key.
    """
    problems = find_problems(values)
    if problems:
        raise ParamsError("\n".join(problems))
    return Project.model_validate(values)


def find_problems(values: dict[str, Any]) -> list[str]:
    """Return one line for each wrong key.

    References between blocks are checked only if every block is valid on its own.
    """
    problems = [*_duplicate_names(values), *_wrong_schema(values), *_wrong_trainings(values)]
    if not problems:
        problems = list(_wrong_references(values))
    return list(dict.fromkeys(problems))


def training_blocks(values: Mapping[str, Any]) -> list[str]:
    """Return the keys of the blocks that describe a training and can be resolved, such as `experiments.mnist_cnn`."""
    required = {"experiments": {"assignment", "train"}, "pretrained": {"train"}}
    return [
        f"{group}.{name}"
        for group, keys in required.items()
        for name, block in blocks_of(values, group).items()
        if isinstance(block, Mapping) and keys <= block.keys() and isinstance(block["train"], Mapping)
    ]


def blocks_of(values: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return the blocks of a group that have valid names; none if the group is missing or not a mapping."""
    return {name: block for name, block in _mapping(values.get(group)).items() if _is_name(name)}


def _mapping(blocks: Any) -> Mapping[Any, Any]:
    return blocks if isinstance(blocks, Mapping) else {}


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _duplicate_names(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each name that is already in use."""
    datasets, experiments = blocks_of(values, "datasets"), blocks_of(values, "experiments")
    for name in blocks_of(values, "derived"):
        if name in datasets:
            yield f"derived.{name}: a dataset has this name already. Rename one of them."
    if "none" in blocks_of(values, "pretrained"):
        yield "pretrained.none: `none` means weights drawn at random. Choose another name."
    for name in STAGES_WITH_METRICS:
        if name in experiments:
            yield f"experiments.{name}: metrics/{name}.json is the file of the stage {name}. Choose another name."
    for name in blocks_of(values, "sweeps"):
        if name in experiments:
            yield f"sweeps.{name}: an experiment has this name already. Rename one of them."


def _wrong_schema(values: dict[str, Any]) -> Iterator[str]:
    try:
        Project.model_validate(values)
    except ValidationError as error:
        yield from describe(error, Project, values, "").splitlines()


def _wrong_trainings(values: dict[str, Any]) -> Iterator[str]:
    """Check the settings of every training for both data sources, and the keys of all defaults."""
    defaults = _mapping(values.get("defaults"))
    for assignment, block in defaults.items():
        if isinstance(block, Mapping):
            yield from error_lines(_check_defaults, f"defaults.{assignment}", block)
    for block in training_blocks(values) if defaults else ():
        for source in SOURCES:
            yield from error_lines(resolve, values, block, source)


def _check_defaults(key: str, block: Mapping[str, Any]) -> None:
    problems = [line for layer in split_embedded(block, key) for line in find_unknown_keys(layer)]
    if problems:
        raise ParamsError("\n".join(problems))


def _wrong_references(values: dict[str, Any]) -> Iterator[str]:
    """Yield one line for each reference to a missing block, and for each setting that does not fit the block it refers to."""
    project = Project.model_validate(values)
    datasets, experiments = [*project.datasets, *project.derived], list(project.experiments)
    for name in experiments:
        yield from _wrong_inputs(values, f"experiments.{name}", datasets, ["none", *project.pretrained])
    for name in project.pretrained:
        yield from _wrong_inputs(values, f"pretrained.{name}", list(project.datasets), ["none"])  # trained from random weights
        for source in SOURCES:
            yield from _wrong_world_size(f"pretrained.{name}", resolve(values, f"pretrained.{name}", source))
    yield from _unused_components(project, values)
    for name, derived in project.derived.items():
        yield from _unknown(f"derived.{name}.made_from", derived.made_from, project.datasets, "datasets")
    for name, sweep in project.sweeps.items():
        yield from _unknown(f"sweeps.{name}.assignment", sweep.assignment, project.defaults, "defaults")
        yield from _unknown(f"sweeps.{name}.experiment", sweep.experiment, experiments, "experiments")
        for source in SOURCES if sweep.experiment in experiments else ():
            yield from _wrong_sweep(values, name, sweep, source)
    for name, explain in project.explain.items():
        yield from _unknown(f"explain.{name}", name, experiments, "experiments")
        if name in experiments:
            yield from _wrong_explanation(name, explain, resolve(values, f"experiments.{name}", project.source).settings.task)


def _unknown(key: str, name: str, known: Iterable[str], group: str) -> Iterator[str]:
    if name not in known:
        yield f"{key}: {name!r} is not a block of {group}{closest(name, known)} Known: {', '.join(known)}."


def _wrong_inputs(values: dict[str, Any], block: str, datasets: list[str], pretrained: list[str]) -> Iterator[str]:
    """Check the inputs of a training, and that both data sources select the same files and modules."""
    official, embedded = (resolve(values, block, source) for source in SOURCES)
    inputs = official.settings.inputs
    yield from _unknown(official.locate("inputs.dataset"), inputs.dataset, datasets, "datasets or derived")
    yield from _unknown(official.locate("inputs.pretrained"), inputs.pretrained, pretrained, "pretrained")
    for path in ("inputs.dataset", "inputs.pretrained"):
        if official.origins[path] != f"{block}.train":
            yield f"{official.locate(path)}: dvc.yaml looks for it in {block}.train.{path}. Move it there."
    for path in CHOICES:
        expected, actual = (_setting(resolved, path) for resolved in (official, embedded))
        if actual != expected:
            yield f"{embedded.locate(path)}: invalid value {actual!r}: must be the same as on official data, {expected!r}."


def _wrong_sweep(values: dict[str, Any], name: str, sweep: Sweep, source: Source) -> Iterator[str]:
    try:
        variants = resolve_sweep(values, name, sweep, source)
    except ParamsError as error:
        yield from str(error).splitlines()
    else:
        for _, resolved in variants:
            yield from _wrong_world_size(f"sweeps.{name}", resolved)


def _wrong_world_size(block: str, resolved: Resolved) -> Iterator[str]:
    """Check that a training outside `experiments` has one process, because only the stage `train` starts several."""
    count = resolved.settings.world_size
    if count > 1:
        origin = resolved.locate("world_size")
        yield f"{block}.train.world_size: {origin} is {count}, and only experiments train with several processes. Set 1 here."


def _unused_components(project: Project, values: dict[str, Any]) -> Iterator[str]:
    """Yield one line for each component in `embedded` of the defaults whose name no experiment uses."""
    for assignment, defaults in project.defaults.items():
        experiments = [
            resolve(values, f"experiments.{name}", "official")
            for name, experiment in project.experiments.items()
            if experiment.assignment == assignment
        ]
        for key, component in defaults.get("embedded", {}).items() if experiments else ():
            if isinstance(component, Mapping) and "name" in component:
                name = component["name"]
                known = list(dict.fromkeys(str(_setting(resolved, f"{key}.name")) for resolved in experiments))
                if name not in known:
                    location = f"defaults.{assignment}.embedded.{key}.name"
                    yield f"{location}: no experiment of {assignment} has {name!r}{closest(str(name), known)}"


def _setting(resolved: Resolved, path: str) -> Any:
    value: Any = resolved.settings.model_dump()
    for step in path.split("."):
        value = value and value[step]
    return value


def _wrong_explanation(name: str, explain: Explain, task: str) -> Iterator[str]:
    if task == "toy2d":
        yield f"explain.{name}: points in a plane have no pixels to attribute. Remove the block."
    elif (task == "segmentation") != (explain.region is not None):
        yield f"explain.{name}.region: set it if and only if the task is segmentation; the task of {name} is {task}."
