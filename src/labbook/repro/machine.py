"""Resources of this machine for parallel stages: cores, memory and GPUs, within the limits of containers.

Control groups: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max, memory.max); for version 1,
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html and https://docs.kernel.org/scheduler/sched-bwc.html.
"""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from labbook.config.reading import look_up, read
from labbook.config.train import read_runtime

__all__ = ["capacity", "cores", "gpus", "memory"]

# Bytes. Of five large trainings on embedded data none took more than 1.3 GB; tiny_wide took 3.4 GB on a tenth of Tiny ImageNet.
MEMORY_OF_A_JOB = {"embedded": 2 << 30, "official": 8 << 30}


def capacity() -> tuple[int, list[str]]:
    """Return how many jobs this machine can run in parallel, and the GPUs that they share.

    Every job needs a core and memory; an accelerator runs one job at a time.

    Raises:
        ParamsError: `device` or `data.source` in params.yaml is missing or invalid.
    """
    values = read()
    runtime, source = read_runtime(values), look_up(values, "data.source")
    shared = gpus() if runtime.device in {"auto", "cuda"} else []
    if shared:
        accelerated: float = len(shared)
    else:
        accelerated = math.inf if runtime.device == "cpu" or (runtime.device == "auto" and sys.platform != "darwin") else 1
    memory_of_a_job = MEMORY_OF_A_JOB["embedded" if source == "embedded" else "official"]
    return max(1, int(min(cores(), memory() // memory_of_a_job, accelerated))), shared


def cores(root: Path = Path("/")) -> float:
    """Return the number of cores that this process may use; fractional if a control group sets a quota."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_share(*line.split()) for line in _read(root, "cpu", "cpu.max")]
    periods = _read(root, "cpu", "cpu.cfs_period_us")
    quotas += [_share(quota, period) for quota, period in zip(_read(root, "cpu", "cpu.cfs_quota_us"), periods, strict=True)]
    return min([there, *quotas])


def memory(root: Path = Path("/")) -> float:
    """Return the bytes of memory that this process and its children may use."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [*_read(root, "memory", "memory.max"), *_read(root, "memory", "memory.limit_in_bytes")]
    return min([there, *(_number(limit) for limit in limits)])


def gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as in CUDA_VISIBLE_DEVICES; only the first if models differ.

    Results of another model may differ in the last digits, and a sequential run uses only the first GPU.
    """
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line for line in listed.splitlines() if line.startswith("GPU ")]  # GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c1…)
    there = [line.rsplit("UUID: ", 1)[-1].rstrip(")") for line in lines]
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        named = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        there = list(takewhile(lambda name: name.strip() not in {"", "-1"}, named)) if there else []
    models = {line.partition(": ")[2].partition(" (UUID")[0] for line in lines}
    return there if len(models) == 1 else there[:1]


def _read(root: Path, controller: str, name: str) -> list[str]:
    """Read a file of this process's control group and of all its visible ancestors."""
    return [path.read_text().strip() for folder in _groups(root, controller) if (path := folder / name).is_file()]


def _groups(root: Path, controller: str) -> Iterator[Path]:
    listing = root / "proc/self/cgroup"
    for line in listing.read_text().splitlines() if listing.is_file() else []:
        _, controllers, group = line.split(":", 2)  # 4:memory:/some/group, or 0::/some/group in version 2
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        own = top / group.strip("/")
        yield from (own, *(folder for folder in own.parents if folder.is_relative_to(top)))


def _share(quota: str, period: str) -> float:
    return _number(quota) / float(period)


def _number(limit: str) -> float:
    return math.inf if limit in {"max", "-1"} else float(limit)
