"""All of `params.yaml`: datasets, defaults, experiments with their reported results, sweeps, and what is explained."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from labbook.config.explain import Explain
from labbook.config.layers import split_embedded
from labbook.config.messages import closest, describe, errors_of
from labbook.config.parts import Strict
from labbook.config.reading import PARAMS, read
from labbook.config.sweep import Sweep, resolve_sweep
from labbook.config.train import Assignment, Resolved, Runtime, find_unknown_keys, resolve
from labbook.errors import ParamsError

__all__ = [
    "SOURCES", "Data", "Dataset", "Derived", "Experiment", "Pretrained", "Project", "Reported", "Source",
    "blocks_of", "find_problems", "parse_project", "read_project", "training_blocks",
]  # fmt: skip

Source = Literal["official", "embedded"]

NAME = re.compile("[a-z][a-z0-9_-]*")
STAGES_WITH_METRICS = frozenset({"exercises", "gradcheck"})  # in files of their own names, beside those of the experiments
SOURCES: tuple[Source, ...] = ("official", "embedded")
# What names files or modules, which `dvc.yaml` and fingerprints give for both data sources.
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

Fraction = Field(None, ge=0, le=1)


def _name(name: Any) -> Any:
    if not _is_name(name):
        raise ValueError(
            "a name has lower-case letters, digits, _ and -, and begins with a letter "
            "(DVC drops numbers silently and fails on dots)"
        )
    return name


Name = Annotated[str, BeforeValidator(_name)]


class Reported(Strict):
    """Results printed in a coursework report; accuracies are fractions in [0, 1].

    `kind` is how the test accuracy was printed: an exact or a rounded number (`about`), a lower bound (`over`), a number
    that was not quite reached (`almost`), a result on `other_data` than ours, or only words: no better than `guessing`, or
    other `words`, in which case `quote` is all there is to compare with.
    """

    kind: Literal["exact", "about", "over", "almost", "other_data", "guessing", "words"] = "exact"
    test: float | None = Fraction
    last_test: float | None = Field(None, ge=0, le=1, description="of the last epoch, where `test` is that of the best one")
    required: float | None = Field(None, ge=0, le=1, description="test accuracy that the assignment requires")
    train: float | None = Fraction
    val: float | None = Fraction
    per_class: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = Field(None, description="test accuracy by class")
    train_loss: float | None = Field(None, ge=0)
    test_loss: float | None = Field(None, ge=0)
    seconds_cpu: float | None = Field(None, gt=0, description="of training")
    seconds_gpu: float | None = Field(None, gt=0)
    quote: str | None = None

    @model_validator(mode="after")
    def _kind_has_its_value(self) -> "Reported":
        if self.kind in {"words", "guessing"} and self.quote is None:
            raise ValueError(f"kind: {self.kind} needs a quote")
        if self.kind in {"about", "over", "almost", "other_data"} and self.test is None:
            raise ValueError(f"kind: {self.kind} needs test, the reported test accuracy")
        return self


class Experiment(Strict):
    """One model of one assignment."""

    assignment: str = Field(description="a block of `defaults`; its first letter is the page")
    title: str
    reported: Reported = Reported()
    train: dict[str, Any] = Field(description="what differs from the assignment's defaults, see TrainSettings")


class Data(Strict):
    """Where the data comes from: the one switch between a quick look and the published settings."""

    source: Source


class Dataset(Strict):
    """How a dataset is prepared."""

    validation_fraction: float = Field(gt=0, le=0.5, description="of the training set, drawn class by class")


class Derived(Dataset):
    """How a dataset is made from a prepared one."""

    made_from: str
    seed: int = Field(ge=0, lt=2**32)


class Pretrained(Dataset):
    """How initial weights are trained where the published ones may not be downloaded."""

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


def read_project(path: Path = PARAMS) -> Project:
    """Read and check the whole file, except for the keys of the parts, which `labbook.config.check` validates.

    Raises:
        ParamsError: with one line for each wrong key.
    """
    return parse_project(read(path))


def parse_project(values: dict[str, Any]) -> Project:
    """Check the values of the whole file.

    Raises:
        ParamsError: with one line for each wrong key.
    """
    problems = find_problems(values)
    if problems:
        raise ParamsError("\n".join(problems))
    return Project.model_validate(values)


def find_problems(values: dict[str, Any]) -> list[str]:
    """Return one line for each wrong key.

    Names that refer to other blocks are checked once all blocks are valid by themselves.
    """
    problems = [*_taken_names(values), *_wrong_schema(values), *_wrong_trainings(values)]
    if not problems:
        problems = list(_wrong_references(values))
    return list(dict.fromkeys(problems))


def training_blocks(values: Mapping[str, Any]) -> list[str]:
    """List the blocks that describe a training and hold what it takes to resolve them, such as `experiments.mnist_cnn`."""
    wanted = {"experiments": {"assignment", "train"}, "pretrained": {"train"}}
    return [
        f"{group}.{name}"
        for group, keys in wanted.items()
        for name, block in blocks_of(values, group).items()
        if isinstance(block, Mapping) and keys <= block.keys() and isinstance(block["train"], Mapping)
    ]


def blocks_of(values: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return the blocks of a group that have valid names; none if the group is missing or something else than a mapping."""
    return {name: block for name, block in _mapping(values.get(group)).items() if _is_name(name)}


def _mapping(blocks: Any) -> Mapping[Any, Any]:
    return blocks if isinstance(blocks, Mapping) else {}


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _taken_names(values: Mapping[str, Any]) -> Iterator[str]:
    """Find names that stand for two things."""
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
    """Check the settings of every training for both data sources, and the keys of defaults that no experiment uses."""
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
    yield from _unused_parts(project, values)
    for name, derived in project.derived.items():
        yield from _unknown(f"derived.{name}.made_from", derived.made_from, project.datasets, "datasets")
    for name, sweep in project.sweeps.items():
        yield from _unknown(f"sweeps.{name}.assignment", sweep.assignment, project.defaults, "defaults")
        yield from _unknown(f"sweeps.{name}.experiment", sweep.experiment, experiments, "experiments")
        for source in SOURCES if sweep.experiment in experiments else ():
            yield from errors_of(resolve_sweep, values, name, sweep, source)
    for name, explain in project.explain.items():
        yield from _unknown(f"explain.{name}", name, experiments, "experiments")
        if name in experiments:
            yield from _wrong_explanation(name, explain, resolve(values, f"experiments.{name}", project.source).settings.task)


def _unknown(key: str, name: str, known: Iterable[str], group: str) -> Iterator[str]:
    if name not in known:
        yield f"{key}: {name!r} is not a block of {group}{closest(name, known)} Known: {', '.join(known)}."


def _wrong_inputs(values: dict[str, Any], block: str, datasets: list[str], networks: list[str]) -> Iterator[str]:
    """Check what a training reads and runs, for which `dvc.yaml` and the fingerprints have one name for both data sources."""
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


def _unused_parts(project: Project, values: dict[str, Any]) -> Iterator[str]:
    """Find parts in `embedded` of defaults that apply to no experiment, since none has a part of that name."""
    for assignment, defaults in project.defaults.items():
        trained = [
            resolve(values, f"experiments.{name}", "official")
            for name, experiment in project.experiments.items()
            if experiment.assignment == assignment
        ]
        for key, part in defaults.get("embedded", {}).items() if trained else ():
            if isinstance(part, Mapping) and "name" in part:
                known = list(dict.fromkeys(str(_value(resolved, f"{key}.name")) for resolved in trained))
                if part["name"] not in known:
                    where = f"defaults.{assignment}.embedded.{key}.name"
                    yield f"{where}: no experiment of {assignment} has {part['name']!r}{closest(str(part['name']), known)}"


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
