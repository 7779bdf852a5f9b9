"""The schema of `params.yaml`: datasets, defaults, experiments with their reported results, sweeps and explanations."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from labbook.config.components import Strict
from labbook.config.explain import Explain
from labbook.config.layers import split_embedded
from labbook.config.messages import closest, describe, errors_of
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
STAGES_WITH_METRICS = frozenset({"exercises", "gradcheck"})  # their metrics/NAME.json belongs to no experiment
SOURCES: tuple[Source, ...] = ("official", "embedded")
# Settings that name files or modules: `dvc.yaml` and the fingerprints have one value for both data sources.
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


def _name(name: Any) -> Any:
    if not _is_name(name):
        raise ValueError(
            "a name consists of lower-case letters, digits, _ and -, and begins with a letter "
            "(DVC drops numbers silently and fails on dots)"
        )
    return name


Name = Annotated[str, BeforeValidator(_name)]


class Experiment(Strict):
    """One model of one assignment."""

    assignment: str = Field(description="a block of `defaults`; its first letter is the page")
    title: str
    reported: Reported = Reported()
    train: dict[str, Any] = Field(description="what differs from the assignment's defaults, see TrainSettings")


class Data(Strict):
    """Source of the data: embedded data for a quick run, or the official data."""

    source: Source


class Dataset(Strict):
    """How a dataset is prepared."""

    validation_fraction: float = Field(gt=0, le=0.5, description="of the training set, drawn class by class")


class Derived(Dataset):
    """How a dataset is made from a prepared one."""

    made_from: str
    seed: int = Field(ge=0, lt=2**32)


class Pretrained(Dataset):
    """How initial weights are trained on embedded data, which replaces the download of published ones."""

    train: dict[str, Any]


class Project(Runtime):
    """All of `params.yaml`."""

    data: Data
    defaults: dict[Assignment, dict[str, Any]]
    datasets: dict[Name, Dataset]
    derived: dict[Name, Derived] = Field(min_length=1)
    pretrained: dict[Name, Pretrained] = Field(min_length=1)
    experiments: dict[Name, Experiment] = Field(min_length=1)
    sweeps: dict[Name, Sweep] = Field(min_length=1, description="DVC finds no folder of their results when there is none")
    explain: dict[Name, Explain] = Field(min_length=1, description="by experiment; as sweeps")

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
    """List the blocks that describe a training and have the keys to resolve it, such as `experiments.mnist_cnn`."""
    wanted = {"experiments": {"assignment", "train"}, "pretrained": {"train"}}
    return [
        f"{group}.{name}"
        for group, keys in wanted.items()
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
    """Find names that are already in use."""
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
            yield from errors_of(_check_defaults, f"defaults.{assignment}", block)
    for block in training_blocks(values) if defaults else ():
        for source in SOURCES:
            yield from errors_of(resolve, values, block, source)


def _check_defaults(key: str, block: Mapping[str, Any]) -> None:
    problems = [line for layer in split_embedded(block, key) for line in find_unknown_keys(layer)]
    if problems:
        raise ParamsError("\n".join(problems))


def _wrong_references(values: dict[str, Any]) -> Iterator[str]:
    """Find names of blocks that do not exist, and settings that do not fit the block they refer to."""
    project = Project.model_validate(values)
    datasets, experiments = [*project.datasets, *project.derived], list(project.experiments)
    for name in experiments:
        yield from _wrong_inputs(values, f"experiments.{name}", datasets, ["none", *project.pretrained])
    for name in project.pretrained:
        yield from _wrong_inputs(values, f"pretrained.{name}", list(project.datasets), ["none"])  # from random weights
        for source in SOURCES:
            yield from _several_processes(f"pretrained.{name}", resolve(values, f"pretrained.{name}", source))
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


def _wrong_inputs(values: dict[str, Any], block: str, datasets: list[str], networks: list[str]) -> Iterator[str]:
    """Check the inputs of a training, and that both data sources name the same files and modules."""
    official, embedded = (resolve(values, block, source) for source in SOURCES)
    inputs = official.settings.inputs
    yield from _unknown(official.locate("inputs.dataset"), inputs.dataset, datasets, "datasets or derived")
    yield from _unknown(official.locate("inputs.pretrained"), inputs.pretrained, networks, "pretrained")
    for path in ("inputs.dataset", "inputs.pretrained"):
        if official.origins[path] != f"{block}.train":
            yield f"{official.locate(path)}: dvc.yaml looks for it in {block}.train.{path}. Move it there."
    for path in CHOICES:
        wanted, found = (_value(resolved, path) for resolved in (official, embedded))
        if found != wanted:
            yield f"{embedded.locate(path)}: invalid value {found!r}: must be the same as on official data, {wanted!r}."


def _wrong_sweep(values: dict[str, Any], name: str, sweep: Sweep, source: Source) -> Iterator[str]:
    try:
        variants = resolve_sweep(values, name, sweep, source)
    except ParamsError as error:
        yield from str(error).splitlines()
    else:
        for _, resolved in variants:
            yield from _several_processes(f"sweeps.{name}", resolved)


def _several_processes(block: str, resolved: Resolved) -> Iterator[str]:
    """Check that a training outside `experiments` has one process, because only the stage `train` starts several."""
    count = resolved.settings.world_size
    if count > 1:
        place = resolved.locate("world_size")
        yield f"{block}.train.world_size: {place} is {count}, and only experiments train with several processes. Set 1 here."


def _unused_components(project: Project, values: dict[str, Any]) -> Iterator[str]:
    """Find components in `embedded` of defaults that apply to no experiment, because none has a component of that name."""
    for assignment, defaults in project.defaults.items():
        trained = [
            resolve(values, f"experiments.{name}", "official")
            for name, experiment in project.experiments.items()
            if experiment.assignment == assignment
        ]
        for key, component in defaults.get("embedded", {}).items() if trained else ():
            if isinstance(component, Mapping) and "name" in component:
                name = component["name"]
                known = list(dict.fromkeys(str(_value(resolved, f"{key}.name")) for resolved in trained))
                if name not in known:
                    where = f"defaults.{assignment}.embedded.{key}.name"
                    yield f"{where}: no experiment of {assignment} has {name!r}{closest(str(name), known)}"


def _value(resolved: Resolved, path: str) -> Any:
    value: Any = resolved.settings.model_dump()
    for step in path.split("."):
        value = value and value[step]
    return value


def _wrong_explanation(name: str, explain: Explain, task: str) -> Iterator[str]:
    if task == "toy2d":
        yield f"explain.{name}: points in a plane have no pixels to attribute. Remove the block."
    elif (task == "segmentation") != (explain.region is not None):
        yield f"explain.{name}.region: goes with task: segmentation, and the task of {name} is {task}."
