"""Measure the overhead of DVC per stage, and how it grows with the number of stages.

    python benchmarks/stages.py [--stages 100 300 1000]      # writes benchmarks/stages.md

Each project has one dvc.yaml. Its stages depend on fifteen code files, data and keys of params.yaml, and write one cached and
one uncached output; their commands only write two lines. CPU seconds, which other work on the machine affects less than
wall-clock seconds, include child processes; both are recorded.

first     everything runs, in an empty repository; plain DVC only with a hundred stages
nothing   nothing has changed
changed   one key of five stages has changed: these run, the others are checked
status    `dvc status`
params.yaml and dvc.lock: time to read each of them, and to read, change and write dvc.lock
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import dvc
import yaml
from dvc.utils.serialize import load_yaml, modify_yaml
from turns import write_page

CHANGED = 5
CODE = 15  # files that a stage depends on
PLAIN_AT_MOST = 100  # maximum number of stages for a first run with plain DVC: 1,000 would take more than an hour
RUNNERS = {
    "dvc": ("-m", "dvc", "repro", "--quiet"),
    "labbook -j 1": ("-m", "labbook", "repro", "-j", "1", "--quiet"),
    "labbook -j 2": ("-m", "labbook", "repro", "-j", "2", "--quiet"),
}


@dataclass
class Seconds:
    """Wall-clock and CPU seconds of a command."""

    clock: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.cpu:.1f} ({self.clock:.1f})"

    def each(self, others: "Seconds", count: int) -> str:
        """Format the additional seconds per stage, compared with `others`."""
        return f"{(self.cpu - others.cpu) / count:.2f} ({(self.clock - others.clock) / count:.2f})"


class Project:
    """A DVC repository with `count` stages."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.values = {f"e{number}": {"train": {"lr": 0.1, "epochs": 10}} for number in range(count)}
        stage = {
            "cmd": "echo ${key} > out/${key} && echo ${key} > metric/${key}.json",
            "params": ["seed", "experiments.${key}.train"],
            "deps": ["data", *(f"code/{number}.py" for number in range(CODE))],
            "outs": ["out/${key}"],
            "metrics": [{"metric/${key}.json": {"cache": False}}],
        }
        for name in (".dvc", "code", "out", "metric"):
            (folder / name).mkdir()
        (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        for name in ("data", *(f"code/{number}.py" for number in range(CODE))):
            (folder / name).write_text(name)
        blocks = {"train": {"foreach": "${experiments}", "do": stage}}
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))
        self.write()

    def write(self) -> None:
        """Write params.yaml."""
        (self.folder / "params.yaml").write_text(yaml.safe_dump({"seed": 0, "experiments": self.values}, sort_keys=False))

    def change(self) -> None:
        """Change one key of a few stages, spread over all of them, to a new value."""
        for name in list(self.values)[:: len(self.values) // CHANGED][:CHANGED]:
            self.values[name]["train"]["epochs"] += 1
        self.write()

    def run(self, *arguments: str) -> Seconds:
        """Run Python with these arguments in the project."""
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        source = str(Path(__file__).parents[1] / "src")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((source, os.environ.get("PYTHONPATH", "")))}
        subprocess.run([sys.executable, *arguments], cwd=self.folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        return Seconds(clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure(count: int) -> list[dict[str, str]]:
    """Measure a project with `count` stages; return one row per runner."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as another:
        project = Project(Path(folder), count)
        first = {"labbook -j 2": project.run(*RUNNERS["labbook -j 2"])}
        if count <= PLAIN_AT_MOST:
            first["dvc"] = Project(Path(another), count).run(*RUNNERS["dvc"])
        files = read_and_write(Path(folder))
        for name, line in RUNNERS.items():
            nothing = project.run(*line)
            project.change()
            changed = project.run(*line)
            rows.append({
                "stages": str(count),
                "lines of dvc.lock": f"{len((Path(folder) / 'dvc.lock').read_text().splitlines()):,}",
                "command": name,
                "first": str(first.get(name, "")),
                "nothing": str(nothing),
                "changed, each": changed.each(nothing, CHANGED),
                "status": str(project.run("-m", "dvc", "status")) if name == "dvc" else "",
                **(files if name == "dvc" else dict.fromkeys(files, "")),
            })  # fmt: skip
            print(*rows[-1].values(), sep="  ", flush=True)
    return rows


def read_and_write(folder: Path) -> dict[str, str]:
    """Return the CPU seconds that DVC takes to read and write the two files that all stages share."""
    taken = [time.process_time()]
    load_yaml(str(folder / "params.yaml"))
    taken.append(time.process_time())
    load_yaml(str(folder / "dvc.lock"))
    taken.append(time.process_time())
    with modify_yaml(str(folder / "dvc.lock")):
        pass
    taken.append(time.process_time())
    names = ("params.yaml read", "dvc.lock read", "dvc.lock rewritten")
    return {name: f"{after - before:.2f}" for name, before, after in zip(names, taken, taken[1:], strict=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="+", default=[100, 300, 1000])
    counts = parser.parse_args().stages
    write_page(
        Path("benchmarks/stages.md"),
        "The cost of DVC per stage",
        f"python benchmarks/stages.py --stages {' '.join(map(str, counts))}",
        f"DVC {dvc.__version__}. CPU seconds, with wall-clock seconds in parentheses; *each*: the cost of one stage "
        "that runs, in addition to a run in which nothing has changed.",
        [row for count in counts for row in measure(count)],
    )


if __name__ == "__main__":
    main()
