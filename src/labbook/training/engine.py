"""The training loop. The dataset is a tensor on the device, an epoch a permutation of its rows, a batch a slice of them.

Overhead dominates in small models with small batches, so a step never waits for the device: metrics are accumulated there
and read when a row of the history is due. A backend computes the step: `labbook.training.torch_step`, `labbook.numpy_nn.step`.
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
from labbook.training.distributed import SINGLE_PROCESS, Processes
from labbook.training.history import Row
from labbook.training.inference import AllReduce, DeviceDataset, RunningMetrics, evaluate
from labbook.training.progress import ProgressCallback, no_progress
from labbook.training.streams import augmentation_generator, load_random_state, random_state, shuffled_rows
from labbook.training.watch import measure_watched

__all__ = ["TrainConfig", "TrainResult", "fit"]

STEPS_BETWEEN_UPDATES = 100

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
        should_stop: all validation losses so far → whether to stop.
    """

    backend: Backend
    loss: Loss
    optimizer: Callable[[Sequence[nn.Parameter]], optim.Optimizer]
    schedule: Callable[[optim.Optimizer, int, int], Schedule]
    augment: Augment | None
    should_stop: Callable[[Sequence[float]], bool]
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
        selected_row: index of the row that the weights belong to.
        steps: number of steps taken, including those after the last row.
        seconds: training time, including the time before interruptions.
    """

    rows: list[Row]
    watched: list[dict[str, dict[str, float]]]
    weights: dict[str, Tensor]
    selected_row: int
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
    progress: ProgressCallback = no_progress,
    processes: Processes = SINGLE_PROCESS,
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
        progress: progress callback.
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
    if state := processes.broadcast(checkpoint.load() if checkpoint else None):
        run.load_state(state, processes.rank)
        if processes.rank == 0:
            print(f"resuming from the checkpoint at step {run.step}", flush=True)
    every, last_row = config.validate_every or steps, config.last_row(steps * config.epochs)
    saves_checkpoints = processes.broadcast(checkpoint is not None)
    step = processes.parallelize(config.backend)(model, config.loss, run.optimizer, config.precision)
    validation, test = (split and processes.shard_dataset(split) for split in (validation, test))
    last_saved = time.perf_counter()
    start_time = last_saved - run.seconds  # as if training had never been interrupted

    model.train()
    for images, labels in run.batches(train):
        loss, logits = step(config.augment(images, run.generator) if config.augment else images, labels)
        run.metrics.add(loss, logits, processes.shard(labels))
        run.advance()
        row_is_due = run.step % every == 0 or run.step == last_row
        if row_is_due:  # reading the metrics waits for the device
            processes.average_statistics(model)
            val_metrics, test_metrics = (
                _evaluate_split(model, config.loss, split, processes.all_reduce) for split in (validation, test)
            )
            run.record(Row(run.epoch, run.step, run.lr, *run.metrics.read(processes.all_reduce), *val_metrics, *test_metrics))
            run.watched.append(measure_watched(config.watch, model, train))
            progress(run.step, run.rows[-1])
        elif run.step % STEPS_BETWEEN_UPDATES == 0:
            progress(run.step, None)
        now, finished = time.perf_counter(), run.stopped or run.step == last_row
        if saves_checkpoints and (finished or processes.decide(now - last_saved >= checkpoint_seconds, run.step)):
            run.seconds = now - start_time
            process_states = processes.gather(run.process_state())
            if checkpoint:
                checkpoint.save(run.state() | {"processes": process_states})
            last_saved = time.perf_counter()
        if run.stopped:
            break
    seconds = time.perf_counter() - start_time
    return TrainResult(run.rows, run.watched, run.selected_weights(), run.selected_row, run.step, seconds)


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
        self.selected_row, self.step, self.epoch, self.lr, self.seconds, self.stopped = -1, 0, 1, 0.0, 0.0, False

    def batches(self, train: DeviceDataset) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the remaining batches."""
        while self.step < self.steps * self.config.epochs and not self.stopped:
            self.epoch = self.step // self.steps + 1
            order = _epoch_order(train.labels, self.config, self.epoch)[: self.steps * self.config.batch_size]
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
            self.selected_row = len(self.rows) - 1
        elif self.selected_row < 0 or self._score(row) > self._score(self.rows[self.selected_row]):
            self.selected_row = len(self.rows) - 1
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.stopped = self.config.should_stop([row.val_loss for row in self.rows if row.val_loss is not None])

    def _score(self, row: Row) -> float:
        """Return the selection score; higher is better."""
        name, sign = SCORES[self.config.select]
        score: float = sign * getattr(row, name)
        return score

    def selected_weights(self) -> dict[str, Tensor]:
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
            "selected_row": self.selected_row,
            "step": self.step,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "augmentation": self.generator.get_state(),
        }

    def process_state(self) -> dict[str, Any]:
        """Return this process's part: metrics since the last row, running statistics and states of torch's generators."""
        return {
            "metrics": self.metrics.state(),
            "buffers": {name: buffer.cpu() for name, buffer in self.model.named_buffers()},
            "random": random_state(self.device),
        }

    def load_state(self, state: dict[str, Any], rank: int) -> None:
        """Restore a checkpoint: the result of `state` and, under `processes`, the results of `process_state` by rank."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.rows, self.watched = [Row(**row) for row in state["rows"]], state["watched"]
        self.best = {name: tensor.to(self.device) for name, tensor in state["best"].items()}
        self.selected_row = state["selected_row"]
        self.step, self.seconds, self.stopped = state["step"], state["seconds"], state["stopped"]
        self.generator.set_state(state["augmentation"])
        process_state = state["processes"][rank]
        self.metrics.load_state(process_state["metrics"], self.device)
        self.model.load_state_dict(process_state["buffers"], strict=False)
        load_random_state(process_state["random"], self.device)


def _epoch_order(labels: Tensor, config: TrainConfig, epoch: int) -> Tensor:
    """Return the rows of the training split in the order of an epoch."""
    if config.order == "by_class":
        return torch.argsort(labels, stable=True)
    return shuffled_rows(len(labels), config.seed, epoch).to(labels.device)


def _evaluate_split(
    model: nn.Module, loss: Loss, split: DeviceDataset | None, all_reduce: AllReduce
) -> tuple[float, float] | tuple[None, None]:
    """Return mean loss and accuracy of a split, or `None` for both without a split."""
    return (None, None) if split is None else evaluate(model, loss, split, all_reduce)
