"""Helpers of several test files: small models and their hyperparameters, weights as bytes, download servers."""

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
from labbook.data.download import RemoteFile
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
UNIT = Preprocessing(Preprocess())  # scales bytes to [0, 1]


def add_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Add a little noise to every pixel of a batch."""
    return images + 0.1 * torch.randn(images.shape, generator=generator)


def toy_model(packed: PackedDataset, kind: str = "mlp", seed: int = 0, **keys: Any) -> nn.Module:
    """Build a small MLP or CNN with weights determined by the seed."""
    torch.manual_seed(seed)
    shape, classes = packed.image_shape, len(packed.classes)
    if kind == "mlp":
        model = mlp.build(mlp.Settings(name="mlp", **({"hidden": [16]} | keys)), shape, classes)
    else:
        model = cnn.build(cnn.Settings(name="cnn", **({"channels": [4, 4], "pools": 1} | keys)), shape, classes)
    return model.to(memory_format=torch.channels_last)


def toy_optimizer(name: str, parameters: Any, **keys: Any) -> torch.optim.Optimizer:
    return build_optimizer(Component(**(OPTIMIZERS[name] | keys)), parameters, "optimizer")


def toy_config(
    optimizer: str = "sgd", lr: float | None = None, schedule: dict[str, Any] | None = None, **changes: Any
) -> TrainConfig:
    """Return the hyperparameters of three epochs of plain SGD, with `changes`."""
    values = {} if lr is None else {"lr": lr}
    schedule_component = Component(**schedule) if schedule else None
    config: dict[str, Any] = {
        "backend": torch_step.build,
        "loss": build_loss(Component(name="CrossEntropyLoss"), "loss"),
        "optimizer": lambda parameters: toy_optimizer(optimizer, parameters, **values),
        "schedule": lambda optimizer, steps, epochs: build_schedule(schedule_component, optimizer, steps, epochs, "schedule"),
        "augment": None,
        "should_stop": lambda losses: False,
        "batch_size": 16,
        "drop_last": False,
        "epochs": 3,
        "validate_every": None,
        "select": "last",
        "seed": 0,
    }
    return TrainConfig(**(config | changes))


def toy_settings(**changes: Any) -> TrainSettings:
    """Return the settings of an experiment: three epochs of SGD on a small network."""
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
    """Copy the training split, the validation split and the test set to the CPU."""
    train, validation = packed.train_val_split()
    return to_device(train, UNIT, CPU), to_device(validation, UNIT, CPU), to_device(packed.test, UNIT, CPU)


def unused_compute_logits(images: np.ndarray) -> np.ndarray:
    """Raise an error, because the task must use only the logits of the test set."""
    raise AssertionError("the task computes logits outside the test set")


def bits(weights: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().contiguous().numpy().tobytes() for name, tensor in weights.items()}


def first_byte(header: str) -> int:
    """Return the first byte of an open range, such as `bytes=100-`."""
    return int(header.removeprefix("bytes=").removesuffix("-"))


@dataclass
class Mirror:
    """A local download server that records its requests.

    Attributes:
        name: name of its only file, below `/files`.
        content: content of the file.
        breaks_after: number of bytes after which it closes the connection, one entry per request; later responses are complete.
        ranges: whether it supports HTTP ranges.
        status: HTTP status of an error response, if any.
        stalls: seconds before it responds.
        range_headers: the Range header of each request.
    """

    name: str
    content: bytes = b""
    breaks_after: list[int] = field(default_factory=list)
    ranges: bool = True
    status: int | None = None
    stalls: float = 0
    range_headers: list[str | None] = field(default_factory=list)
    address: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        header = handler.headers.get("Range")
        self.range_headers.append(header)
        time.sleep(self.stalls)
        if self.status or handler.path != f"/files/{self.name}":
            handler.send_error(self.status or 404)
            return
        start = first_byte(header) if header and self.ranges else 0
        if start and start >= len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have timed out
            handler.wfile.write(body[: self.breaks_after.pop(0)] if self.breaks_after else body)


def with_checksum_of(remote: RemoteFile, content: bytes) -> RemoteFile:
    """Return `remote` with the checksum of `content`."""
    return dataclasses.replace(remote, checksum=hashlib.new(remote.algorithm, content).hexdigest())


def dataset_sha256(packed: PackedDataset) -> str:
    """Return the SHA-256 of images and labels."""
    sha256 = hashlib.sha256()
    for split in (packed.train, packed.test):
        sha256.update(split.images.tobytes() + split.labels.astype("<i8").tobytes())
    return sha256.hexdigest()


def count_distinct(packed: PackedDataset) -> int:
    """Return the number of distinct images."""
    return len({image.tobytes() for image in (*packed.train.images, *packed.test.images)})


def mean_colour_accuracy(packed: PackedDataset) -> float:
    """Return the test accuracy of a classifier that predicts the class with the nearest mean colour."""
    train, test = (split.images.mean(axis=(2, 3)) for split in (packed.train, packed.test))
    means = np.stack([train[packed.train.labels == label].mean(axis=0) for label in range(len(packed.classes))])
    nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    return float((nearest == packed.test.labels).mean())
