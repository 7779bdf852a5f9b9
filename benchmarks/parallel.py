"""Measure the speed-up of the pipeline by two parallel stages.

    python benchmarks/parallel.py [--rounds 3] [--dvc] [--targets evaluate@mnist_cnn ...]   # writes benchmarks/parallel.md

The contenders take turns, each in a new clone of HEAD without dvc.lock, cache or outputs: `labbook repro -j 1`,
`labbook repro -j 2` and, with --dvc, `dvc repro`, which writes all of dvc.lock after each stage. Nothing else should run
meanwhile. All of them use the threads of params.yaml, so they write the same bytes: their dvc.lock files are compared.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dvc
import yaml
from turns import median, ratio, take_turns, write_page

ROOT = Path(__file__).parents[1]
CONTENDERS = {
    "dvc repro": ("-m", "dvc", "repro"),
    "labbook -j 1": ("-m", "labbook", "repro", "-j", "1"),
    "labbook -j 2": ("-m", "labbook", "repro", "-j", "2"),
}


def take_turn(contender: str, targets: list[str], locks: Path) -> float:
    """Run the pipeline in a new clone, copy its dvc.lock to `locks`, and return the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        lock = Path(folder) / "dvc.lock"
        lock.unlink()
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        environment = os.environ | {"PATH": path, "PYTHONPATH": f"{folder}/src", "DVC_NO_ANALYTICS": "1"}
        environment["PYTHONHASHSEED"] = "0"  # DVC's order of several targets depends on it
        started = time.perf_counter()
        line = [sys.executable, *CONTENDERS[contender], *targets]
        ended = subprocess.run(line, cwd=folder, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        seconds = time.perf_counter() - started
        if ended.returncode:
            sys.exit(ended.stdout.decode(errors="replace"))
        shutil.copy(lock, locks / f"{time.time_ns()}.lock")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dvc", action="store_true", help="also run `dvc repro`")
    parser.add_argument("--targets", nargs="+", default=[], help="stages to run, with their dependencies; default: all")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--locks", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(take_turn(arguments.contender, arguments.targets, arguments.locks))
        return
    contenders = [name for name in CONTENDERS if arguments.dvc or not name.startswith("dvc")]
    chosen = ("--targets", *arguments.targets) if arguments.targets else ()
    with tempfile.TemporaryDirectory() as folder:
        turns = take_turns(__file__, contenders, arguments.rounds, "--locks", folder, *chosen)
        found = {lock.read_bytes() for lock in Path(folder).iterdir()}
    if len(found) > 1:
        sys.exit("error: the runs wrote different outputs; their dvc.lock files differ")
    row = {"stages": str(len(yaml.safe_load(found.pop())["stages"]))} | {
        f"{contender}, s": f"{median(turns, contender):.1f}" for contender in contenders
    }
    row |= {f"{one} over -j 2": f"{ratio(turns, one, 'labbook -j 2'):.2f}×" for one in contenders[:-1]}
    row |= {"dvc.lock": "identical"}
    print(*row.values())
    write_page(
        Path("benchmarks/parallel.md"),
        "The embedded pipeline with one and two stages at a time",
        " ".join(("python benchmarks/parallel.py --rounds", str(arguments.rounds), *["--dvc"] * arguments.dvc, *chosen)),
        f"medians of {arguments.rounds} rounds; contenders take turns, and ratios are medians over rounds. "
        f"{len(os.sched_getaffinity(0))} cores, DVC {dvc.__version__}.",
        [row],
    )


if __name__ == "__main__":
    main()
