"""A sweep: an experiment trained with one of its settings set to equally spaced values."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from pydantic import Field, model_validator

from labbook.config.components import Strict
from labbook.config.merging import SettingsLayer, split_embedded
from labbook.config.reading import look_up, read, validate
from labbook.config.train import Resolved, Runtime, TrainSettings, flat_settings, read_runtime, resolve
from labbook.errors import ParamsError

__all__ = ["Sweep", "Vary", "flat_sweep_settings", "read_sweep", "resolve_sweep", "variants"]

DIGITS = 12  # significant digits of a value: 0.3 instead of 0.30000000000000004


class Vary(Strict):
    """The setting that a sweep varies, and its values."""

    key: str = Field(min_length=1, description="dotted key of a float inside `train`, such as model.dropout")
    first: float
    last: float
    count: int = Field(ge=2, le=100)

    @model_validator(mode="after")
    def _values_differ(self) -> "Vary":
        if len(set(self.values())) < self.count:
            raise ValueError(f"{self.count} values from {self.first!r} to {self.last!r} are not all different")
        return self

    def values(self) -> list[float]:
        """Return `count` equally spaced values from `first` to `last`, both included, to 12 significant digits."""
        step = (self.last - self.first) / (self.count - 1)
        exact = [self.first + index * step for index in range(self.count - 1)] + [self.last]
        return [float(f"{value:.{DIGITS}g}") for value in exact]


class Sweep(Strict):
    """One block under `sweeps`."""

    assignment: str = Field(description="a block of `defaults`; its first letter is the page")
    title: str
    experiment: str = Field(description="experiment whose settings apply")
    vary: Vary
    train: dict[str, Any] = Field({}, description="other changes to the experiment's settings, such as epochs")


def read_sweep(name: str, source: str) -> tuple[list[tuple[float, TrainSettings]], Runtime]:
    """Read a sweep: each value with its training settings, and the runtime settings.

    Raises:
        ParamsError: there is no such sweep, or a key is wrong.
    """
    values = read()
    sweep = validate(look_up(values, f"sweeps.{name}"), Sweep, f"sweeps.{name}")
    return variants(values, name, sweep, source), read_runtime(values)


def variants(values: Mapping[str, Any], name: str, sweep: Sweep, source: str) -> list[tuple[float, TrainSettings]]:
    """Return each value of a sweep with its training settings; the arguments are those of `resolve_sweep`."""
    return [(value, resolved.settings) for value, resolved in resolve_sweep(values, name, sweep, source)]


def flat_sweep_settings(trainings: Sequence[tuple[float, TrainSettings]], runtime: Runtime) -> dict[str, str]:
    """Return everything that a sweep reads from `params.yaml`, as JSON by dotted key; a list if its trainings differ."""
    settings = [flat_settings(training, runtime) for _, training in trainings]
    values = {key: [flat.get(key, "null") for flat in settings] for key in dict.fromkeys(chain(*settings))}
    return {key: texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]" for key, texts in values.items()}


def resolve_sweep(values: Mapping[str, Any], name: str, sweep: Sweep, source: str) -> list[tuple[float, Resolved]]:
    """Resolve the training settings of each value of a sweep.

    A sweep trains once per value, with one seed.

    Args:
        values: all of `params.yaml`.
        name: name of the sweep.
        sweep: its block.
        source: `embedded` or `official`.

    Raises:
        ParamsError: the experiment has no such setting, the value is invalid, or `train` changes a fixed setting.
    """
    train, embedded = split_embedded(sweep.train, f"sweeps.{name}.train")
    fixed = {
        "inputs": f"the data is that of {sweep.experiment}",
        "seeds": "a sweep trains once per value",
        sweep.vary.key: "the sweep varies it",
    }
    for layer in (train, embedded):
        for key, reason in fixed.items():
            if _contains(layer.values, key):
                raise ParamsError(f"{layer.key}.{key}: {reason}. Remove it.")
    changes = [SettingsLayer(f"sweeps.{name}", {"seeds": 1}), train, *([embedded] if source == "embedded" else [])]
    return [
        (value, resolve(values, f"experiments.{sweep.experiment}", source, [*changes, _vary(name, sweep, value)]))
        for value in sweep.vary.values()
    ]


def _vary(name: str, sweep: Sweep, value: float) -> SettingsLayer:
    nested: Any = value
    for step in reversed(sweep.vary.key.split(".")):
        nested = {step: nested}
    return SettingsLayer(f"sweeps.{name}.vary", nested)


def _contains(values: Any, key: str) -> bool:
    for step in key.split("."):
        if not isinstance(values, Mapping) or step not in values:
            return False
        values = values[step]
    return True
