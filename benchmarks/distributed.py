"""Compare the speed-up by a second process with that by a second thread, on the CPU.

    python benchmarks/distributed.py [--rounds 5]       # writes benchmarks/distributed.md; nothing else should run meanwhile

Three contenders take turns, each an epoch of the engine on the same random images:
one        one process with one thread
processes  two processes with one thread each, `world_size: 2`
threads    one process with two threads
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from turns import engine_epoch, median, ratio, take_turns, write_page

from labbook.config.images import Preprocess
from labbook.data.packed import Split
from labbook.models import cnn, mlp
from labbook.training.distributed import is_launched, join_processes
from labbook.training.inference import to_device
from labbook.training.launch import launch
from labbook.training.preprocessing import Preprocessing
from labbook.training.runtime import configure

SAMPLES = 12_800
SHAPE = (3, 32, 32)
CONTENDERS = {"one": (1, 1), "processes": (2, 1), "threads": (1, 2)}  # number of processes, and threads per process
CASES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "MLP 3072-50-50-10, batch 128": (lambda: mlp.build(mlp.Settings(name="mlp", hidden=[50, 50]), SHAPE, 10), 128),
    "CNN 32-64-128, batch 128": (lambda: cnn.build(cnn.Settings(name="cnn", channels=[32, 64, 128], pools=3), SHAPE, 10), 128),
}


def take_turn(contender: str, case: str) -> None:
    """Run one contender for one epoch and print its seconds; this process starts the two processes."""
    count, threads = CONTENDERS[contender]
    if count > 1 and not is_launched():
        launch(count)
        return
    build, batch = CASES[case]
    with join_processes() as processes:
        configure("cpu", threads, 0)
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (SAMPLES, *SHAPE), dtype=np.uint8)
        split = Split(images, generator.integers(0, 10, SAMPLES))
        train = to_device(split, Preprocessing(Preprocess()), torch.device("cpu"))
        engine_epoch(build(), batch, train, processes=processes)  # warm-up
        began = time.perf_counter()
        engine_epoch(build(), batch, train, processes=processes)
        if processes.rank == 0:
            print(time.perf_counter() - began, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        take_turn(arguments.contender, arguments.case)
        return
    rows = []
    for case in CASES:
        turns = take_turns(__file__, list(CONTENDERS), arguments.rounds, "--case", case)
        seconds = {f"{contender}, s": f"{median(turns, contender):.2f}" for contender in CONTENDERS}
        faster = {f"one over {other}": f"{ratio(turns, 'one', other):.2f}×" for other in ("processes", "threads")}
        rows.append({"case": case} | seconds | faster)
        print(rows[-1], flush=True)
    note = f"an epoch of {SAMPLES:,} images, medians of {arguments.rounds} rounds; ratios are medians over rounds."
    title = "One process, two processes, two threads"
    write_page(Path(__file__).with_suffix(".md"), title, "python benchmarks/distributed.py", note, rows)


if __name__ == "__main__":
    main()
