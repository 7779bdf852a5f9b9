"""Modules that a stage chooses by name, which no static import shows: models, tasks, datasets and one's own classes."""

from labbook.config.own import own_module
from labbook.config.parts import FAMILIES, Part
from labbook.config.project import parse_project
from labbook.config.reading import read
from labbook.config.sweep import variants
from labbook.config.train import BACKENDS, TrainSettings, resolve

__all__ = ["chosen_modules"]


def chosen_modules() -> dict[str, tuple[str, ...]]:
    """Read `params.yaml` and list the chosen modules of every stage: `train/mnist_cnn` for `train@mnist_cnn`.

    Raises:
        ParamsError: with one line for each wrong key.
    """
    values = read()
    project = parse_project(values)
    chosen: dict[str, tuple[str, ...]] = dict.fromkeys(("no_weights", "report", "gradcheck", "exercises"), ())
    for name in project.datasets:
        chosen |= dict.fromkeys((f"fetch/{name}", f"prepare/{name}"), (_module("dataset", name),))
    for name in project.derived:
        chosen[f"derive/{name}"] = (_module("derived", name),)
    for name in project.pretrained:
        settings = resolve(values, f"pretrained.{name}", project.source).settings
        data = (_module("pretrained", name), _module("dataset", settings.inputs.dataset))
        chosen[f"fetch_pretrained/{name}"] = data
        chosen[f"pretrain/{name}"] = (*data, *_of_training(settings))
    for name in project.experiments:
        settings = resolve(values, f"experiments.{name}", project.source).settings
        chosen[f"train/{name}"] = _of_training(settings)
        chosen[f"evaluate/{name}"] = (_module("task", settings.task), *_of_model(settings))
    for name in project.explain:
        chosen[f"explain/{name}"] = _of_model(resolve(values, f"experiments.{name}", project.source).settings)
    for name, sweep in project.sweeps.items():
        (_, settings), *_ = variants(values, name, sweep, project.source)
        chosen[f"sweep/{name}"] = _of_training(settings)
    return chosen


def _module(family: str, name: str) -> str:
    return f"labbook.{FAMILIES[family].replace('/', '.')}.{name}"


def _of_model(settings: TrainSettings) -> tuple[str, ...]:
    return (_module("model", settings.model.name), *_own("loss", settings.loss))


def _of_training(settings: TrainSettings) -> tuple[str, ...]:
    parts = (*_own("optimizer", settings.optimizer), *_own("schedule", settings.schedule))
    return (BACKENDS[settings.backend], *_of_model(settings), *parts)


def _own(kind: str, part: Part | None) -> tuple[str, ...]:
    module = own_module(kind, part.name) if part else None
    return (module,) if module else ()
