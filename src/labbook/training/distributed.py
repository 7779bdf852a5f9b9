"""Data-parallel training of one model in several processes, with PyTorch's DistributedDataParallel.

Every process draws the same order and the same augmentation as a single process would, and uses its shard of each batch.
Together they take the step that a single process would take on the whole batch: gradients differ only by the order in which
they are summed. There are two exceptions. Each process draws dropout for its own shard. Batch norm uses the statistics of the
whole batch only on GPUs, because PyTorch's `SyncBatchNorm` has no CPU kernel; on the CPU, each process uses the statistics of
its own shard, and the running statistics are averaged over the processes.

`labbook.training.launch` or torchrun starts the processes;
https://docs.pytorch.org/docs/stable/elastic/run.html documents the environment variables that they set.
"""

import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn, optim
from torch.nn.parallel import DistributedDataParallel

from labbook.errors import DeviceError, LabbookError, TrainingError
from labbook.training.backend import Backend, Loss, Step
from labbook.training.inference import DeviceDataset
from labbook.training.runtime import choose_device

__all__ = ["NO_RESPONSE", "RESUME_HINT", "SINGLE_PROCESS", "Processes", "is_launched", "join_processes"]

STEPS_BETWEEN_DECISIONS = 10
TIMEOUT = timedelta(minutes=10)  # for a process that does not respond
TIMEOUT_PHRASES = ("Timed out waiting", "Application timeout", "wait timeout")  # in timeout messages of Gloo and of the store
NO_RESPONSE = "a process has not responded for"
RESUME_HINT = "Run the same command again to resume from the last checkpoint."
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together. A single process has no communication overhead.

    Attributes:
        rank: number of this process; the first, 0, writes checkpoints, progress and outputs.
        world_size: number of processes on all machines.
    """

    rank: int = 0
    world_size: int = 1

    def device(self, requested: str) -> str:
        """Return the device of this process; on GPUs, each process has a separate one, which becomes the current device.

        Raises:
            DeviceError: there are fewer GPUs than processes, or the device cannot be used by several.
        """
        if self.world_size == 1:
            return requested
        kind = choose_device(requested).type
        if kind == "cpu":
            return kind
        if kind != "cuda" or ":" in requested:
            raise DeviceError(f"device: {requested} names one device for several processes. Set `device: cuda` or `cpu`.")
        local_world_size, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if gpus < local_world_size:
            raise DeviceError(
                f"device: {requested} needs one GPU per process, but this machine has {gpus} for {local_world_size} processes. "
                f"Set the experiment's world_size to at most {gpus}, or `device: cpu`."
            )
        local_rank = int(os.environ["LOCAL_RANK"])
        torch.cuda.set_device(local_rank)
        return f"cuda:{local_rank}"

    def shard(self, rows: Tensor) -> Tensor:
        """Return this process's shard of rows (N, ...); shards are contiguous and differ in size by at most one row."""
        return rows if self.world_size == 1 else rows.tensor_split(self.world_size)[self.rank]

    def shard_dataset(self, inputs: DeviceDataset) -> DeviceDataset:
        """Return this process's shard of a split that all processes evaluate together.

        Raises:
            TrainingError: the split has fewer samples than there are processes.
        """
        if len(inputs) < self.world_size:
            raise TrainingError(
                f"world_size: {self.world_size} processes cannot share a split of {len(inputs)} samples. Use fewer processes."
            )
        return dataclasses.replace(inputs, pixels=self.shard(inputs.pixels), labels=self.shard(inputs.labels))

    def parallelize(self, backend: Backend) -> Backend:
        """Return a backend whose step computes this process's shard of a batch and uses the gradients of all shards.

        The step returns loss and logits of this shard.
        """
        if self.world_size == 1:
            return backend

        def build(model: nn.Module, loss: Loss, optimizer: optim.Optimizer, precision: str) -> Step:
            weight = 1.0  # of this shard: DDP averages gradients over processes, but shards may differ in size

            def weighted_loss(logits: Tensor, labels: Tensor) -> Tensor:
                value = loss(logits, labels) if len(labels) else logits.sum()  # 0 for an empty shard
                return value * weight

            if next(model.parameters()).device.type == "cuda":
                nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch 2.14 renames the argument
                parallel_model = DistributedDataParallel(_Forward(model), broadcast_buffers=False)
            parallel_model(None).backward()
            step = backend(parallel_model, weighted_loss, optimizer, precision)

            def step_on_shard(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
                nonlocal weight
                shard = self.shard(labels)
                weight = self.world_size * len(shard) / len(labels)
                value, logits = step(self.shard(images), shard)
                return value / weight if weight else value, logits

            return step_on_shard

        return build

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        """Sum each value over the processes."""
        if self.world_size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums)
        return sums.tolist()

    def average_statistics(self, model: nn.Module) -> None:
        """Replace running statistics with their mean over the processes."""
        if self.world_size == 1:
            return
        for module in model.modules():
            for buffer in module.buffers(recurse=False):
                if module.training and buffer.is_floating_point():
                    distributed.all_reduce(buffer)
                    buffer.div_(self.world_size)

    def seed(self, seed: int) -> None:
        """Seed the generator from which this process draws dropout."""
        if self.world_size > 1:
            # The spawn key gives a stream independent of those of the plain seed, such as the order of an epoch.
            torch.manual_seed(int(np.random.SeedSequence(seed, spawn_key=(self.rank,)).generate_state(1)[0]))

    def decide(self, decision: bool, step: int) -> bool:
        """Return the first process's decision; several processes exchange it every tenth step and get `False` otherwise."""
        if self.world_size == 1:
            return decision
        if step % STEPS_BETWEEN_DECISIONS:
            return False
        flag = torch.tensor([decision], dtype=torch.uint8)
        distributed.broadcast(flag, src=0)
        return bool(flag.item())

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes by rank in the first process, and an empty list in the others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.rank == 0 else None
        distributed.gather_object(value, values)
        return values or []

    def broadcast(self, value: Any) -> Any:
        """Return the first process's value."""
        if self.world_size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def check_fingerprint(self, digest: str) -> None:
        """Check that all processes have the same fingerprint of what the result depends on.

        Raises:
            TrainingError: the fingerprints differ.
        """
        if self.world_size == 1:
            return
        digests = [""] * self.world_size
        distributed.all_gather_object(digests, digest)
        different = [rank for rank, other in enumerate(digests) if other != digests[0]]
        if different:
            raise TrainingError(
                f"processes {different} differ from process 0 in settings, data, code or the version of torch. "
                "Use the same params.yaml, data/ and src/ on every machine."
            )


SINGLE_PROCESS = Processes()


def is_launched() -> bool:
    """Return whether torchrun, or another launcher that sets the same environment, started this process."""
    return "RANK" in os.environ


@contextlib.contextmanager
def join_processes() -> Iterator[Processes]:
    """Join the process group if torchrun started several processes, and leave it on exit.

    An error is reported to torchrun, or to `labbook.training.launch`, which prints it once for all processes.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1")) if is_launched() else 1
    if world_size == 1:
        yield SINGLE_PROCESS
        return
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGTERM)  # type: ignore[attr-defined]  # end with the parent
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
        yield Processes(int(os.environ["RANK"]), world_size)
        distributed.destroy_process_group()
    except Exception as error:
        if not os.environ.get(ERROR_FILE):
            raise
        report = json.dumps({"message": _error_message(error), "timestamp": int(time.time())})
        Path(os.environ[ERROR_FILE]).write_text(report, encoding="utf-8")
        sys.stdout.flush()
        os._exit(1)  # Python's normal shutdown might wait for the others, which wait for this process


class _Forward(nn.Module):
    """The model's outputs; without images, a sum that gives every parameter a gradient.

    From the second step on, DDP sums gradients in buckets, in the order in which the first step computed them. With more than
    two processes, the buckets affect the last bits. Taking the first step with this sum makes the buckets the same after a
    resume.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor | None) -> Tensor:
        if images is None:
            return torch.stack([parameter.sum() for parameter in self.parameters() if parameter.requires_grad]).sum()
        logits: Tensor = self.model(images)
        return logits


def _error_message(error: Exception) -> str:
    if isinstance(error, LabbookError):
        return str(error)
    if any(phrase in str(error) for phrase in TIMEOUT_PHRASES):
        return f"{NO_RESPONSE} {TIMEOUT}: it hangs, or its machine is unreachable. {RESUME_HINT}"
    return traceback.format_exc()
