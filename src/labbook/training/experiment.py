"""Train an experiment: from its settings and a prepared dataset to the weights of every seed."""

import contextlib
import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from labbook.config.components import load
from labbook.config.train import BACKENDS, Runtime, TrainSettings
from labbook.data.packed import PackedDataset
from labbook.errors import ParamsError, TrainingError
from labbook.io import write_bytes
from labbook.training.augment import Augmentation
from labbook.training.checkpoint import CHECKPOINT_SECONDS, CHECKPOINTS, code_digest, fingerprint, locked_checkpoint
from labbook.training.components import build_loss, build_optimizer, build_schedule, get_weight_decay
from labbook.training.constraints import check_constraint, count_parameters
from labbook.training.distributed import SINGLE_PROCESS, Processes
from labbook.training.early_stopping import should_stop
from labbook.training.engine import TrainConfig, TrainResult, fit
from labbook.training.history import DECIMALS, Row, rounded
from labbook.training.inference import DeviceDataset, evaluate, model_shape, to_device
from labbook.training.parallel import run_parallel
from labbook.training.preprocessing import Preprocessing
from labbook.training.pretrained import PretrainedWeights
from labbook.training.progress import no_progress, show_progress
from labbook.training.runtime import check_bf16, configure
from labbook.training.timing import make_timing

__all__ = ["SeedResult", "list_seeds", "summarize", "train_experiment", "train_seeds", "write_weights"]


@dataclass(frozen=True)
class SeedResult:
    """The result of training from one seed.

    Attributes:
        weights: the selected state, on the CPU.
        rows: the history.
        parameters: number of trainable parameters.
        device: type of the device.
        summary: summary of the training for evaluation and report; reproducible.
        timing: seconds, date and machine; different in every run.
        test: loss and accuracy of the weights on the test set, if `evaluate_test` is set.
    """

    weights: dict[str, Tensor]
    rows: list[Row]
    parameters: int
    device: str
    summary: dict[str, Any]
    timing: dict[str, Any]
    test: dict[str, float] | None = None


def list_seeds(settings: TrainSettings, runtime: Runtime) -> list[int]:
    """Return the seeds of an experiment: the project's seed and the following ones, modulo 2³²."""
    return [(runtime.seed + index) % 2**32 for index in range(settings.seeds)]


def train_seeds(
    name: str,
    settings: TrainSettings,
    runtime: Runtime,
    packed: PackedDataset,
    *,
    key: str,
    pretrained: PretrainedWeights | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    processes: Processes = SINGLE_PROCESS,
) -> list[SeedResult]:
    """Train an experiment once for each of its seeds, in parallel as far as `run_parallel` permits.

    The arguments are those of `train_experiment`. Each seed has its own checkpoint folder.

    Raises:
        LabbookError: see `train_experiment`.
    """

    def train(seed: int) -> tuple[SeedResult, bytes]:
        result = train_experiment(
            f"{name}/{seed}", settings, runtime.model_copy(update={"seed": seed}), packed,
            key=key, pretrained=pretrained, checkpoint_seconds=checkpoint_seconds, processes=processes,
        )  # fmt: skip
        # As bytes, because tensors would be passed in shared memory, which is freed with the process that created it.
        return replace(result, weights={}), safetensors.torch.save(result.weights)

    seeds = list_seeds(settings, runtime)
    outputs = [train(seed) for seed in seeds] if processes.world_size > 1 else run_parallel(train, seeds)
    return [replace(result, weights=safetensors.torch.load(weights)) for result, weights in outputs]


def train_experiment(
    name: str,
    settings: TrainSettings,
    runtime: Runtime,
    packed: PackedDataset,
    *,
    key: str,
    pretrained: PretrainedWeights | None = None,
    checkpoints: Path = CHECKPOINTS,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    processes: Processes = SINGLE_PROCESS,
    evaluate_test: bool = False,
) -> SeedResult:
    """Train from one seed, or resume where an earlier process was interrupted.

    The checkpoint is kept until the caller has written the outputs and calls `labbook.training.checkpoint.discard`.

    Args:
        name: name of the checkpoint folder and of the progress display.
        settings: the experiment's settings, resolved for the data source of `packed`.
        runtime: seed and device.
        packed: the dataset.
        key: key of the training block in `params.yaml`, for messages.
        pretrained: initial weights; `None` or no weights for random initialisation.
        checkpoints: the folder of all checkpoints.
        checkpoint_seconds: seconds between two checkpoints.
        processes: the processes that train together; the result is the same in all of them, except for the timing.
        evaluate_test: whether to evaluate the selected weights on the test set.

    Raises:
        LabbookError: a component or the device does not exist, the constraint is not satisfied, or training cannot continue.
    """
    _check_world_size(settings, processes, key)
    seed = runtime.seed
    requested_device = "cpu" if settings.backend == "numpy" else processes.device(runtime.device)
    device = configure(requested_device, settings.threads, seed)
    if settings.precision == "bf16":
        check_bf16(device, f"{key}.precision")
    convert = Preprocessing(settings.preprocess)
    model = _build_model(settings, packed, convert, pretrained, key).to(device).to(memory_format=torch.channels_last)
    config = _config(settings, seed, len(packed.classes), key)
    train, validation, test = _splits(settings, packed, convert, device, with_test=evaluate_test)
    digest = _fingerprint(settings, seed, device, packed, pretrained)
    processes.check_fingerprint(digest)
    steps_per_epoch = config.steps_per_epoch(len(train))
    is_first = processes.rank == 0
    with (
        locked_checkpoint(checkpoints / name, digest) if is_first else contextlib.nullcontext() as checkpoint,
        show_progress(name, config.epochs * steps_per_epoch) if is_first else contextlib.nullcontext(no_progress) as progress,
    ):
        result = fit(
            model, train, validation, test if settings.test_curve else None, config,
            checkpoint=checkpoint, checkpoint_seconds=checkpoint_seconds, progress=progress, processes=processes,
        )  # fmt: skip
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in result.weights.items()}
    model.load_state_dict(weights)
    return SeedResult(
        weights=weights,
        rows=result.rows,
        parameters=count_parameters(model),
        device=device.type,
        summary=_summary(result, config, steps_per_epoch, _rounded_metrics("train", model, config, train)),
        timing={"seed": seed, **make_timing(result.seconds, result.steps / steps_per_epoch, _gpu(device))},
        test=_rounded_metrics("test", model, config, test) if test and evaluate_test else None,
    )


def summarize(name: str, settings: TrainSettings, packed: PackedDataset, results: Sequence[SeedResult]) -> dict[str, Any]:
    """Return the summary of an experiment: what evaluation needs to rebuild the models, and a summary of each seed."""
    held_out = len(packed.validation) if settings.validation else 0
    return {
        "experiment": name,
        "dataset": packed.name,
        "source": packed.source,
        "digest": packed.digest,
        "classes": packed.classes,
        "image_shape": packed.image_shape,
        "samples": {"train": len(packed.train) - held_out, "val": held_out, "test": len(packed.test)},
        "device": results[0].device,
        "torch": torch.__version__.partition("+")[0],  # without the build's label, such as +cpu
        "parameters": results[0].parameters,
        "settings": settings.model_dump(exclude_none=True),
        "seeds": [result.summary for result in results],
    }


def write_weights(path: Path, weights: dict[str, Tensor], source: str | None = None) -> None:
    """Write weights as a safetensors file, with the data source if given; the same weights give the same bytes."""
    # At most one metadata key, because safetensors writes several in random order.
    write_bytes(path, safetensors.torch.save(weights, {"source": source} if source else None))


def _check_world_size(settings: TrainSettings, processes: Processes, key: str) -> None:
    if settings.world_size != processes.world_size:
        raise TrainingError(
            f"{key}.world_size: needs {settings.world_size} processes, found {processes.world_size}. "
            "`python stages/train.py` starts them on one machine; torchrun starts --nnodes times --nproc-per-node."
        )


def _build_model(
    settings: TrainSettings, packed: PackedDataset, convert: Preprocessing, pretrained: PretrainedWeights | None, key: str
) -> nn.Module:
    module, options = load("model", settings.model, f"{key}.model")
    try:
        model: nn.Module = module.build(options, model_shape(convert, packed.image_shape), len(packed.classes))
    except ParamsError as error:
        raise ParamsError(f"{key}.{error}") from error
    check_constraint(model, settings.constraint, get_weight_decay(settings.optimizer), f"{key}.constraint")
    if pretrained:
        pretrained.check_source(packed.source)
        pretrained.load_into(model)
    return model


def _config(settings: TrainSettings, seed: int, classes: int, key: str) -> TrainConfig:
    return TrainConfig(
        backend=importlib.import_module(BACKENDS[settings.backend]).build,
        loss=build_loss(settings.loss, f"{key}.loss", classes),
        optimizer=lambda parameters: build_optimizer(settings.optimizer, parameters, f"{key}.optimizer"),
        schedule=lambda optimizer, steps, epochs: build_schedule(
            settings.schedule, optimizer, steps, epochs, f"{key}.schedule"
        ),
        augment=Augmentation(settings.augment, settings.preprocess).transform,
        should_stop=partial(should_stop, settings.early_stopping),
        batch_size=settings.batch_size,
        drop_last=settings.drop_last,
        epochs=settings.epochs,
        validate_every=settings.validate_every,
        select=settings.select,
        seed=seed,
        precision=settings.precision,
        order=settings.order,
        watch=settings.watch,
    )


def _splits(
    settings: TrainSettings, packed: PackedDataset, convert: Preprocessing, device: torch.device, *, with_test: bool
) -> tuple[DeviceDataset, DeviceDataset | None, DeviceDataset | None]:
    """Copy the training split, the validation split and the test set to the device; unused ones are `None`."""
    train, validation = packed.train_val_split() if settings.validation else (packed.train, None)
    return (
        to_device(train, convert, device),
        to_device(validation, convert, device) if validation is not None else None,
        to_device(packed.test, convert, device) if settings.test_curve or with_test else None,
    )


def _fingerprint(
    settings: TrainSettings, seed: int, device: torch.device, packed: PackedDataset, pretrained: PretrainedWeights | None
) -> str:
    """Hash everything that the weights of one seed depend on."""
    # The number of seeds is left out: no single training depends on it, and finished seeds are reused when it increases.
    relevant_settings = settings.model_copy(update={"seeds": 1})
    versions = torch.__version__, np.__version__
    return fingerprint(
        relevant_settings, seed, device.type, packed.digest, pretrained.digest if pretrained else "", code_digest(), versions
    )


def _rounded_metrics(split: str, model: nn.Module, config: TrainConfig, inputs: DeviceDataset) -> dict[str, float]:
    """Return rounded loss and accuracy of a split in evaluation mode."""
    loss, accuracy = evaluate(model, config.loss, inputs)
    return {f"{split}_loss": round(loss, DECIMALS), f"{split}_accuracy": round(accuracy, DECIMALS)}


def _gpu(device: torch.device) -> str | None:
    """Return the name of the GPU, or `None` for another device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def _summary(result: TrainResult, config: TrainConfig, steps_per_epoch: int, train: dict[str, float]) -> dict[str, Any]:
    """Return the summary of one seed; `train` holds the metrics of the selected weights on the training split."""
    row = result.rows[result.selected_row]
    return {
        "seed": config.seed,
        "steps": result.steps,
        "epochs_trained": math.ceil(result.steps / steps_per_epoch),
        "stopped_early": result.steps < config.epochs * steps_per_epoch,
        "kept": {"row": result.selected_row, "epoch": row.epoch, "step": row.step},
        **train,
        "val_loss": rounded(row)["val_loss"],
        "val_accuracy": rounded(row)["val_accuracy"],
    } | ({"watched": result.watched} if config.watch else {})
