"""The training loop. The dataset is a tensor on the device, an epoch a permutation of its rows, a batch a slice of them.

Overhead dominates in small models with small batches, so a step never waits for the device: metrics are summed there and
read when a row of the history is due. A backend computes the step: `labbook.training.torch_step`, `labbook.numpy_nn.step`.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim

from labbook.errors import TrainingError
from labbook.training.backend import Backend, Loss
from labbook.training.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from labbook.training.components import Schedule
from labbook.training.distributed import ALONE, Processes
from labbook.training.history import Row
from labbook.training.inference import DeviceDataset, RunningMetrics, Total, evaluate
from labbook.training.progress import Show, ignore
from labbook.training.streams import augmentation_generator, load_random_state, random_state, shuffled_rows
from labbook.training.watch import watch

__all__ = ["TrainConfig", "TrainResult", "fit"]

STEPS_BETWEEN_SHOWS = 100

# Selection → the field of a row, and the sign that makes higher values better.
SCORES = {"best_val_loss": ("val_loss", -1), "best_val_accuracy": ("val_accuracy", 1)}

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class TrainConfig:
    """The hyperparameters of a training; fields not listed here are described in `labbook.config.train.TrainSettings`.

    Attributes:
        backend: builds the function that computes a step.
        loss: logits and labels → mean loss.
        optimizer: trainable parameters → their optimizer.
        schedule: optimizer, steps per epoch and epochs → the schedule of its learning rate.
        augment: images (N, C, H, W) of a batch and a generator → images, or `None`.
        stop: all validation losses so far → whether to stop.
    """

    backend: Backend
    loss: Loss
    optimizer: Callable[[Sequence[nn.Parameter]], optim.Optimizer]
    schedule: Callable[[optim.Optimizer, int, int], Schedule]
    augment: Augment | None
    stop: Callable[[Sequence[float]], bool]
    batch_size: int
    drop_last: bool
    epochs: int
    validate_every: int | None
    select: str
    seed: int
    precision: str = "float32"
    order: str = "shuffled"
    watch: Sequence[str] = ()

    def steps_per_epoch(self, samples: int) -> int:
        """Return the number of steps in an epoch."""
        return samples // self.batch_size if self.drop_last else math.ceil(samples / self.batch_size)

    def last_row(self, steps: int) -> int:
        """Return the step of the last row of the history, in a training of `steps` steps that does not stop early.

        Steps after the last full interval get a row only if no weights are selected by validation, or if there is no full
        interval: a row of fewer steps would not be comparable with the others.
        """
        every = self.validate_every
        if every is None or self.select == "last" or steps < every:
            return steps
        return steps - steps % every


@dataclass(frozen=True)
class TrainResult:
    """The result of a training.

    Attributes:
        rows: the history.
        watched: the watched quantities, at each row.
        weights: the selected state.
        kept: index of the row that the weights belong to.
        steps: number of steps taken, including those after the last row.
        seconds: training time, including that before interruptions.
    """

    rows: list[Row]
    watched: list[dict[str, dict[str, float]]]
    weights: dict[str, Tensor]
    kept: int
    steps: int
    seconds: float


def fit(
    model: nn.Module,
    train: DeviceDataset,
    validation: DeviceDataset | None,
    test: DeviceDataset | None,
    config: TrainConfig,
    *,
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    show: Show = ignore,
    processes: Processes = ALONE,
) -> TrainResult:
    """Train `model` in place.

    A row of the history is due every `validate_every` steps, and at the step that `TrainConfig.last_row` returns.

    Args:
        model: the model with its initial weights, on the device of the data.
        train: training split.
        validation: validation split, for early stopping and selection; `None` if the settings use neither.
        test: test set, used only for the test curve; `None` without a test curve.
        config: hyperparameters.
        checkpoint: state to resume from and to save to; `None` in all processes but the first.
        checkpoint_seconds: seconds between two checkpoints; one is always written after the last row.
        show: progress callback.
        processes: the processes that train the model together, each with the whole dataset and the same `config`.

    Raises:
        TrainingError: the loss is no longer finite, or there is no full batch to train on.
    """
    steps = config.steps_per_epoch(len(train))
    if not steps:
        raise TrainingError(
            f"batch_size: with drop_last, {len(train)} samples do not fill a batch of {config.batch_size}. Decrease batch_size."
        )
    run = _Run(model, config, train.pixels.device, steps)
    processes.seed(config.seed)
    if state := processes.from_first(checkpoint.load() if checkpoint else None):
        run.load_state(state, processes.rank)
        if processes.rank == 0:
            print(f"resuming from the checkpoint at step {run.step}", flush=True)
    every, last_row = config.validate_every or steps, config.last_row(steps * config.epochs)
    saves = processes.from_first(checkpoint is not None)
    step = processes.share(config.backend)(model, config.loss, run.optimizer, config.precision)
    validation, test = (split and processes.part(split) for split in (validation, test))
    saved = time.perf_counter()
    started = saved - run.seconds  # as if there had been no interruption

    model.train()
    for images, labels in run.batches(train):
        loss, logits = step(config.augment(images, run.generator) if config.augment else images, labels)
        run.metrics.add(loss, logits, processes.own(labels))
        run.advance()
        row_is_due = run.step % every == 0 or run.step == last_row
        if row_is_due:  # reading the metrics waits for the device
            processes.average_statistics(model)
            val, seen = (_measure(model, config.loss, split, processes.total) for split in (validation, test))
            run.record(Row(run.epoch, run.step, run.lr, *run.metrics.read(processes.total), *val, *seen))
            run.watched.append(watch(config.watch, model, train))
            show(run.step, run.rows[-1])
        elif run.step % STEPS_BETWEEN_SHOWS == 0:
            show(run.step, None)
        now, finished = time.perf_counter(), run.stopped or run.step == last_row
        if saves and (finished or processes.decide(now - saved >= checkpoint_seconds, run.step)):
            run.seconds = now - started
            own = processes.gather(run.own_state())
            if checkpoint:
                checkpoint.save(run.state() | {"processes": own})
            saved = time.perf_counter()
        if run.stopped:
            break
    return TrainResult(run.rows, run.watched, run.kept_weights(), run.kept, run.step, time.perf_counter() - started)


class _Run:
    """The state of a training, as stored in a checkpoint."""

    def __init__(self, model: nn.Module, config: TrainConfig, device: torch.device, steps: int) -> None:
        self.model, self.config, self.device, self.steps = model, config, device, steps
        self.optimizer = config.optimizer([parameter for parameter in model.parameters() if parameter.requires_grad])
        self.schedule = config.schedule(self.optimizer, steps, config.epochs)
        self.generator = augmentation_generator(config.seed, device)
        self.metrics = RunningMetrics()  # since the last row
        self.rows: list[Row] = []
        self.watched: list[dict[str, dict[str, float]]] = []
        self.best: dict[str, Tensor] = {}
        self.kept, self.step, self.epoch, self.lr, self.seconds, self.stopped = -1, 0, 1, 0.0, 0.0, False

    def batches(self, train: DeviceDataset) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the remaining batches."""
        while self.step < self.steps * self.config.epochs and not self.stopped:
            self.epoch = self.step // self.steps + 1
            order = _order(train.labels, self.config, self.epoch)[: self.steps * self.config.batch_size]
            yield from train.iter_batches(order, self.config.batch_size, self.step % self.steps)

    def advance(self) -> None:
        """Count a step and advance the schedule; `lr` becomes the learning rate of that step."""
        self.lr = float(self.optimizer.param_groups[0]["lr"])
        self.step += 1
        self.schedule.after_step()
        if self.step % self.steps == 0:
            self.schedule.after_epoch()

    def record(self, row: Row) -> None:
        """Add a row, select the weights if they are the best so far, and decide whether to stop."""
        for split in ("train", "val", "test"):
            loss = getattr(row, f"{split}_loss")
            if loss is not None and not math.isfinite(loss):
                raise TrainingError(
                    f"the {split} loss is {loss} at epoch {row.epoch}, step {row.step}. Lower the learning rate (optimizer.lr)."
                )
        self.metrics = RunningMetrics()
        self.rows.append(row)
        if self.config.select == "last":
            self.kept = len(self.rows) - 1
        elif self.kept < 0 or self._score(row) > self._score(self.rows[self.kept]):
            self.kept = len(self.rows) - 1
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.stopped = self.config.stop([row.val_loss for row in self.rows if row.val_loss is not None])

    def _score(self, row: Row) -> float:
        """Return the selection score; higher is better."""
        name, sign = SCORES[self.config.select]
        score: float = sign * getattr(row, name)
        return score

    def kept_weights(self) -> dict[str, Tensor]:
        """Return the selected weights."""
        return self.model.state_dict() if self.config.select == "last" else self.best

    def state(self) -> dict[str, Any]:
        """Return the part of the state that is the same in all processes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rows": [asdict(row) for row in self.rows],
            "watched": self.watched,
            "best": self.best,
            "kept": self.kept,
            "step": self.step,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "augmentation": self.generator.get_state(),
        }

    def own_state(self) -> dict[str, Any]:
        """Return this process's part: metrics of the row in progress, running statistics and states of torch's generators."""
        return {
            "metrics": self.metrics.state(),
            "buffers": {name: buffer.cpu() for name, buffer in self.model.named_buffers()},
            "random": random_state(self.device),
        }

    def load_state(self, state: dict[str, Any], rank: int) -> None:
        """Restore a checkpoint: the result of `state` and, under `processes`, the results of `own_state` by rank."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.rows, self.watched = [Row(**row) for row in state["rows"]], state["watched"]
        self.best, self.kept = {name: tensor.to(self.device) for name, tensor in state["best"].items()}, state["kept"]
        self.step, self.seconds, self.stopped = state["step"], state["seconds"], state["stopped"]
        self.generator.set_state(state["augmentation"])
        own = state["processes"][rank]
        self.metrics.load_state(own["metrics"], self.device)
        self.model.load_state_dict(own["buffers"], strict=False)
        load_random_state(own["random"], self.device)


def _order(labels: Tensor, config: TrainConfig, epoch: int) -> Tensor:
    """Return the rows of the training split in the order of an epoch."""
    if config.order == "by_class":
        return torch.argsort(labels, stable=True)
    return shuffled_rows(len(labels), config.seed, epoch).to(labels.device)


def _measure(
    model: nn.Module, loss: Loss, split: DeviceDataset | None, total: Total
) -> tuple[float, float] | tuple[None, None]:
    """Return mean loss and accuracy of a split, or `None` for both without a split."""
    return (None, None) if split is None else evaluate(model, loss, split, total)
