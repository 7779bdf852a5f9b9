"""Compare sequential with parallel trainings of one stage; each training is a separate process with one thread.

    python benchmarks/at_once.py [--rounds 5]      # writes benchmarks/at_once.md; after `make repro`, whose data it reads

Two contenders take turns; each runs a stage as DVC does, including the start of Python and torch:
one    LABBOOK_AT_ONCE=1
two    LABBOOK_AT_ONCE=2, as `labbook repro` sets on two cores if no other stage waits
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from turns import median, ratio, take_turns, write_page

STAGES = {
    "sweep: 10 × CNN 16-32-64": ("stages/sweep.py", "mnist_cnn_dropout", "mnist_cnn"),
    "train: 5 × MLP 784-400-300-300-10": ("stages/train.py", "mnist_mlp_1000"),
    "train: 5 × MLP 784-100-10": ("stages/train.py", "mnist_mlp_100"),
}
CONTENDERS = {"one": "1", "two": "2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        started = time.perf_counter()
        environment = os.environ | {"LABBOOK_AT_ONCE": CONTENDERS[arguments.contender]}
        subprocess.run([sys.executable, *STAGES[arguments.stage]], env=environment, check=True, stdout=subprocess.DEVNULL)
        print(time.perf_counter() - started)
        return
    rows = []
    for stage in STAGES:
        turns = take_turns(__file__, list(CONTENDERS), arguments.rounds, "--stage", stage)
        row = {"stage": stage} | {f"{contender}, s": f"{median(turns, contender):.2f}" for contender in CONTENDERS}
        rows.append(row | {"one over two": f"{ratio(turns, 'one', 'two'):.2f}×"})
        print(*rows[-1].values(), flush=True)
    write_page(
        Path("benchmarks/at_once.md"),
        "Trainings of one stage, one or two at a time",
        f"python benchmarks/at_once.py --rounds {arguments.rounds}",
        f"medians of {arguments.rounds} rounds on embedded data; contenders take turns, and ratios are medians "
        f"over rounds. {len(os.sched_getaffinity(0))} cores; each training has one thread.",
        rows,
    )


if __name__ == "__main__":
    main()
