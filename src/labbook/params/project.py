"""The whole of `params.yaml`: datasets, experiments with what was reported of them, sweeps, pairs, what is explained, seeds."""

import copy
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from labbook.core.errors import ParamsError
from labbook.core.parts import closest
from labbook.core.reading import PARAMS, pick, read, validate
from labbook.core.settings import NAME, Assignment, Name, Runtime, Strict, TrainSettings
from labbook.params.explain import Explained
from labbook.params.seeds import Seeded
from labbook.params.sweep import Sweep, variants

__all__ = ["Data", "Dataset", "Experiment", "Pair", "Project", "Reported", "Sweep", "read_project"]

STAGES_WITH_METRICS = frozenset({"exercises", "gradcheck"})  # in files of their own names, beside the experiments'

Fraction = Field(None, ge=0, le=1)


class Reported(Strict):
    """Figures that a coursework report printed; accuracies are fractions in [0, 1].

    `kind` says how the test accuracy was printed: an exact or a rounded figure (`about`), a lower bound (`over`), a figure
    that was not quite reached (`almost`), a figure on `other_data` than ours, or only in words: that it was no better than
    `guessing`, or other `words`, when `quote` is all there is to stand beside ours.
    """

    kind: Literal["exact", "about", "over", "almost", "other_data", "guessing", "words"] = "exact"
    test_accuracy: float | None = Fraction
    last_test_accuracy: float | None = Fraction
    train_accuracy: float | None = Fraction
    val_accuracy: float | None = Fraction
    train_loss: float | None = Field(None, ge=0)
    test_loss: float | None = Field(None, ge=0)
    test_accuracy_per_class: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None
    required_test_accuracy: float | None = Fraction
    seconds: float | None = Field(None, gt=0)
    seconds_on: Literal["CPU", "GPU"] | None = None
    quote: str | None = None

    @model_validator(mode="after")
    def _kind_has_its_figure(self) -> "Reported":
        if self.kind in {"words", "guessing"} and self.quote is None:
            raise ValueError(f"kind: {self.kind} needs a quote")
        if self.kind in {"about", "over", "almost", "other_data"} and self.test_accuracy is None:
            raise ValueError(f"kind: {self.kind} needs a test_accuracy")
        return self


class Experiment(Strict):
    """One model of one assignment."""

    assignment: Assignment
    task: Name
    title: str
    reported: Reported
    train: TrainSettings


class Data(Strict):
    """Where the data comes from: the one switch between a quick look and the published settings."""

    source: Literal["embedded", "official"]


class Dataset(Strict):
    """How a dataset is prepared."""

    validation_fraction: float = Field(gt=0, le=0.5, description="of the training set, drawn class by class")


class Composed(Dataset):
    """How a dataset is made from a prepared one."""

    made_from: Name
    seed: int = Field(ge=0, lt=2**32)


class Pretrained(Dataset):
    """How weights to start from are trained where they may not be downloaded."""

    train: TrainSettings


class Pair(Strict):
    """Two experiments that are shown side by side, each trained again from several random starts."""

    assignment: Assignment
    title: str
    dataset: Name = Field(description="of both")
    first: Name
    second: Name
    starts: int = Field(ge=1, le=100, description="how many, the experiment's own among them")


class Project(Runtime):
    """All of `params.yaml`."""

    data: Data
    datasets: dict[Name, Dataset]
    composed: dict[Name, Composed] = Field(min_length=1)
    pretrained: dict[Name, Pretrained] = Field(min_length=1)
    experiments: dict[Name, Experiment] = Field(min_length=1)
    sweeps: dict[Name, Sweep] = Field(min_length=1, description="DVC finds no folder of their results when there is none")
    pairs: dict[Name, Pair] = Field(min_length=1, description="as sweeps")
    explain: dict[Name, Explained] = Field(min_length=1, description="by experiment; as sweeps")
    seeds: dict[Name, Seeded] = Field(min_length=1, description="by experiment; as sweeps")


def read_project(path: Path = PARAMS) -> Project:
    """Read and check the whole file, but for the keys of its parts, which `labbook.params.check` looks into.

    Raises:
        ParamsError: with one line for every key that is wrong.
    """
    values = read(path)
    for group in ("datasets", "composed", "pretrained", "experiments", "sweeps", "pairs", "explain", "seeds"):
        _check_names(group, values.get(group))
    project = validate(values, Project)
    _check_taken(project)
    trains = {f"experiments.{name}": experiment.train for name, experiment in project.experiments.items()}
    trains |= {f"sweeps.{name}": sweep.train for name, sweep in project.sweeps.items()}
    for key, train in trains.items():
        _check_choice(f"{key}.train.dataset", train.dataset, [*project.datasets, *project.composed], "datasets or composed")
        _check_choice(f"{key}.train.pretrained", train.pretrained, ["none", *project.pretrained], "pretrained")
    for name, composed in project.composed.items():
        _check_choice(f"composed.{name}.made_from", composed.made_from, list(project.datasets), "datasets")
    for name, pretrained in project.pretrained.items():
        _check_choice(f"pretrained.{name}.train.dataset", pretrained.train.dataset, list(project.datasets), "datasets")
        _check_choice(f"pretrained.{name}.train.pretrained", pretrained.train.pretrained, ["none"], "what it may start from")
    for name, sweep in project.sweeps.items():
        variants(values["sweeps"][name]["train"], sweep.vary, f"sweeps.{name}")
        _check_sweep(values, name, sweep)
    for name, pair in project.pairs.items():
        _check_pair(project, name, pair)
    for name, explained in project.explain.items():
        _check_explained(project, name, explained)
    for name in project.seeds:
        _check_choice(f"seeds.{name}", name, list(project.experiments), "experiments")
    _check_processes(project)
    return project


def _check_taken(project: Project) -> None:
    """Refuse names that stand for something else already."""
    for name in project.composed.keys() & project.datasets.keys():
        raise ParamsError(f"composed.{name}: a dataset has this name already. Rename one of them.")
    if "none" in project.pretrained:
        raise ParamsError("pretrained.none: `none` means weights drawn at random. Give it another name.")
    for name in project.experiments.keys() & STAGES_WITH_METRICS:
        raise ParamsError(f"experiments.{name}: metrics/{name}.json is the file of the stage {name}. Give it another name.")
    for name in project.sweeps.keys() & project.experiments.keys():
        raise ParamsError(f"sweeps.{name}: an experiment has this name already. Rename one of them.")
    for name in project.pairs.keys() & (project.experiments.keys() | project.sweeps.keys()):
        raise ParamsError(f"pairs.{name}: an experiment or a sweep has this name already. Rename one of them.")


def _check_choice(key: str, found: str, known: list[str], where: str) -> None:
    if found not in known:
        raise ParamsError(
            f"{key}: {found!r} does not stand under {where}{closest(found, known)} There are: {', '.join(known)}."
        )


# What a sweep may do otherwise than its experiment, beside the varied key.
LENGTH = ("epochs", "embedded", "schedule", "keep", "test_curve", "constraint", "processes")


def _check_sweep(values: dict[str, Any], name: str, sweep: Sweep) -> None:
    if sweep.experiment not in values["experiments"]:
        raise ParamsError(
            f"sweeps.{name}.experiment: there is no experiment {sweep.experiment!r}"
            f"{closest(sweep.experiment, list(values['experiments']))}"
        )
    own = copy.deepcopy(values["sweeps"][name]["train"])
    experiment = copy.deepcopy(pick(values, f"experiments.{sweep.experiment}.train"))
    for block in (own, experiment):
        parent, _, last = sweep.vary.key.rpartition(".")
        pick(block, parent).pop(last, None) if parent else block.pop(last, None)
    others = sorted(key for key in own.keys() | experiment.keys() if key not in LENGTH and own.get(key) != experiment.get(key))
    if others:
        raise ParamsError(
            f"sweeps.{name}.train.{others[0]}: differs from experiments.{sweep.experiment}.train.{others[0]}. "
            f"Beside {sweep.vary.key}, only {', '.join(LENGTH)} may."
        )


def _check_pair(project: Project, name: str, pair: Pair) -> None:
    for key in ("first", "second"):
        member = getattr(pair, key)
        _check_choice(f"pairs.{name}.{key}", member, list(project.experiments), "experiments")
        experiment = project.experiments[member]
        for what, found, wanted in (
            ("task", experiment.task, "plane"),
            ("train.dataset", experiment.train.dataset, pair.dataset),
        ):
            if found != wanted:
                raise ParamsError(
                    f"pairs.{name}.{key}: experiments.{member}.{what} is {found}, and a pair here needs {wanted}."
                )


def _check_processes(project: Project) -> None:
    """Refuse several processes where a stage trains again and again, or on the way to something else."""
    trains = {f"pretrained.{name}": pretrained.train for name, pretrained in project.pretrained.items()}
    trains |= {f"sweeps.{name}": sweep.train for name, sweep in project.sweeps.items()}
    again = {name for pair in project.pairs.values() for name in (pair.first, pair.second)} | set(project.seeds)
    trains |= {f"experiments.{name}": project.experiments[name].train for name in sorted(again)}
    for key, train in trains.items():
        if max(train.processes, train.on("embedded").processes) > 1:
            raise ParamsError(
                f"{key}.train.processes: pretraining, sweeps, pairs and seeds train in one process. Leave it out."
            )


def _check_explained(project: Project, name: str, explained: Explained) -> None:
    _check_choice(f"explain.{name}", name, list(project.experiments), "experiments")
    experiment = project.experiments[name]
    if experiment.task == "plane":
        raise ParamsError(f"explain.{name}: points in a plane have no pixels to attribute. Leave it out.")
    if (experiment.task == "segmentation") != (explained.look.region is not None):
        raise ParamsError(f"explain.{name}.look.region: goes with task: segmentation, and that of {name} is {experiment.task}.")


def _check_names(group: str, names: Any) -> None:
    for name in names if isinstance(names, dict) else ():
        if not (isinstance(name, str) and re.fullmatch(NAME, name)):
            raise ParamsError(
                f"{group}: {name!r} is no name that DVC can take. Begin with a lower-case letter and go on with "
                "lower-case letters, digits, _ and - (DVC drops numbers silently and fails on dots)."
            )
