"""Measure the overhead of an epoch of the engine, and its speed-up over a typical training loop.

    python benchmarks/engine.py [--rounds 7]       # writes benchmarks/engine.md; nothing else should run meanwhile

Five contenders take turns, each turn in a separate process, so that temporary slowdowns of the machine affect all of them and
the typical loop runs without our process settings:
usual   torchvision's MNIST with ToTensor and Normalize, a DataLoader, `loss.item()` and the accuracy of every batch
scaled  the same with ToTensor alone
engine  `labbook.training.engine.fit`, as the train stage calls it, for one epoch of the same normalised images
floor   plain steps (zero_grad, forward, loss, backward, fused step) on one fixed batch, without data loading and metrics
raw     the same, calling the update like the engine, without the decorators around `step`
Images are random, because time does not depend on their content.
"""

import argparse
import functools
import inspect
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from turns import LR, engine_epoch, median, ratio, take_turns, usual_epoch, write_page

from labbook.data.packed import Split
from labbook.models import cnn, mlp
from labbook.training.inference import to_device
from labbook.training.runtime import configure

SAMPLES, THREADS = 60_000, 2
MEAN, STD = 0.1307, 0.3081
TRANSFORMS = {
    "usual": transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]),
    "scaled": transforms.ToTensor(),
}
FLOORS = {"engine over floor": "floor", "over raw floor": "raw"}
CONTENDERS = ("usual", "scaled", "engine", "floor", "raw")


def build_mlp(hidden: list[int]) -> nn.Module:
    return mlp.build(mlp.Settings(name="mlp", hidden=hidden), (1, 28, 28), 10)


def build_cnn() -> nn.Module:
    return cnn.build(cnn.Settings(name="cnn", channels=[8, 16, 32], pools=2), (1, 28, 28), 10)


CASES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "MLP 784-100-10, batch 32": (lambda: build_mlp([100]), 32),
    "MLP 784-50-50-10, batch 128": (lambda: build_mlp([50, 50]), 128),
    "CNN 8-16-32, batch 128": (build_cnn, 128),
}


def usual(model: nn.Module, batch: int, data: datasets.MNIST) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    usual_epoch(model, optimizer, DataLoader(data, batch_size=batch, shuffle=True))


def floor(model: nn.Module, batch: int, *, raw: bool, steps: int | None = None) -> None:
    model = model.to(memory_format=torch.channels_last)
    images = torch.rand(batch, 1, 28, 28).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, fused=True)
    update, parameters = inspect.unwrap(type(optimizer).step), list(model.parameters())
    model.train()
    for _ in range(steps or -(-SAMPLES // batch)):
        if raw:
            for parameter in parameters:
                parameter.grad = None
        else:
            optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        if raw:
            with torch.no_grad():
                update(optimizer)
        else:
            optimizer.step()


def write_idx(root: Path, split: Split) -> None:
    """Write the split in the format of torchvision's MNIST, for both training and test set."""
    folder = root / "MNIST/raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind, values in (("images-idx3", split.images[:, 0]), ("labels-idx1", split.labels.astype(np.uint8))):
            header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(header + values.tobytes())


def take_turn(contender: str, case: str, root: Path) -> float:
    """Run one contender for one epoch in this process, and return its seconds."""
    build, batch = CASES[case]
    if contender not in TRANSFORMS:
        configure("cpu", THREADS, 0)
    if contender in TRANSFORMS:
        data = datasets.MNIST(root, train=True, transform=TRANSFORMS[contender])
        run = functools.partial(usual, build(), batch, data)
    elif contender == "engine":
        run = functools.partial(engine_epoch, build(), batch, to_device(random_images(), normalise, torch.device("cpu")))
    else:
        run = functools.partial(floor, build(), batch, raw=contender == "raw")
    if contender in TRANSFORMS:
        floor(build(), batch, raw=False, steps=20)  # warm-up of libraries
    else:
        run()  # warm-up
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def normalise(images: torch.Tensor) -> torch.Tensor:
    return (images.to(torch.float32) / 255 - MEAN) / STD


def random_images() -> Split:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (SAMPLES, 1, 28, 28), dtype=np.uint8)
    return Split(images, generator.integers(0, 10, SAMPLES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.contender:
        print(take_turn(arguments.contender, arguments.case, arguments.root))
        return
    rows = []
    with tempfile.TemporaryDirectory() as root:
        write_idx(Path(root), random_images())
        for case in CASES:
            turns = take_turns(__file__, CONTENDERS, arguments.rounds, "--case", case, "--root", root)
            row = {"model": case} | {f"{contender}, s": f"{median(turns, contender):.3f}" for contender in CONTENDERS}
            row |= {name: f"{ratio(turns, 'engine', contender):.2f}×" for name, contender in FLOORS.items()}
            rows.append(row | {f"{loop} over engine": f"{ratio(turns, loop, 'engine'):.1f}×" for loop in TRANSFORMS})
            print(*rows[-1].values(), flush=True)
    write_page(
        Path("benchmarks/engine.md"),
        "One epoch of 60,000 images of 28×28",
        f"python benchmarks/engine.py --rounds {arguments.rounds}",
        f"medians of {arguments.rounds} rounds; contenders take turns, and ratios are medians over rounds.",
        rows,
    )


if __name__ == "__main__":
    main()
