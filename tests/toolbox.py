"""What several test files build: small models, plans to train them by, weights as bytes, mirrors and what they publish."""

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labbook.config.components import Component
from labbook.config.images import Preprocess
from labbook.config.train import TrainSettings
from labbook.data.download import Remote
from labbook.data.packed import PackedDataset
from labbook.models import cnn, mlp
from labbook.training import torch_step
from labbook.training.components import build_loss, build_optimizer, build_schedule
from labbook.training.engine import TrainConfig
from labbook.training.inference import DeviceDataset, to_device
from labbook.training.preprocessing import Preprocessing

CPU = torch.device("cpu")
OPTIMIZERS = {
    "sgd": {"name": "SGD", "lr": 0.1},
    "momentum": {"name": "SGD", "lr": 0.05, "momentum": 0.9},
    "adam": {"name": "Adam", "lr": 0.01, "weight_decay": 0.001},
}
UNIT = Preprocessing(Preprocess())  # bytes to [0, 1]


def add_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Augment: move every pixel of a batch a little."""
    return images + 0.1 * torch.randn(images.shape, generator=generator)


def toy_model(packed: PackedDataset, kind: str = "mlp", seed: int = 0, **keys: Any) -> nn.Module:
    """Build a small network of the project's own families, the same for the same seed."""
    torch.manual_seed(seed)
    shape, classes = packed.image_shape, len(packed.classes)
    if kind == "mlp":
        model = mlp.build(mlp.Settings(name="mlp", **({"hidden": [16]} | keys)), shape, classes)
    else:
        model = cnn.build(cnn.Settings(name="cnn", **({"channels": [4, 4], "pools": 1} | keys)), shape, classes)
    return model.to(memory_format=torch.channels_last)


def toy_optimizer(name: str, parameters: Any, **keys: Any) -> torch.optim.Optimizer:
    return build_optimizer(Component(**(OPTIMIZERS[name] | keys)), parameters, "optimizer")


def toy_plan(
    optimizer: str = "sgd", lr: float | None = None, schedule: dict[str, Any] | None = None, **changes: Any
) -> TrainConfig:
    """Plan three epochs of SGD without any frills, except for `changes`."""
    values = {} if lr is None else {"lr": lr}
    part = Component(**schedule) if schedule else None
    plan: dict[str, Any] = {
        "backend": torch_step.build,
        "loss": build_loss(Component(name="CrossEntropyLoss"), "loss"),
        "optimizer": lambda parameters: toy_optimizer(optimizer, parameters, **values),
        "schedule": lambda optimizer, steps, epochs: build_schedule(part, optimizer, steps, epochs, "schedule"),
        "augment": None,
        "stop": lambda losses: False,
        "batch_size": 16,
        "drop_last": False,
        "epochs": 3,
        "validate_every": None,
        "select": "last",
        "seed": 0,
    }
    return TrainConfig(**(plan | changes))


def toy_settings(**changes: Any) -> TrainSettings:
    """Return the settings of an experiment as `params.yaml` would: three epochs of SGD on a small network."""
    settings = {
        "inputs": {"dataset": "toy", "pretrained": "none"},
        "validation": True,
        "model": {"name": "mlp", "hidden": [16]},
        "optimizer": {"name": "SGD", "lr": 0.1},
        "batch_size": 16,
        "epochs": 3,
    }
    return TrainSettings.model_validate(settings | changes)


def splits(packed: PackedDataset) -> tuple[DeviceDataset, DeviceDataset, DeviceDataset]:
    """Place the training split, the validation split and the test set."""
    train, validation = packed.held_out()
    return to_device(train, UNIT, CPU), to_device(validation, UNIT, CPU), to_device(packed.test, UNIT, CPU)


def never_asked(images: np.ndarray) -> np.ndarray:
    """Stand for the model where a task shall look at the test set alone."""
    raise AssertionError("the task looks beyond the test set")


def bits(weights: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().contiguous().numpy().tobytes() for name, tensor in weights.items()}


def first_byte(asked: str) -> int:
    """Of an open range such as `bytes=100-`."""
    return int(asked.removeprefix("bytes=").removesuffix("-"))


@dataclass
class Mirror:
    """A server on this machine, and what it was asked for.

    Attributes:
        name: of the one file that it holds, below `/files`.
        content: what it serves.
        breaks_after: bytes after which it hangs up, one entry a request; whole answers when the list is used up.
        ranges: whether it knows HTTP ranges.
        status: what it answers when that is not 200.
        stalls: seconds without a byte before its answer.
        asked: the Range header of every request.
    """

    name: str
    content: bytes = b""
    breaks_after: list[int] = field(default_factory=list)
    ranges: bool = True
    status: int | None = None
    stalls: float = 0
    asked: list[str | None] = field(default_factory=list)
    address: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        time.sleep(self.stalls)
        if self.status or handler.path != f"/files/{self.name}":
            handler.send_error(self.status or 404)
            return
        start = first_byte(asked) if asked and self.ranges else 0
        if start and start >= len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # who waited too long has gone
            handler.wfile.write(body[: self.breaks_after.pop(0)] if self.breaks_after else body)


def as_published(remote: Remote, content: bytes) -> Remote:
    """Let `content` be what was published."""
    return dataclasses.replace(remote, checksum=hashlib.new(remote.algorithm, content).hexdigest())


def digest_of(packed: PackedDataset) -> str:
    """Give the sha256 of images and labels."""
    sha256 = hashlib.sha256()
    for split in (packed.train, packed.test):
        sha256.update(split.images.tobytes() + split.labels.astype("<i8").tobytes())
    return sha256.hexdigest()


def count_different(packed: PackedDataset) -> int:
    """Count the images, those that are the same once."""
    return len({image.tobytes() for image in (*packed.train.images, *packed.test.images)})


def right_by_mean_colour(packed: PackedDataset) -> float:
    """Give the accuracy of whoever says the class whose mean colour is the nearest."""
    train, test = (split.images.mean(axis=(2, 3)) for split in (packed.train, packed.test))
    means = np.stack([train[packed.train.labels == label].mean(axis=0) for label in range(len(packed.classes))])
    nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    return float((nearest == packed.test.labels).mean())
