"""The training loop. The dataset is a tensor on the device, an epoch a permutation of its rows, a batch a slice of it.

Small models at small batches are bound by overhead, so a step does nothing that can wait: figures are summed on the
device and read when a row of the history is due. What a step computes is the backend's (`labbook.backends`).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn, optim

from labbook.core.errors import TrainingError
from labbook.core.inference import Inputs, Tally, measure
from labbook.training.backend import Backend, Loss
from labbook.training.checkpoint import Checkpoint
from labbook.training.distributed import ALONE, Processes
from labbook.training.history import Row
from labbook.training.progress import Show, ignore
from labbook.training.watch import watch

__all__ = ["Augmentation", "Plan", "Trained", "fit"]

STEPS_BETWEEN_SHOWS = 100


class Augmentation(Protocol):
    """What an augmentation offers; see `labbook.core.parts`."""

    random: Callable[[Tensor, torch.Generator], Tensor] | None

    def fixed(self, images: Tensor) -> Tensor:
        """Map bytes (N, C, H, W) to float32."""


@dataclass(frozen=True)
class Plan:
    """How to train; the words are those of `labbook.core.settings.TrainSettings`."""

    backend: Backend
    loss: Loss
    optimizer: Callable[[Sequence[nn.Parameter]], optim.Optimizer]
    schedule: Callable[[int], float]
    augmentation: Augmentation
    stopping: Callable[[Sequence[float]], bool]
    batch_size: int
    drop_last: bool
    epochs: int
    validate_every: int | None
    keep: str
    seed: int
    precision: str = "float32"
    order: str = "shuffled"
    watch: Sequence[str] = ()

    def steps_per_epoch(self, samples: int) -> int:
        """Count the steps of one epoch."""
        return samples // self.batch_size if self.drop_last else math.ceil(samples / self.batch_size)


@dataclass(frozen=True)
class Trained:
    """What training leaves.

    Attributes:
        rows: the history.
        watched: what the plan watches, at each row.
        weights: the state that the plan keeps.
        kept: index of the row that the weights belong to.
        seconds: of training, those before an interruption included.
    """

    rows: list[Row]
    watched: list[dict[str, dict[str, float]]]
    weights: dict[str, Tensor]
    kept: int
    seconds: float


def fit(
    model: nn.Module,
    train: Inputs,
    validation: Inputs | None,
    test: Inputs | None,
    plan: Plan,
    *,
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 5.0,
    show: Show = ignore,
    processes: Processes = ALONE,
) -> Trained:
    """Train `model` in place.

    Args:
        model: on the device of the data, its weights initialised.
        train: what to learn from.
        validation: what choices are made by, if the plan makes any.
        test: watched for its curve alone, or `None`.
        plan: how.
        checkpoint: where to go on from, and to write to; the first process's alone.
        checkpoint_seconds: at least so long between two checkpoints; they change no result.
        show: told of every row.
        processes: that train the model together, each with the whole data and the same plan.

    Raises:
        TrainingError: the loss is no longer finite, or there is no full batch to train on.
    """
    steps = plan.steps_per_epoch(len(train))
    if not steps:
        raise TrainingError(f"batch_size: {plan.batch_size} leaves no full batch of {len(train)} samples with drop_last.")
    run = _Run(model, plan, train.pixels.device)
    if state := processes.from_first(checkpoint.load() if checkpoint else None):
        run.restore(state)
        if processes.rank == 0:
            print(f"going on from the checkpoint at step {run.step}", flush=True)
    every, last = plan.validate_every or steps, steps * plan.epochs
    augment, backend = plan.augmentation.random, processes.share(plan.backend)
    step = backend(model, plan.loss, run.optimizer, plan.precision)
    validation, test = (split and processes.part(split) for split in (validation, test))
    started = saved = time.perf_counter()
    earlier = run.seconds

    tally = Tally()
    model.train()
    processes.seed(plan.seed, run.step)
    for images, labels in run.batches(train, steps):
        loss, logits = step(augment(images, run.generator) if augment else images, labels)
        tally.add(loss, logits, processes.own(labels))
        run.step += 1
        if run.step % every and run.step != last:
            if run.step % STEPS_BETWEEN_SHOWS == 0:
                show(run.step, None)
            continue
        # A row of the history is due: read the figures, which waits for the device, and measure what is watched.
        processes.average_statistics(model)
        val = measure(model, plan.loss, validation, processes.total) if validation is not None else (None, None)
        seen = measure(model, plan.loss, test, processes.total) if test is not None else (None, None)
        run.take(Row(run.epoch, run.step, run.lr, *tally.read(processes.total), *val, *seen))
        run.watched.append(watch(plan.watch, model, train))
        tally = Tally()
        processes.seed(plan.seed, run.step)
        show(run.step, run.rows[-1])
        now = time.perf_counter()
        run.seconds = earlier + now - started
        finished = run.step == last or run.stopped
        if checkpoint and (now - saved >= checkpoint_seconds or (finished and run.seconds >= checkpoint_seconds)):
            checkpoint.save(run.state())
            saved = time.perf_counter()
        if run.stopped:
            break
    return Trained(run.rows, run.watched, run.kept_weights(), run.kept, earlier + time.perf_counter() - started)


class _Run:
    """All that changes while a model is trained: what a checkpoint holds."""

    def __init__(self, model: nn.Module, plan: Plan, device: torch.device) -> None:
        self.model, self.plan, self.device = model, plan, device
        self.optimizer = plan.optimizer([parameter for parameter in model.parameters() if parameter.requires_grad])
        self.base_lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.generator = torch.Generator(device).manual_seed(plan.seed)
        self.rows: list[Row] = []
        self.watched: list[dict[str, dict[str, float]]] = []
        self.best: dict[str, Tensor] = {}
        self.kept, self.step, self.epoch, self.lr, self.seconds, self.stopped = -1, 0, 1, self.base_lrs[0], 0.0, False

    def batches(self, train: Inputs, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the batches that are left; set epoch and learning rate on the way."""
        while self.step < steps * self.plan.epochs and not self.stopped:
            self.epoch = self.step // steps + 1
            factor = self.plan.schedule(self.epoch)
            for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                group["lr"] = lr * factor
            self.lr = self.base_lrs[0] * factor
            order = _order(train.labels, self.plan, self.epoch)[: steps * self.plan.batch_size]
            yield from train.shuffled(order, self.plan.batch_size, self.step % steps)

    def take(self, row: Row) -> None:
        """Add a row, keep the weights if they are the best so far, and ask whether to stop."""
        for split in ("train", "val", "test"):
            loss = getattr(row, f"{split}_loss")
            if loss is not None and not math.isfinite(loss):
                raise TrainingError(
                    f"the {split} loss is {loss} at epoch {row.epoch}, step {row.step}. Lower the learning rate (optimizer.lr)."
                )
        self.rows.append(row)
        if self.plan.keep == "last":
            self.kept = len(self.rows) - 1
        elif self.kept < 0 or self._score(row) > self._score(self.rows[self.kept]):
            self.kept = len(self.rows) - 1
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        losses = [row.val_loss for row in self.rows if row.val_loss is not None]
        self.stopped = self.plan.stopping(losses)

    def _score(self, row: Row) -> float:
        """Give what the best weights have most of."""
        score = row.val_accuracy if self.plan.keep == "best_validation_accuracy" else -(row.val_loss or 0.0)
        return -math.inf if score is None else score

    def kept_weights(self) -> dict[str, Tensor]:
        return self.model.state_dict() if self.plan.keep == "last" else self.best

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": [asdict(row) for row in self.rows],
            "watched": self.watched,
            "best": self.best,
            "kept": self.kept,
            "step": self.step,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "random": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
                "mps": torch.mps.get_rng_state() if self.device.type == "mps" else None,
                "augmentation": self.generator.get_state(),
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows, self.watched = [Row(**row) for row in state["rows"]], state["watched"]
        self.best, self.kept = {name: tensor.to(self.device) for name, tensor in state["best"].items()}, state["kept"]
        self.step, self.seconds, self.stopped = state["step"], state["seconds"], state["stopped"]
        random = state["random"]
        torch.set_rng_state(random["cpu"])
        self.generator.set_state(random["augmentation"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(random["cuda"])
        if self.device.type == "mps":
            torch.mps.set_rng_state(random["mps"])


def _order(labels: Tensor, plan: Plan, epoch: int) -> Tensor:
    """Draw an epoch's order, from the seed and the epoch alone and on the CPU: the same on every device and after a resume."""
    if plan.order == "by_class":
        return torch.argsort(labels, stable=True)
    mixed = int(np.random.SeedSequence((plan.seed, epoch)).generate_state(1, np.uint64)[0])
    return torch.randperm(len(labels), generator=torch.Generator().manual_seed(mixed)).to(labels.device)
