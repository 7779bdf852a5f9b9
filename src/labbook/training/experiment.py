"""From the settings of an experiment and a prepared dataset to trained weights."""

import contextlib
import importlib
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from labbook.core.errors import ParamsError, TrainingError
from labbook.core.files import write_bytes
from labbook.core.inference import model_shape, place
from labbook.core.packed import Packed
from labbook.core.parts import load
from labbook.core.runtime import check_bf16, configure
from labbook.core.settings import PARTS, Runtime, TrainSettings
from labbook.training.checkpoint import CHECKPOINTS, code_digest, fingerprint, hold
from labbook.training.constraints import check, count_parameters
from labbook.training.distributed import ALONE, Processes
from labbook.training.engine import Plan, fit
from labbook.training.history import Row, rounded
from labbook.training.progress import ignore, show_progress
from labbook.training.start import Start

__all__ = ["Outcome", "train_experiment", "write_weights"]


@dataclass(frozen=True)
class Outcome:
    """What the train stage writes.

    Attributes:
        weights: the state that the experiment keeps, on the CPU.
        rows: the history.
        summary: what evaluation needs to build the model again, and what the report says of the run; reproducible.
        timing: seconds, date and machine; never the same twice.
    """

    weights: dict[str, Tensor]
    rows: list[Row]
    summary: dict[str, Any]
    timing: dict[str, Any]


def train_experiment(
    name: str,
    settings: TrainSettings,
    runtime: Runtime,
    packed: Packed,
    *,
    key: str,
    start: Start | None = None,
    checkpoints: Path = CHECKPOINTS,
    checkpoint_seconds: float = 5.0,
    processes: Processes = ALONE,
) -> Outcome:
    """Train one experiment, or go on with it where it was interrupted.

    The checkpoint stays until `labbook.training.checkpoint.discard`, which the caller calls when the outputs are written.

    Args:
        name: of the experiment, for progress and its checkpoints' folder.
        settings: its training block.
        runtime: seed, device, threads.
        packed: its dataset.
        key: where the block stands in `params.yaml`, for messages.
        start: weights to start from; drawn at random where it holds none.
        checkpoints: where checkpoints of all experiments lie.
        checkpoint_seconds: at least so long between two of them.
        processes: that train it together; the outcome is the same in all of them, but for seconds.

    Raises:
        LabbookError: a part or the device is not there, the constraint is broken, training cannot go on.
    """
    settings, seed = settings.on(packed.source), settings.seed_of(runtime.seed)
    if settings.processes != processes.count:
        raise TrainingError(
            f"{key}.processes: {settings.processes} asked for, {processes.count} running. `python stages/train.py` starts "
            "as many on one machine; with torchrun, --nnodes times --nproc-per-node is as many."
        )
    device = configure("cpu" if settings.backend == "scratch" else processes.device(runtime.device), runtime.threads, seed)
    if settings.precision == "bf16":
        check_bf16(device, f"{key}.precision")
    parts = {family: load(family, getattr(settings, family), f"{key}.{family}") for family in PARTS}
    made = {
        family: module.build(options) for family, (module, options) in parts.items() if family not in ("model", "optimizer")
    }
    convert = made["augmentation"].fixed
    build, model_settings = parts["model"][0].build, parts["model"][1]
    try:
        model = build(model_settings, model_shape(convert, packed.image_shape), len(packed.classes))
    except ParamsError as error:
        raise ParamsError(f"{key}.{error}") from error
    decay = getattr(parts["optimizer"][1], "weight_decay", 0.0)
    check(model, settings.constraint, decay, f"{key}.constraint")
    if start:
        start.check_source(packed.source)
        start.give_to(model)
    model = model.to(device).to(memory_format=torch.channels_last)

    optimizer, optimizer_settings = parts["optimizer"]
    epochs = settings.epochs
    plan = Plan(
        backend=importlib.import_module(f"labbook.backends.{settings.backend}.step").build,
        optimizer=lambda parameters: optimizer.build(optimizer_settings, parameters),
        **made,
        batch_size=settings.batch_size,
        drop_last=settings.drop_last,
        epochs=epochs,
        validate_every=settings.validate_every,
        keep=settings.keep,
        seed=seed,
        precision=settings.precision,
        order=settings.order,
        watch=settings.watch,
    )
    train_split, validation_split = packed.held_out() if settings.validation else (packed.train, None)
    train = place(train_split, convert, device)
    validation = place(validation_split, convert, device) if validation_split is not None else None
    test = place(packed.test, convert, device) if settings.test_curve else None

    begun = start.digest if start else ""
    mark = fingerprint(settings, runtime, device.type, packed.digest, begun, code_digest(), torch.__version__)
    processes.agree(mark)
    steps = epochs * plan.steps_per_epoch(len(train))
    first = processes.rank == 0
    with (
        hold(checkpoints / name, mark) if first else contextlib.nullcontext() as checkpoint,
        show_progress(name, steps) if first else contextlib.nullcontext(ignore) as show,
    ):
        trained = fit(
            model, train, validation, test, plan,
            checkpoint=checkpoint, checkpoint_seconds=checkpoint_seconds, show=show, processes=processes,
        )  # fmt: skip
    last, kept = trained.rows[-1], trained.rows[trained.kept]
    summary = {
        "experiment": name,
        "dataset": packed.name,
        "source": packed.source,
        "classes": packed.classes,
        "image_shape": packed.image_shape,
        "samples": {
            "train": len(train_split),
            "val": len(validation_split) if validation_split is not None else 0,
            "test": len(packed.test),
        },
        "seed": runtime.seed,
        "device": device.type,
        "threads": runtime.threads,
        "torch": torch.__version__,
        "parameters": count_parameters(model),
        "epochs": epochs,
        "epochs_trained": last.epoch,
        "stopped_early": last.step < steps,
        "kept": settings.keep,
        "best_epoch": kept.epoch,
        "last": _watched(last),
        "best": _watched(kept),
        "settings": settings.model_dump(exclude_none=True, exclude={"processes"} if processes.count == 1 else None),
    } | ({"watched": trained.watched} if settings.watch else {})
    weights = {part: tensor.detach().cpu().contiguous() for part, tensor in trained.weights.items()}
    timing = {"source": packed.source} | _timing(trained.seconds, last.epoch, device)
    return Outcome(weights, trained.rows, summary, timing)


def write_weights(path: Path, weights: dict[str, Tensor], source: str | None = None) -> None:
    """Write safetensors, with the source of the data if it is given: the same weights give the same bytes."""
    # One key of metadata at most: safetensors writes several in random order.
    write_bytes(path, safetensors.torch.save(weights, {"source": source} if source else None))


def _watched(row: Row) -> dict[str, object]:
    """Give the train and validation figures of a row; test figures are evaluation's alone."""
    return {name: value for name, value in rounded(row).items() if name.startswith(("train_", "val_")) and value is not None}


def _timing(seconds: float, epochs: int, device: torch.device) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 3),
        "seconds_per_epoch": round(seconds / epochs, 4),
        "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    """Name the CPU as the system does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
