"""The whole of `params.yaml`: datasets, experiments with what was reported of them, sweeps."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from labbook.errors import ParamsError
from labbook.params.reading import PARAMS, read, validate
from labbook.params.sweep import Sweep, variants
from labbook.params.training import Assignment, Name, Runtime, Strict, TrainSettings
from labbook.parts import closest

__all__ = ["Data", "Dataset", "Experiment", "Project", "Reported", "Sweep", "read_project"]

Fraction = Field(None, ge=0, le=1)


class Reported(Strict):
    """Figures that a coursework report printed; accuracies are fractions in [0, 1].

    `kind` says how the test accuracy was printed: an exact figure, a lower bound (`over`), a figure that was not quite
    reached (`almost`), or only in words (`words`), when `quote` is all there is to stand beside ours.
    """

    kind: Literal["exact", "over", "almost", "words"] = "exact"
    test_accuracy: float | None = Fraction
    last_test_accuracy: float | None = Fraction
    train_accuracy: float | None = Fraction
    required_test_accuracy: float | None = Fraction
    seconds: float | None = Field(None, gt=0)
    seconds_on: Literal["CPU", "GPU"] | None = None
    quote: str | None = None


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


class Project(Runtime):
    """All of `params.yaml`."""

    data: Data
    datasets: dict[Name, Dataset]
    experiments: dict[Name, Experiment]
    sweeps: dict[Name, Sweep] = Field(default_factory=dict)


def read_project(path: Path = PARAMS) -> Project:
    """Read and check the whole file, but for the keys of its parts, which `labbook.params.check` looks into.

    Raises:
        ParamsError: with one line for every key that is wrong.
    """
    values = read(path)
    for group in ("datasets", "experiments", "sweeps"):
        _check_names(group, values.get(group))
    project = validate(values, Project)
    trains = {f"experiments.{name}": experiment.train for name, experiment in project.experiments.items()}
    trains |= {f"sweeps.{name}": sweep.train for name, sweep in project.sweeps.items()}
    for key, train in trains.items():
        if train.dataset not in project.datasets:
            raise ParamsError(
                f"{key}.train.dataset: {train.dataset!r} does not stand under datasets"
                f"{closest(train.dataset, list(project.datasets))} There are: {', '.join(project.datasets)}."
            )
    for name, sweep in project.sweeps.items():
        if name in project.experiments:
            raise ParamsError(f"sweeps.{name}: an experiment has this name already. Rename one of them.")
        variants(values["sweeps"][name]["train"], sweep.vary, f"sweeps.{name}")
    return project


def _check_names(group: str, names: Any) -> None:
    for name in names if isinstance(names, dict) else ():
        if not (isinstance(name, str) and name[:1].isalpha() and name.islower() and _plain(name)):
            raise ParamsError(
                f"{group}: {name!r} is no name that DVC can take. Begin with a lower-case letter and go on with "
                "lower-case letters, digits, _ and - (DVC drops numbers silently and fails on dots)."
            )


def _plain(name: str) -> bool:
    return name.isascii() and name.replace("_", "").replace("-", "").isalnum()
