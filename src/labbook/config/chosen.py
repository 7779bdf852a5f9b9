"""Dependencies of a stage that come from its settings: the modules that it imports by name, and the settings themselves."""

from labbook.config.components import Component, module_name, names
from labbook.config.project import parse_project
from labbook.config.reading import read
from labbook.config.sweep import flat_sweep_settings, variants
from labbook.config.train import BACKENDS, TrainSettings, flat_settings, read_runtime, resolve

__all__ = ["chosen_modules", "settings_of_stages"]


def chosen_modules() -> dict[str, tuple[str, ...]]:
    """Return the modules that each stage in `params.yaml` imports by name; the key of `train@mnist_cnn` is `train/mnist_cnn`.

    Raises:
        ParamsError: a key is wrong; the message has one line for each wrong key.
    """
    values = read()
    project = parse_project(values)
    chosen: dict[str, tuple[str, ...]] = dict.fromkeys(("no_weights", "report", "gradcheck", "exercises"), ())
    for name in project.datasets:
        chosen |= dict.fromkeys((f"fetch/{name}", f"prepare/{name}"), (module_name("dataset", name),))
    for name in project.derived:
        chosen[f"derive/{name}"] = (module_name("derived", name),)
    for name in project.pretrained:
        settings = resolve(values, f"pretrained.{name}", project.source).settings
        data = (module_name("pretrained", name), module_name("dataset", settings.inputs.dataset))
        chosen[f"fetch_pretrained/{name}"] = data
        chosen[f"pretrain/{name}"] = (*data, *_training_modules(settings))
    for name in project.experiments:
        settings = resolve(values, f"experiments.{name}", project.source).settings
        chosen[f"train/{name}"] = _training_modules(settings)
        chosen[f"evaluate/{name}"] = (module_name("task", settings.task), *_model_modules(settings))
    for name in project.explain:
        chosen[f"explain/{name}"] = _model_modules(resolve(values, f"experiments.{name}", project.source).settings)
    for name, sweep in project.sweeps.items():
        (_, settings), *_ = variants(values, name, sweep, project.source)
        chosen[f"sweep/{name}"] = _training_modules(settings)
    return chosen


def settings_of_stages() -> dict[str, dict[str, str]]:
    """Return the settings of each stage in `params.yaml` that trains, as JSON by dotted key.

    Raises:
        ParamsError: a key is wrong; the message has one line for each wrong key.
    """
    values = read()
    project, runtime = parse_project(values), read_runtime(values)
    settings = {
        f"{stage}/{name}": flat_settings(resolve(values, f"{group}.{name}", project.source).settings, runtime)
        for stage, group in (("train", "experiments"), ("pretrain", "pretrained"))
        for name in getattr(project, group)
    }
    for name, sweep in project.sweeps.items():
        settings[f"sweep/{name}"] = flat_sweep_settings(variants(values, name, sweep, project.source), runtime)
    return settings


def _model_modules(settings: TrainSettings) -> tuple[str, ...]:
    return (module_name("model", settings.model.name), *_custom_module("loss", settings.loss))


def _training_modules(settings: TrainSettings) -> tuple[str, ...]:
    custom = (*_custom_module("optimizer", settings.optimizer), *_custom_module("schedule", settings.schedule))
    return (BACKENDS[settings.backend], *_model_modules(settings), *custom)


def _custom_module(family: str, component: Component | None) -> tuple[str, ...]:
    """Return the module of a loss, optimizer or schedule if it is a file of this package, not a class of PyTorch."""
    return (module_name(family, component.name),) if component and component.name in names(family) else ()
