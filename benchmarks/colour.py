"""Measure the overhead of the engine on colour images, and its speed-up over a typical training loop.

    python benchmarks/colour.py [--rounds 5]       # writes benchmarks/colour.md; nothing else should run meanwhile

Contenders take turns, each turn in a separate process, on the number of random images of each case:
usual   a dataset of Pillow images with torchvision's transforms, a DataLoader, `loss.item()` and the accuracy of every batch
engine  `labbook.training.engine.fit` with the augmentation of the experiment, for one epoch, in float32 and in bf16
floor   plain steps (zero_grad, forward, loss, backward, fused step) on one fixed batch of the same precision
Model, optimiser, batch size and augmentation are those of the experiment's block in params.yaml.
"""

import argparse
import functools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from turns import median, ratio, take_turns, usual_epoch, write_page

from labbook.config.components import load
from labbook.config.train import TrainSettings, read_training
from labbook.data.packed import Split
from labbook.training import torch_step
from labbook.training.augment import Augmentation
from labbook.training.components import build_loss, build_optimizer, build_schedule
from labbook.training.engine import TrainConfig, fit
from labbook.training.inference import to_device
from labbook.training.preprocessing import Preprocessing
from labbook.training.runtime import check_bf16, configure, in_bf16

CPU, THREADS = torch.device("cpu"), 2
CASES = {"cifar10_cnn": 12_800, "cifar10_wide": 3_072, "scenes_unet": 3_840}  # images of one turn
CONTENDERS = ("usual", "engine", "floor", "engine-bf16", "floor-bf16")


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Images as torchvision's CIFAR10 returns them: one at a time, through Pillow."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[Any], transform: Any) -> None:
        self.images, self.labels, self.transform = images.transpose(0, 2, 3, 1), torch.from_numpy(labels).long(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def usual_transform(settings: TrainSettings) -> Any:
    steps: list[Any] = []
    if settings.augment.crop_padding:
        steps.append(transforms.RandomCrop(32, padding=settings.augment.crop_padding))
    if settings.augment.flip:
        steps.append(transforms.RandomHorizontalFlip(settings.augment.flip))
    steps.append(transforms.ToTensor())
    mean, std = settings.preprocess.mean, settings.preprocess.std
    if (mean, std) != (0, 1):
        steps.append(
            transforms.Normalize(mean if isinstance(mean, list) else [mean] * 3, std if isinstance(std, list) else [std] * 3)
        )
    return transforms.Compose(steps)


def usual(model: nn.Module, settings: TrainSettings, split: Split) -> None:
    data = Pictures(split.images, split.labels, usual_transform(settings))
    asked = settings.optimizer.model_dump()
    optimizer = getattr(torch.optim, asked.pop("name"))(model.parameters(), **asked)
    usual_epoch(model, optimizer, DataLoader(data, batch_size=settings.batch_size, shuffle=True))


def engine(model: nn.Module, settings: TrainSettings, split: Split, precision: str) -> None:
    plan = TrainConfig(
        backend=torch_step.build,
        loss=build_loss(settings.loss, "loss"),
        optimizer=lambda parameters: build_optimizer(settings.optimizer, parameters, "optimizer"),
        schedule=lambda optimizer, steps, epochs: build_schedule(settings.schedule, optimizer, steps, epochs, "schedule"),
        augment=Augmentation(settings.augment, settings.preprocess).transform,
        should_stop=lambda losses: False,
        batch_size=settings.batch_size,
        drop_last=False,
        epochs=1,
        validate_every=None,
        select="last",
        seed=0,
        precision=precision,
    )
    fit(model, to_device(split, Preprocessing(settings.preprocess), CPU), None, None, plan)


def floor(model: nn.Module, settings: TrainSettings, split: Split, precision: str) -> None:
    images = torch.rand(settings.batch_size, *split.images.shape[1:]).to(memory_format=torch.channels_last)
    labels = torch.from_numpy(split.labels[: settings.batch_size]).long()
    stepper = build_optimizer(settings.optimizer, model.parameters(), "optimizer")
    forward = in_bf16(model, CPU) if precision == "bf16" else model
    model.train()
    for _ in range(len(split) // settings.batch_size):
        stepper.zero_grad()
        functional.cross_entropy(forward(images), labels).backward()
        stepper.step()


def random_split(experiment: str) -> Split:
    generator, count = np.random.default_rng(0), CASES[experiment]
    images = generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    if experiment == "scenes_unet":
        return Split(images, generator.integers(0, 20, (count, 32, 32), dtype=np.uint8))
    return Split(images, generator.integers(0, 10, count))


def take_turn(contender: str, experiment: str) -> float:
    """Run one contender twice in this process, and return the seconds of the second run."""
    kind, _, precision = contender.partition("-")
    settings, _ = read_training(experiment, "official")
    split = random_split(experiment)
    if kind != "usual":
        configure("cpu", THREADS, 0)
    if precision:
        check_bf16(CPU, f"experiments.{experiment}.train.precision")
    module, options = load("model", settings.model, "model")
    model = module.build(options, split.images.shape[1:], 20 if split.labels.ndim > 1 else 10)
    if kind == "usual":
        run = functools.partial(usual, model, settings, split)
    else:
        model = model.to(memory_format=torch.channels_last)
        run = functools.partial({"engine": engine, "floor": floor}[kind], model, settings, split, precision or "float32")
    run()  # warm-up
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.contender:
        print(take_turn(arguments.contender, arguments.case))
        return
    pairs = {
        "engine over floor": ("engine", "floor"),
        "the same in bf16": ("engine-bf16", "floor-bf16"),
        "usual over engine": ("usual", "engine"),
        "usual over engine in bf16": ("usual", "engine-bf16"),
    }
    rows = []
    for experiment, count in CASES.items():
        turns = take_turns(__file__, CONTENDERS, arguments.rounds, "--case", experiment)
        row = {"model": f"`{experiment}`, {count:,} images"}
        row |= {f"{contender}, s": f"{median(turns, contender):.2f}" for contender in CONTENDERS}
        rows.append(row | {name: f"{ratio(turns, *pair):.2f}×" for name, pair in pairs.items()})
        print(*rows[-1].values(), flush=True)
    write_page(
        Path("benchmarks/colour.md"),
        "One pass over 32×32 colour images",
        f"python benchmarks/colour.py --rounds {arguments.rounds}",
        f"medians of {arguments.rounds} rounds; contenders take turns, and ratios are medians over rounds. "
        "The usual loop is float32.",
        rows,
    )


if __name__ == "__main__":
    main()
