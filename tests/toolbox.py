"""What several test files build: small models, plans to train them by, and weights as bytes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from labbook.augmentations import none
from labbook.inference import Inputs, place
from labbook.losses import cross_entropy
from labbook.models import cnn, mlp
from labbook.optimizers import adam, sgd
from labbook.packed import Packed
from labbook.params.training import TrainSettings
from labbook.schedules import constant
from labbook.stopping import never
from labbook.training.engine import Plan

CPU = torch.device("cpu")
PLAIN = {"loss": "cross_entropy", "schedule": "constant", "augmentation": "none", "stopping": "never"}
OPTIMIZERS = {
    "sgd": {"lr": 0.1},
    "momentum": {"lr": 0.05, "momentum": 0.9},
    "adam": {"lr": 0.01, "weight_decay": 0.001},
}


class Noise:
    """A random augmentation: every pixel of a batch moves a little."""

    def fixed(self, images: Tensor) -> Tensor:
        return images.to(torch.float32) / 255

    def random(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images + 0.1 * torch.randn(images.shape, generator=generator)


def toy_model(packed: Packed, kind: str = "mlp", seed: int = 0, **keys: Any) -> nn.Module:
    """Build a small network of the project's own families, the same for the same seed."""
    torch.manual_seed(seed)
    shape, classes = packed.image_shape, len(packed.classes)
    if kind == "mlp":
        model = mlp.build(mlp.Settings(name="mlp", **({"hidden": [16]} | keys)), shape, classes)
    else:
        model = cnn.build(cnn.Settings(name="cnn", **({"channels": [4, 4], "pools": 1} | keys)), shape, classes)
    return model.to(memory_format=torch.channels_last)


def build_optimizer(name: str, parameters: Any, **keys: Any) -> torch.optim.Optimizer:
    values = OPTIMIZERS[name] | keys
    if name == "adam":
        return adam.build(adam.Settings(name="adam", **values), parameters)
    return sgd.build(sgd.Settings(name="sgd", **values), parameters)


def toy_plan(optimizer: str = "sgd", lr: float | None = None, **changes: Any) -> Plan:
    """Plan three epochs of SGD without any frills, but for `changes`."""
    values = {} if lr is None else {"lr": lr}
    plan: dict[str, Any] = {
        "loss": cross_entropy.build(cross_entropy.Settings(name="cross_entropy")),
        "optimizer": lambda parameters: build_optimizer(optimizer, parameters, **values),
        "schedule": constant.build(constant.Settings(name="constant")),
        "augmentation": none.build(none.Settings(name="none")),
        "stopping": never.build(never.Settings(name="never")),
        "batch_size": 16,
        "drop_last": False,
        "epochs": 3,
        "validate_every": None,
        "keep": "last",
        "seed": 0,
    }
    return Plan(**(plan | changes))


def toy_settings(**changes: Any) -> TrainSettings:
    """Give the settings of an experiment as `params.yaml` would: three epochs of SGD on a small network."""
    plain = {family: {"name": name} for family, name in PLAIN.items()}
    parts = plain | {"model": {"name": "mlp", "hidden": [16]}, "optimizer": {"name": "sgd", "lr": 0.1}}
    rest = {"dataset": "toy", "pretrained": "none", "validation": True, "batch_size": 16, "epochs": 3, "keep": "last"}
    return TrainSettings.model_validate(parts | rest | changes)


def splits(packed: Packed) -> tuple[Inputs, Inputs, Inputs]:
    """Place what is left to train on, the validation split and the test set."""
    convert = none.Scaled().fixed
    train, validation = packed.held_out()
    return place(train, convert, CPU), place(validation, convert, CPU), place(packed.test, convert, CPU)


def bits(weights: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().contiguous().numpy().tobytes() for name, tensor in weights.items()}
