"""Check the environment: git, packages, params.yaml, device, threads, data root and disk space."""

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
from labbook.data.download import DATA_ROOT, find_in_data_root
from labbook.doctor.finding import Finding
from labbook.errors import LabbookError
from labbook.training.runtime import choose_device

__all__ = ["check_data_root", "check_disk", "check_environment", "check_params", "describe"]

LOCK = Path("requirements.lock")
MIN_FREE_SPACE = 2 << 30  # bytes; a run writes 0.2 GB on embedded data and 2 GB on official data
DATASETS = {
    "mnist": ("MNIST/raw",),
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "tiny_imagenet": ("tiny-imagenet-200", "tiny-imagenet-200.zip"),
    "resnet18": ("hub/checkpoints/resnet18-f37072fd.pth",),
}


def describe() -> str:
    """Return the platform and package versions, for bug reports."""
    python = ".".join(map(str, sys.version_info[:3]))
    return f"Python {python} on {sys.platform}, torch {version('torch')}, DVC {version('dvc')}, {_cores()} cores"


def check_environment() -> Iterator[Finding]:
    """Check git, and compare installed packages with those that produced the results."""
    if not shutil.which("git"):
        yield Finding("git: not found", "Install it; `dvc exp`, `dvc metrics diff` and commits need it.")
    if not LOCK.is_file():
        yield Finding(f"{LOCK}: not found", "Run from the root of the repository.")
        return
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    required = [
        requirement for requirement in map(Requirement, lines) if not requirement.marker or requirement.marker.evaluate()
    ]
    installed = {requirement.name: _version(requirement.name) for requirement in required}
    remedy = f"Run `python -m pip install -r {LOCK}` to install the versions that produced the results."
    missing = [name for name, version in installed.items() if version is None]
    if missing:
        yield Finding(f"not installed: {', '.join(missing)}", remedy)
    different = [
        f"{r.name} {installed[r.name]}"
        for r in required
        if installed[r.name] and not r.specifier.contains(installed[r.name] or "")
    ]
    if different:
        yield Finding(
            f"versions differ from {LOCK}: {', '.join(different)}",
            f"Results may differ in the last digits. {remedy}",
            is_problem=False,
        )


def check_params() -> Iterator[Finding]:
    """Check `params.yaml`, and whether this machine has the device and cores that it requires."""
    try:
        project = check_project()
    except LabbookError as error:
        yield Finding(str(error).rstrip("."), f"Correct {PARAMS} and run `labbook check`.")
        return
    try:
        device = choose_device(project.device)
    except LabbookError as error:
        yield Finding(str(error).rstrip("."))
    else:
        if device.type == "cpu" and shutil.which("nvidia-smi"):
            yield Finding(
                f"an NVIDIA driver is installed, but training would run on the CPU (device: {project.device})",
                "Set `device: auto`; if it is set, compare the CUDA versions of `nvidia-smi` and torch.",
                is_problem=False,
            )
    values = read()
    trainings = {name: resolve(values, f"experiments.{name}", project.source).settings for name in project.experiments}
    if oversubscribed := [name for name, settings in trainings.items() if settings.threads > _cores()]:
        threads = max(trainings[name].threads for name in oversubscribed)
        yield Finding(
            f"threads: {threads} on {_cores()} cores, in {len(oversubscribed)} experiments such as {oversubscribed[0]}",
            f"They train slowly. `threads: {_cores()}` is faster, but changes the last digits of results.",
            is_problem=False,
        )


def check_data_root() -> Iterator[Finding]:
    """Report which datasets the data root contains, if it is set."""
    if DATA_ROOT not in os.environ:
        return
    try:
        available = [name for name, paths in DATASETS.items() if any(find_in_data_root(path) for path in paths)]
    except LabbookError as error:
        yield Finding(str(error).rstrip("."))
        return
    missing = [name for name in DATASETS if name not in available]
    yield Finding(
        f"{DATA_ROOT}={os.environ[DATA_ROOT]} contains {', '.join(available) or 'none of the datasets'}",
        f"Missing, will be downloaded: {', '.join(missing)}." if missing else "",
        is_problem=False,
    )


def check_disk(folders: dict[str, Path]) -> Iterator[Finding]:
    """Check the free disk space of folders, which are given by name."""
    for name, folder in folders.items():
        free = shutil.disk_usage(folder).free if folder.exists() else MIN_FREE_SPACE
        if free < MIN_FREE_SPACE:
            yield Finding(
                f"{name}: only {free / 1e9:.1f} GB free on the disk of {folder}", "A run on official data needs 2 GB."
            )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package).split("+")[0]  # torch 2.14.1+cpu
    except PackageNotFoundError:
        return None
