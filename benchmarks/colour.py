"""How close the engine is to the cost of its arithmetic on colour images, and how far ahead of the usual loop.

    python benchmarks/colour.py [--rounds 5]       # writes benchmarks/colour.md; nothing else should run meanwhile

Contenders take turns, each turn in a process of its own, on as many random images as a case names:
usual   a dataset of Pillow images with torchvision's transforms, a DataLoader, `loss.item()` and the accuracy of every batch
engine  `labbook.training.engine.fit` with the augmentation of the experiment, for one epoch, in float32 and in bf16
floor   plain steps (zero_grad, forward, loss, backward, fused step) on one fixed batch of the same precision
Model, optimiser, batch size and augmentation are those of the experiment's block in params.yaml.
"""

import argparse
import functools
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine import THREADS, machine
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from labbook.files import write_text
from labbook.inference import place
from labbook.packed import Split
from labbook.params.training import PARTS, TrainSettings, read_training
from labbook.parts import load
from labbook.runtime import configure, in_bf16
from labbook.training.engine import Plan, fit

CPU = torch.device("cpu")
# Images of one turn, and whether torchvision has transforms for the usual loop (labels of pixels it has not).
CASES = {"cifar10_cnn": (12_800, True), "cifar10_wide": (3_072, True), "scenes_unet": (3_840, False)}
CONTENDERS = ("usual", "engine", "floor", "engine-bf16", "floor-bf16")


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 gives them: one by one, by way of Pillow."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Any) -> None:
        self.images, self.labels, self.transform = images.transpose(0, 2, 3, 1), labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def usual_transform(settings: TrainSettings) -> Any:
    asked = settings.augmentation.model_dump()
    steps: list[Any] = []
    if asked.get("crop_padding"):
        steps.append(transforms.RandomCrop(32, padding=asked["crop_padding"]))
    if asked.get("flip"):
        steps.append(transforms.RandomHorizontalFlip(asked["flip"]))
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize((asked["mean"],) * 3, (asked["std"],) * 3)])


def usual(model: nn.Module, settings: TrainSettings, split: Split) -> None:
    data = Pictures(split.images, split.labels, usual_transform(settings))
    asked = settings.optimizer.model_dump()
    optimizer = torch.optim.SGD(model.parameters(), lr=asked["lr"], momentum=asked.get("momentum", 0.0))
    criterion, total, correct = nn.CrossEntropyLoss(), 0.0, 0
    model.train()
    for images, labels in DataLoader(data, batch_size=settings.batch_size, shuffle=True):
        optimizer.zero_grad()
        logits = model(images)
        loss = criterion(logits, labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
        correct += (logits.argmax(1) == labels).sum().item()


def engine(model: nn.Module, settings: TrainSettings, split: Split, precision: str) -> None:
    made = {}
    for family in PARTS:
        if family not in ("model", "optimizer"):
            module, options = load(family, getattr(settings, family), family)
            made[family] = module.build(options)
    optimizer, asked = load("optimizer", settings.optimizer, "optimizer")
    plan = Plan(
        **made,
        optimizer=functools.partial(optimizer.build, asked),
        batch_size=settings.batch_size,
        drop_last=False,
        epochs=1,
        validate_every=None,
        keep="last",
        seed=0,
        precision=precision,
    )
    fit(model, place(split, made["augmentation"].fixed, CPU), None, None, plan)


def floor(model: nn.Module, settings: TrainSettings, split: Split, precision: str) -> None:
    images = torch.rand(settings.batch_size, *split.images.shape[1:]).to(memory_format=torch.channels_last)
    labels = torch.from_numpy(split.labels[: settings.batch_size]).long()
    optimizer, asked = load("optimizer", settings.optimizer, "optimizer")
    stepper = optimizer.build(asked, model.parameters())
    forward = in_bf16(model, CPU) if precision == "bf16" else model
    model.train()
    for _ in range(len(split) // settings.batch_size):
        stepper.zero_grad()
        functional.cross_entropy(forward(images), labels).backward()
        stepper.step()


def random_split(experiment: str) -> Split:
    generator = np.random.default_rng(0)
    count, whole = CASES[experiment]
    images = generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    if whole:
        return Split(images, generator.integers(0, 10, count))
    return Split(images, generator.integers(0, 20, (count, 32, 32), dtype=np.uint8))


def take_turn(contender: str, experiment: str) -> float:
    """Run one contender in this process, and give the seconds of its second time."""
    kind, _, precision = contender.partition("-")
    settings = read_training(f"experiments.{experiment}")[0].on("official")
    split = random_split(experiment)
    if kind != "usual":
        configure("cpu", THREADS, 0)
    torch.set_num_threads(THREADS)
    module, options = load("model", settings.model, "model")
    model = module.build(options, split.images.shape[1:], 20 if split.labels.ndim > 1 else 10)
    if kind == "usual":
        run = functools.partial(usual, model, settings, split)
    else:
        model = model.to(memory_format=torch.channels_last)
        run = functools.partial({"engine": engine, "floor": floor}[kind], model, settings, split, precision or "float32")
    run()  # libraries set themselves up, and memory is faulted in
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def in_process(contender: str, experiment: str) -> float:
    command = [sys.executable, __file__, "--contender", contender, "--case", experiment]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(take_turn(arguments.contender, arguments.case))
        return
    lines = []
    for experiment, (count, has_usual) in CASES.items():
        order, taken = [name for name in CONTENDERS if has_usual or name != "usual"], []
        for _ in range(arguments.rounds):
            taken.append({contender: in_process(contender, experiment) for contender in order})
            order.append(order.pop(0))
        lines.append(line(experiment, count, taken))
        print(lines[-1], flush=True)
    write_text(Path("benchmarks/colour.md"), page(lines, arguments.rounds))


def line(experiment: str, count: int, taken: list[dict[str, float]]) -> str:
    def ratio(above: str, below: str) -> str:
        return f"{statistics.median(turn[above] / turn[below] for turn in taken):.2f}×" if above in taken[0] else ""

    seconds = [f"{statistics.median(turn[name] for turn in taken):.2f}" if name in taken[0] else "" for name in CONTENDERS]
    ratios = [ratio(f"engine{end}", f"floor{end}") for end in ("", "-bf16")] + [
        ratio("usual", f"engine{end}") for end in ("", "-bf16")
    ]
    return "| " + " | ".join([f"`{experiment}`, {count:,} images", *seconds, *ratios]) + " |"


def page(lines: list[str], rounds: int) -> str:
    columns = ["model", *(f"{contender}, s" for contender in CONTENDERS)]
    columns += ["engine over floor", "the same in bf16", "usual over engine", "usual over engine in bf16"]
    header = f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
    return f"""# One pass over 32×32 colour images

`python benchmarks/colour.py --rounds {rounds}`: medians of {rounds} rounds in which the contenders take turns; the ratios are
medians of each round's own. The usual loop is float32. {machine()}

{header}
{chr(10).join(lines)}
"""


if __name__ == "__main__":
    main()
