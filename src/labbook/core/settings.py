"""The settings that a training run depends on; `train` reads these and nothing else of `params.yaml`."""

import re
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from labbook.core.parts import Part, describe
from labbook.core.reading import merge, pick, read, validate

__all__ = [
    "NAME",
    "PARTS",
    "Assignment",
    "Constraint",
    "Device",
    "Name",
    "Runtime",
    "Strict",
    "TrainSettings",
    "read_runtime",
    "read_training",
]

PARTS = ("model", "loss", "optimizer", "schedule", "augmentation", "stopping")

# DVC's `foreach` drops numeric keys and fails on dots; these names also make safe file names.
NAME = r"[a-z][a-z0-9_-]*"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Assignment = Literal["A", "B", "C", "D", "E"]


def _device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ValueError("a device is auto, cpu, mps, cuda or cuda with a number, such as cuda:1")
    return device


Device = Annotated[str, AfterValidator(_device)]


class Strict(BaseModel):
    """No unknown key, no silent conversion, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Constraint(Strict):
    """What a model must keep to; every key that stands in the block is checked before training starts.

    Hidden units and hidden layers count `Linear` modules but the last one, as assignment A does.
    """

    parameters: int | None = Field(None, gt=0, description="exactly so many learnable parameters")
    parameters_below: int | None = Field(None, gt=0, description="fewer learnable parameters than this")
    hidden_units_at_most: int | None = Field(None, ge=0)
    hidden_layers_at_least: int | None = Field(None, ge=0)
    layers_allowed: list[str] | None = Field(None, description="class names in torch.nn; containers are free")
    layers_at_every_conv: list[str] | None = Field(None, description="as many of each as there are Conv2d")
    weight_decay: bool = Field(False, description="L2 regularisation is asked for")


class TrainSettings(Strict):
    """One experiment's training, as a line of the assignments reads."""

    dataset: Name
    pretrained: Name = Field(description="weights to start from, a block of `pretrained`; none: drawn at random")
    backend: Literal["pytorch", "scratch"] = Field(
        description="what computes a step: PyTorch, or the NumPy layers from scratch"
    )
    validation: bool = Field(description="hold the dataset's validation split out of the training set")
    model: Part
    loss: Part
    optimizer: Part
    schedule: Part
    augmentation: Part
    stopping: Part
    batch_size: int = Field(gt=0, le=1_000_000)
    drop_last: bool = Field(False, description="drop the last incomplete batch of an epoch")
    epochs: int = Field(gt=0, le=100_000)
    validate_every: int | None = Field(None, gt=0, description="steps between two rows of the history; one epoch by default")
    keep: Literal["last", "best_validation_loss", "best_validation_accuracy"] = Field(
        description="which weights are kept: those after the last step, or the best ones on validation data"
    )
    restart: int = Field(0, ge=0, description="which of several random starts from the same seed; chosen on validation data")
    order: Literal["shuffled", "by_class"] = Field("shuffled", description="of the samples in an epoch")
    watch: list[Literal["gradient_norms", "dead_units"]] = Field([], description="by layer, at every row of the history")
    test_curve: bool = Field(False, description="record the test curve while training; nothing is chosen by it")
    precision: Literal["float32", "bf16"] = Field("float32", description="of forward and backward; weights stay float32")
    processes: int = Field(1, gt=0, description="that train together, each on its part of every batch; on GPUs, one each")
    constraint: Constraint = Constraint()
    embedded: dict[str, Any] = Field({}, description="what is otherwise on embedded data: keys of this block, merged into it")

    @model_validator(mode="after")
    def _choices_need_validation(self) -> "TrainSettings":
        if not self.validation and self.keep != "last":
            raise ValueError(f"keep: {self.keep} needs validation: true")
        if not self.validation and self.stopping.name != "never":
            raise ValueError(f"stopping: {self.stopping.name} needs validation: true")
        return self

    @model_validator(mode="after")
    def _batch_has_a_part_for_each_process(self) -> "TrainSettings":
        if self.processes > self.batch_size:
            raise ValueError(f"processes: {self.processes} are more than a batch of {self.batch_size} has samples")
        return self

    @model_validator(mode="after")
    def _scratch_has_not_everything(self) -> "TrainSettings":
        for key, there in (
            ("loss", "cross_entropy"),
            ("optimizer", "sgd"),
            ("precision", "float32"),
            ("watch", []),
            ("processes", 1),
        ):
            found = getattr(self, key)
            if self.backend == "scratch" and getattr(found, "name", found) != there:
                raise ValueError(f"backend: scratch has only {there or 'an empty list'} for {key}")
        return self

    @model_validator(mode="after")
    def _embedded_is_a_training_too(self) -> "TrainSettings":
        if not self.embedded:
            return self
        try:
            merged = self.on("embedded")
        except ValidationError as error:
            raise ValueError("embedded: " + describe(error, TrainSettings, "")) from error
        others = [part for part in PARTS if getattr(merged, part).name != getattr(self, part).name]
        others += [key for key in ("dataset", "pretrained", "backend") if getattr(merged, key) != getattr(self, key)]
        if others:
            raise ValueError(f"embedded.{others[0]}: may not name another one, as stages depend on what is named")
        return self

    def on(self, source: str) -> "TrainSettings":
        """Give the settings that hold on this data source.

        Raises:
            pydantic.ValidationError: what `embedded` changes does not do.
        """
        own = self.model_dump(exclude_unset=True, exclude={"embedded"})
        return TrainSettings.model_validate(merge(own, self.embedded) if source == "embedded" else own)

    def seed_of(self, seed: int) -> int:
        """Give the seed of this training, given that of the project; the same one for the first start."""
        return int(np.random.SeedSequence((seed, self.restart)).generate_state(1)[0]) if self.restart else seed


class Runtime(Strict):
    """What holds for every run; all of it changes the bytes of a result."""

    seed: int = Field(ge=0, lt=2**32)
    device: Device
    threads: int = Field(gt=0, le=1024, description="of each process; sums depend on how many share them, so it is fixed here")


def read_training(block: str) -> tuple[TrainSettings, Runtime]:
    """Read what a training depends on; `block` is such as `experiments.mnist_cnn`.

    Raises:
        ParamsError: the block is not there, or a key is wrong.
    """
    values: dict[str, Any] = read()
    key = f"{block}.train"
    settings = validate(pick(values, key), TrainSettings, key)
    return settings, read_runtime(values)


def read_runtime(values: dict[str, Any]) -> Runtime:
    """Read what holds for every run.

    Raises:
        ParamsError: a key is missing or wrong.
    """
    return validate({name: pick(values, name) for name in Runtime.model_fields}, Runtime)
