"""Compare the speed of NumPy layers with PyTorch on the CPU.

    python benchmarks/numpy_layers.py [--rounds 7]      # writes benchmarks/numpy_layers.md; nothing else should run meanwhile

Two contenders take turns, each turn in a separate process, in float32 and with the same number of threads:
numpy   layers of `labbook.numpy_nn`
torch   PyTorch's layers of the same names
The engine trains the MLP with both backends. Values are random, because time does not depend on them.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from turns import engine_epoch, median, ratio, take_turns, write_page

from labbook.numpy_nn import step as numpy_step
from labbook.numpy_nn.conv import Conv2d
from labbook.training import torch_step
from labbook.training.backend import Backend
from labbook.training.inference import DeviceDataset
from labbook.training.runtime import configure

SAMPLES, BATCH = 60_000, 128
CONTENDERS = ("numpy", "torch")


def conv_numpy() -> Callable[[], object]:
    generator = np.random.default_rng(0)
    layer = Conv2d(3, 32, 5, padding=2, generator=generator)
    images = generator.random((64, 3, 32, 32), np.float32)
    upstream = generator.random((64, 32, 32, 32), np.float32)

    def run() -> None:
        layer.forward(images)
        layer.backward(upstream)

    return run


def conv_torch() -> Callable[[], object]:
    layer = nn.Conv2d(3, 32, 5, padding=2)
    images = torch.rand(64, 3, 32, 32, requires_grad=True)
    upstream = torch.rand(64, 32, 32, 32)

    def run() -> None:
        images.grad = layer.weight.grad = layer.bias.grad = None
        layer(images).backward(upstream)

    return run


def mlp(backend: Backend) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(SAMPLES, 28, 28, 1, generator=generator)
    inputs = DeviceDataset(images, torch.randint(10, (SAMPLES,), generator=generator), None)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10))
    return lambda: engine_epoch(model, BATCH, inputs, backend)


CASES: dict[str, tuple[dict[str, Callable[[], Callable[[], object]]], int]] = {  # and repetitions per turn
    "Conv2d 3→32, 5×5, batch 64 of 32×32, forward and backward": ({"numpy": conv_numpy, "torch": conv_torch}, 20),
    "MLP 784-50-50-10, batch 128, an epoch of 60,000 images": (
        {"numpy": partial(mlp, numpy_step.build), "torch": partial(mlp, torch_step.build)},
        1,
    ),
}


def take_turn(contender: str, case: str, threads: int) -> float:
    """Run one contender in this process, and return the seconds of one run."""
    configure("cpu", threads, 0)
    builders, times = CASES[case]
    run = builders[contender]()
    run()  # warm-up
    started = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - started) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(take_turn(arguments.contender, arguments.case, arguments.threads))
        return
    torch.set_num_threads(arguments.threads)  # for the header of the page
    os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)  # NumPy's BLAS reads it when a turn's process starts
    rows = []
    for case in CASES:
        given = ("--case", case, "--threads", str(arguments.threads))
        turns = take_turns(__file__, CONTENDERS, arguments.rounds, *given)
        row = {"what": case} | {f"{contender}, ms": f"{1000 * median(turns, contender):.1f}" for contender in CONTENDERS}
        rows.append(row | {"numpy over torch": f"{ratio(turns, 'numpy', 'torch'):.2f}×"})
        print(*rows[-1].values(), flush=True)
    write_page(
        Path("benchmarks/numpy_layers.md"),
        "NumPy layers against PyTorch",
        f"python benchmarks/numpy_layers.py --rounds {arguments.rounds} --threads {arguments.threads}",
        f"medians of {arguments.rounds} rounds; contenders take turns, and ratios are medians over rounds. "
        f"NumPy {np.__version__}.",
        rows,
    )


if __name__ == "__main__":
    main()
