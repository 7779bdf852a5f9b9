"""The settings that a training depends on, resolved from an experiment's block, its assignment's defaults and the schema."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from labbook.config.components import Component, Strict
from labbook.config.early_stopping import EarlyStopping
from labbook.config.images import Augment, Preprocess
from labbook.config.merging import SettingsLayer, flatten, merge, origin_of, split_embedded, without_other_components
from labbook.config.messages import closest, find_errors, unknown_key
from labbook.config.reading import look_up, read, validate
from labbook.errors import ParamsError

__all__ = [
    "BACKENDS", "SCHEMA", "Assignment", "Constraint", "Device", "Inputs", "Resolved", "Runtime", "TrainSettings",
    "errors_at_origin", "find_unknown_keys", "flat_settings", "read_runtime", "read_training", "resolve",
]  # fmt: skip

Assignment = Literal[
    "A", "A_principles", "B", "C", "D", "E"
]  # a block of `defaults`; its first letter selects the page of the report

SCHEMA = "schema"  # the origin of a default that `TrainSettings` sets
DEFAULT_LOSS = Component(name="CrossEntropyLoss")

# Backend → module that computes a training step.
BACKENDS = {"torch": "labbook.training.torch_step", "numpy": "labbook.numpy_nn.step"}


def _check_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ValueError("a device is auto, cpu, mps, cuda or cuda with a number, such as cuda:1")
    return device


Device = Annotated[str, AfterValidator(_check_device)]


class Constraint(Strict):
    """Requirements on a model; all keys in the block are checked before training starts.

    Hidden layers are all `Linear` modules except the last one, as in assignment A.
    """

    parameters: int | None = Field(None, gt=0, description="exact number of trainable parameters")
    parameters_below: int | None = Field(None, gt=0, description="upper bound on trainable parameters, exclusive")
    hidden_units_at_most: int | None = Field(None, ge=0)
    hidden_layers_at_least: int | None = Field(None, ge=0)
    layers_allowed: list[str] | None = Field(None, description="class names in torch.nn; containers are always allowed")
    layers_at_every_conv: list[str] | None = Field(
        None, description="class names of layers required between each Conv2d and the next Conv2d or Linear"
    )
    weight_decay: bool = Field(False, description="L2 regularisation is required")


class Inputs(Strict):
    """Inputs of a training; the templates of `dvc.yaml` need both names in every block."""

    dataset: str = Field(description="a block of `datasets` or `derived`")
    pretrained: str = Field(description="initial weights: a block of `pretrained`, or none for random weights")


class TrainSettings(Strict):
    """The settings of one training."""

    inputs: Inputs
    task: str = Field("classification", description="a file in labbook.evaluation.tasks")
    backend: Literal["torch", "numpy"] = Field(
        "torch", description="implementation of a training step: PyTorch, or the layers of labbook.numpy_nn"
    )
    validation: bool = Field(False, description="hold the dataset's validation split out of the training set")
    model: Component
    loss: Component = DEFAULT_LOSS
    optimizer: Component = Field(
        description="weight_decay applies to all trainable parameters, including biases and batch norm"
    )
    schedule: Component | None = Field(None, description="learning-rate schedule; default: constant")
    preprocess: Preprocess = Preprocess()
    augment: Augment = Augment()
    batch_size: int = Field(gt=0, le=1_000_000)
    drop_last: bool = Field(False, description="drop the last incomplete batch of an epoch")
    epochs: int = Field(gt=0, le=100_000)
    validate_every: int | None = Field(None, gt=0, description="steps between two rows of the history; default: one epoch")
    select: Literal["last", "best_val_loss", "best_val_accuracy"] = Field("last", description="weights to keep")
    early_stopping: EarlyStopping | None = Field(
        None, description="based on the validation loss; default: train for all epochs"
    )
    seeds: int = Field(1, gt=0, le=100, description="number of independent trainings, from seed, seed + 1, …")
    order: Literal["shuffled", "by_class"] = Field("shuffled", description="order of the samples in an epoch")
    watch: list[Literal["gradient_norms", "dead_units"]] = Field(
        [], description="quantities recorded per layer in every row of the history"
    )
    test_curve: bool = Field(False, description="record the test curve during training; it selects nothing")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="precision of forward and backward passes; weights stay float32"
    )
    threads: int = Field(1, gt=0, le=1024, description="CPU threads; the last bits of sums depend on their number")
    world_size: int = Field(1, gt=0, description="processes of data-parallel training, each with its share of every batch")
    constraint: Constraint = Constraint()

    @model_validator(mode="after")
    def _selection_needs_validation(self) -> "TrainSettings":
        if not self.validation and self.select != "last":
            raise ValueError(f"select: {self.select} needs validation: true")
        if not self.validation and self.early_stopping is not None:
            raise ValueError("early_stopping needs validation: true")
        return self

    @model_validator(mode="after")
    def _batch_covers_all_processes(self) -> "TrainSettings":
        if self.world_size > self.batch_size:
            raise ValueError(f"world_size: {self.world_size} processes cannot share a batch of {self.batch_size} samples")
        return self

    @model_validator(mode="after")
    def _numpy_backend_supports_settings(self) -> "TrainSettings":
        requirements = {
            "loss: {name: CrossEntropyLoss}": self.loss == DEFAULT_LOSS,
            "optimizer: {name: SGD}": self.optimizer.name == "SGD",
            "precision: float32": self.precision == "float32",
            "watch: []": not self.watch,
            "world_size: 1": self.world_size == 1,
        }
        unmet = [requirement for requirement, met in requirements.items() if not met]
        if self.backend == "numpy" and unmet:
            raise ValueError(f"backend: numpy supports only {' and '.join(unmet)}")
        return self


class Runtime(Strict):
    """Settings of all stages; each can change the bytes of a result."""

    seed: int = Field(ge=0, lt=2**32)
    device: Device


@dataclass(frozen=True)
class Resolved:
    """The settings of one training, and the origin of each value.

    Attributes:
        block: key of the block in `params.yaml`, such as `experiments.mnist_cnn`.
        settings: the typed settings.
        origins: by dotted key, the place that sets the value, such as `defaults.B`; other values are defaults of the schema.
    """

    block: str
    settings: TrainSettings
    origins: dict[str, str]

    def locate(self, path: str) -> str:
        """Return the full key in `params.yaml` of a setting: `defaults.B.optimizer.lr` for `optimizer.lr`."""
        return f"{origin_of(path, self.origins) or f'{self.block}.train'}.{path}"

    def relocate(self, message: str) -> str:
        """Replace a setting of the block at the beginning of a line by the key that sets it."""
        prefix = re.escape(f"{self.block}.train.")
        return re.sub(rf"^{prefix}([^:\s]+)", lambda match: self.locate(match[1]), message, flags=re.MULTILINE)


def resolve(values: Mapping[str, Any], block: str, source: str, changes: Iterable[SettingsLayer] = ()) -> Resolved:
    """Resolve the settings of `block` for a data source.

    A value is looked up in `embedded` of the block and of the defaults (on embedded data), then in the block, then in the
    defaults of its assignment, then in the schema. A component, such as an optimizer, whose name differs from that in the
    defaults replaces it as a whole. A component in `embedded` of the defaults applies only to experiments whose component has
    the same name.

    Args:
        values: all of `params.yaml`.
        block: key of the block, such as `experiments.mnist_cnn`; it has `train`, and `assignment` if it has defaults.
        source: `embedded` or `official`.
        changes: settings that override all others, such as those of a sweep.

    Raises:
        ParamsError: a key is wrong; the message has one line for each wrong key, which begins with the key that sets the value.
    """
    own = look_up(values, block)
    pairs = [split_embedded(look_up(own, "train", block), f"{block}.train")]
    if "assignment" in own:
        pairs.insert(0, split_embedded(_defaults(values, own["assignment"], block), f"defaults.{own['assignment']}"))
    layers = [layer for layer, _ in pairs]
    if source == "embedded":
        *shared, own_embedded = [embedded for _, embedded in pairs]
        layers += [*(without_other_components(layer, merge(layers)[0]) for layer in shared), own_embedded]
    layers += changes

    problems = [line for layer in layers for line in find_unknown_keys(layer)]
    settings, origins, errors = _validate(layers, f"{block}.train")
    if settings is None or problems:
        raise ParamsError("\n".join([*problems, *errors]))
    return Resolved(block, settings, origins)


def find_unknown_keys(layer: SettingsLayer) -> Iterator[str]:
    """Yield a message for each key of a layer that is not a setting of a training."""
    known = [*TrainSettings.model_fields, *([] if layer.key.endswith(".embedded") else ["embedded"])]
    for name in layer.values:
        if name not in known:
            yield f"{layer.key}.{name}: {unknown_key(str(name), known)}"


def _validate(layers: list[SettingsLayer], block: str) -> tuple[TrainSettings | None, dict[str, str], list[str]]:
    """Merge and validate layers; return the settings or `None`, the origins, and one message per error."""
    values, origins = merge([SettingsLayer(SCHEMA, {"loss": DEFAULT_LOSS.model_dump()}), *layers])
    values = {name: value for name, value in values.items() if name in TrainSettings.model_fields}
    try:
        return TrainSettings.model_validate(values), origins, []
    except ValidationError as error:
        findings = find_errors(error, TrainSettings, values)
        return None, origins, [finding.at(origin_of(finding.path, origins) or block) for finding in findings]


def _defaults(values: Mapping[str, Any], assignment: Any, block: str) -> Any:
    defaults = values.get("defaults")
    names = list(map(str, defaults)) if isinstance(defaults, Mapping) else []
    if not isinstance(defaults, Mapping) or assignment not in names:
        raise ParamsError(
            f"{block}.assignment: {assignment!r} is not a block of defaults{closest(str(assignment), names)} "
            f"Known: {', '.join(names) or 'none'}."
        )
    return defaults[assignment]


@contextmanager
def errors_at_origin(block: str, source: str) -> Iterator[None]:
    """Rewrite errors about settings of `block` to name the key in `params.yaml` that sets each, such as `defaults.B.epochs`."""
    try:
        yield
    except ParamsError as error:
        raise type(error)(resolve(read(), block, source).relocate(str(error))) from error


def read_training(name: str, source: str) -> tuple[TrainSettings, Runtime]:
    """Read the settings that the training of an experiment depends on.

    Raises:
        ParamsError: the experiment does not exist, or a key is wrong.
    """
    values = read()
    return resolve(values, f"experiments.{name}", source).settings, read_runtime(values)


def read_runtime(values: Mapping[str, Any]) -> Runtime:
    """Read the settings of all stages.

    Raises:
        ParamsError: a key is missing or wrong.
    """
    return validate({name: look_up(values, name) for name in Runtime.model_fields}, Runtime)


def flat_settings(settings: TrainSettings, runtime: Runtime) -> dict[str, str]:
    """Return everything that a training reads from `params.yaml`, as JSON by dotted key."""
    return flatten({**runtime.model_dump(), **settings.model_dump(exclude_none=True)})
