"""What a run needs of its machine: Python, packages, git, threads, device, data root, disk, params.yaml."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from labbook.config.check import check_project
from labbook.config.reading import PARAMS, read
from labbook.config.train import resolve
from labbook.data.download import DATA_ROOT, in_data_root
from labbook.doctor.finding import Finding
from labbook.errors import LabbookError
from labbook.training.runtime import choose_device

__all__ = ["describe", "find_disk", "find_environment", "find_params", "find_root"]

LOCK = Path("requirements.lock")
LITTLE_SPACE = 2 << 30  # bytes; a run on embedded data leaves 0.2 GB, on official data 2 GB
DATASETS = {
    "mnist": ("MNIST/raw",),
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "tiny_imagenet": ("tiny-imagenet-200", "tiny-imagenet-200.zip"),
    "resnet18": ("hub/checkpoints/resnet18-f37072fd.pth",),
}


def describe() -> str:
    """Name what runs here, for a report of a problem."""
    python = ".".join(map(str, sys.version_info[:3]))
    return f"Python {python} on {sys.platform}, torch {version('torch')}, DVC {version('dvc')}, {_cores()} cores"


def find_environment() -> Iterator[Finding]:
    """Compare what is installed with what the results were made with."""
    if not shutil.which("git"):
        yield Finding("git is not there", "Install it: `dvc exp`, `dvc metrics diff` and commits need it.")
    if not LOCK.is_file():
        yield Finding(f"{LOCK} is not there", "Run from the root of the repository.")
        return
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    wanted = [requirement for requirement in map(Requirement, lines) if not requirement.marker or requirement.marker.evaluate()]
    found = {requirement.name: _version(requirement.name) for requirement in wanted}
    remedy = f"`python -m pip install -r {LOCK}` installs what the results were made with."
    absent = [name for name, there in found.items() if there is None]
    if absent:
        yield Finding(f"not installed: {', '.join(absent)}", remedy)
    other = [f"{r.name} {found[r.name]}" for r in wanted if found[r.name] and not r.specifier.contains(found[r.name] or "")]
    if other:
        yield Finding(
            f"other versions than in {LOCK}: {', '.join(other)}", f"The last digits may be others. {remedy}", wrong=False
        )


def find_params() -> Iterator[Finding]:
    """Check `params.yaml`, and whether this machine can do what it asks for."""
    try:
        project = check_project()
    except LabbookError as error:
        yield Finding(str(error).rstrip("."), f"Correct {PARAMS}; `labbook check` checks it alone.")
        return
    try:
        device = choose_device(project.device)
    except LabbookError as error:
        yield Finding(str(error).rstrip("."))
    else:
        if device.type == "cpu" and shutil.which("nvidia-smi"):
            yield Finding(
                f"there is an NVIDIA driver, and training would run on the CPU (device: {project.device})",
                "Set `device: auto`, and if it is, compare `nvidia-smi` with the CUDA version of torch.",
                wrong=False,
            )
    values = read()
    trainings = {name: resolve(values, f"experiments.{name}", project.source).settings for name in project.experiments}
    if crowded := [name for name, settings in trainings.items() if settings.threads > _cores()]:
        threads = max(trainings[name].threads for name in crowded)
        yield Finding(
            f"threads: {threads} on {_cores()} cores, in {len(crowded)} experiments such as {crowded[0]}",
            f"They train slowly; fewer threads change the last digits. Set `threads: {_cores()}` for runs of your own.",
            wrong=False,
        )


def find_root() -> Iterator[Finding]:
    """Look into the data root, where one is named."""
    if DATA_ROOT not in os.environ:
        return
    try:
        there = [name for name, places in DATASETS.items() if any(in_data_root(place) for place in places)]
    except LabbookError as error:
        yield Finding(str(error).rstrip("."))
        return
    absent = [name for name in DATASETS if name not in there]
    yield Finding(
        f"{DATA_ROOT}={os.environ[DATA_ROOT]} holds {', '.join(there) or 'none of our datasets'}",
        f"Would be downloaded: {', '.join(absent)}." if absent else "",
        wrong=False,
    )


def find_disk(folders: dict[str, Path]) -> Iterator[Finding]:
    """Tell where little space is left; `folders` by what they are for."""
    for name, folder in folders.items():
        free = shutil.disk_usage(folder).free if folder.exists() else LITTLE_SPACE
        if free < LITTLE_SPACE:
            yield Finding(f"{name}: {free / 1e9:.1f} GB are free on the disk of {folder}", "A run on official data needs 2 GB.")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package).split("+")[0]  # torch 2.14.1+cpu
    except PackageNotFoundError:
        return None
