"""Several processes that train one model: torchrun starts them, DistributedDataParallel sums their gradients.

Every process draws the same order and the same augmentation as one alone would, and takes its own rows of each batch.
Together they take the step that one process takes with the whole batch: the same gradient but for the order of sums.
Two things differ. Dropout is drawn by each process for its own rows. Batch norm takes the statistics of the whole batch on
GPUs alone, as PyTorch's `SyncBatchNorm` has no other kernels; on the CPU those of each process's own rows, and the running
statistics are the mean over the processes.

https://docs.pytorch.org/docs/stable/elastic/run.html says what torchrun puts into the environment.
"""

import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed, nn, optim
from torch.nn.parallel import DistributedDataParallel

from labbook.core.errors import DeviceError, LabbookError, TrainingError
from labbook.core.inference import Inputs
from labbook.core.runtime import choose_device
from labbook.training.backend import Backend, Loss, Step

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

__all__ = ["ALONE", "Processes", "joined", "launch", "started"]

PATIENCE = timedelta(minutes=10)  # with a process that is stuck, or on a machine that is gone
WAITED = ("Timed out waiting", "Application timeout", "wait timeout")  # words of Gloo, twice, and of the store
STUCK = "a process has not answered for"
AGAIN = "Run the same command again to go on from the last checkpoint."
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


@dataclass(frozen=True)
class Processes:
    """This process and the others that train the same model. One alone shares nothing, and pays nothing.

    Attributes:
        rank: which of them this is; the first, 0, writes checkpoints, progress and outputs.
        count: of all, on all machines.
    """

    rank: int = 0
    count: int = 1

    def device(self, wanted: str) -> str:
        """Name the device of this process: on GPUs one of its own, which becomes the current one.

        Raises:
            DeviceError: there is no GPU for each process, or the device is not one for several.
        """
        if self.count == 1:
            return wanted
        kind = choose_device(wanted).type
        if kind == "cpu":
            return kind
        if kind != "cuda" or ":" in wanted:
            raise DeviceError(f"device: {wanted} is one device, and several processes train here. Set `device: cuda` or `cpu`.")
        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if gpus < here:
            raise DeviceError(
                f"device: {wanted} gives each process a GPU of its own, and this machine has {gpus} for {here} processes. "
                "Set train.processes to as many as there are, or `device: cpu`."
            )
        own = int(os.environ["LOCAL_RANK"])
        torch.cuda.set_device(own)
        return f"cuda:{own}"

    def own(self, rows: Tensor) -> Tensor:
        """Give this process's part of rows (N, ...): parts follow each other and differ by one row at most."""
        return rows if self.count == 1 else rows.tensor_split(self.count)[self.rank]

    def part(self, inputs: Inputs) -> Inputs:
        """Give this process's part of a split that all measure together.

        Raises:
            TrainingError: it has fewer samples than there are processes.
        """
        if len(inputs) < self.count:
            raise TrainingError(f"train.processes: {self.count} are more than the {len(inputs)} samples of a split.")
        return dataclasses.replace(inputs, pixels=self.own(inputs.pixels), labels=self.own(inputs.labels))

    def share(self, backend: Backend) -> Backend:
        """Let a backend's step, given the whole batch, compute this process's part and learn from all parts.

        It gives loss and logits of its own part.
        """
        if self.count == 1:
            return backend

        def build(model: nn.Module, loss: Loss, optimizer: optim.Optimizer, precision: str) -> Step:
            weight = 1.0  # of this part: gradients are averaged over processes, and parts may differ in size

            def weighted(logits: Tensor, labels: Tensor) -> Tensor:
                value = loss(logits, labels) if len(labels) else logits.sum()  # of an empty part, 0
                return value * weight

            if next(model.parameters()).device.type == "cuda":
                nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # the key has another name in torch 2.14
                together = DistributedDataParallel(_Forward(model), broadcast_buffers=False)
            together(None).backward()
            step = backend(together, weighted, optimizer, precision)

            def step_of_part(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
                nonlocal weight
                part = self.own(labels)
                weight = self.count * len(part) / len(labels)
                value, logits = step(self.own(images), part)
                return value / weight if weight else value, logits

            return step_of_part

        return build

    def total(self, figures: Sequence[float]) -> list[float]:
        """Sum each figure over the processes."""
        if self.count == 1:
            return list(figures)
        sums = torch.tensor(figures, dtype=torch.float64)
        distributed.all_reduce(sums)
        return sums.tolist()

    def average_statistics(self, model: nn.Module) -> None:
        """Let every process have the same running statistics, the mean of all."""
        if self.count == 1:
            return
        for module in model.modules():
            for buffer in module.buffers(recurse=False):
                if module.training and buffer.is_floating_point():
                    distributed.all_reduce(buffer)
                    buffer.div_(self.count)

    def seed(self, seed: int, step: int) -> None:
        """Let each process draw its own dropout from this step on, the same after a resume: nobody saves its state."""
        if self.count > 1:
            torch.manual_seed(int(np.random.SeedSequence((seed, self.rank, step)).generate_state(1)[0]))

    def from_first(self, value: Any) -> Any:
        """Give what the first process has."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def agree(self, mark: str) -> None:
        """Check that all processes have the same fingerprint of what the result depends on.

        Raises:
            TrainingError: names those that have another one.
        """
        if self.count == 1:
            return
        marks = [""] * self.count
        distributed.all_gather_object(marks, mark)
        others = [rank for rank, other in enumerate(marks) if other != marks[0]]
        if others:
            raise TrainingError(
                f"processes {others} have other settings, data, code or torch than process 0. "
                "Give every machine the same params.yaml, data/ and src/."
            )


ALONE = Processes()


def started() -> bool:
    """Tell whether torchrun, or what sets the same environment, has started this process."""
    return "RANK" in os.environ


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Join the other processes that torchrun has started, if there are any.

    An error is left to torchrun, or to `launch`, to tell: once, and not by every process that it concerns.
    """
    count = int(os.environ.get("WORLD_SIZE", "1")) if started() else 1
    if count == 1:
        yield ALONE
        return
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGTERM)  # type: ignore[attr-defined]  # no orphans
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
        yield Processes(int(os.environ["RANK"]), count)
        distributed.destroy_process_group()
    except Exception as error:
        if not os.environ.get(ERROR_FILE):
            raise
        told = json.dumps({"message": _message(error), "timestamp": int(time.time())})
        Path(os.environ[ERROR_FILE]).write_text(told, encoding="utf-8")
        sys.stdout.flush()
        os._exit(1)  # the end of Python might wait for the others, who wait for this one


def launch(count: int) -> None:
    """Run this script again in so many processes on this machine, as `torchrun --standalone` does, and wait for them.

    Raises:
        TrainingError: one of them failed or was killed; the others are stopped.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable()  # torchrun's own words on a failure: it is told below
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder),
        )
        try:
            elastic_launch(config, sys.executable)(*sys.argv)
        except ChildFailedError as error:
            raise TrainingError(_cause(error.failures, count)) from error
        except SignalException as error:
            sys.exit(128 + error.sigval)


class _Forward(nn.Module):
    """A model; without images, a sum that has a gradient for every parameter.

    DDP puts gradients together in the order in which the first step gave them, and sums them from the second step on so. What
    is summed together decides the last bits where there are more than two processes. With a first step of this sum it is
    the same after a resume.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor | None) -> Tensor:
        if images is None:
            return torch.stack([parameter.sum() for parameter in self.parameters() if parameter.requires_grad]).sum()
        logits: Tensor = self.model(images)
        return logits


def _message(error: Exception) -> str:
    if isinstance(error, LabbookError):
        return str(error)
    if any(words in str(error) for words in WAITED):
        return f"{STUCK} {PATIENCE}: it is stuck, or its machine is gone. {AGAIN}"
    return traceback.format_exc()


def _cause(failures: "dict[int, ProcessFailure]", count: int) -> str:
    """Say what ended the training, given what torchrun knows of each process that failed, the first one first.

    Where one is gone, others fail for want of it, and torchrun ends the rest by SIGTERM, and by SIGKILL the one that is
    stuck: neither is the cause.
    """

    def doubt(rank: int) -> int:
        failure = failures[rank]
        if failure.message.startswith(STUCK):
            return 0
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            return 1
        return 2 if _has_told(failure) and not failure.message.startswith("Traceback") else 3

    rank = min(failures, key=doubt)
    failure = failures[rank]
    if doubt(rank) in (0, 2):
        return failure.message
    if _has_told(failure):
        return f"process {rank} of {count} failed, and the others were stopped.\n{failure.message}"
    how = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    return f"process {rank} of {count} ended by {how}, and the others were stopped. {AGAIN}"


def _has_told(failure: "ProcessFailure") -> bool:
    return Path(failure.error_file).is_file()
