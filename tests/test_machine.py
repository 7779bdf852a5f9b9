"""What stages side by side may take of a machine: cores, memory and GPUs."""

import math
import os

import pytest
import yaml

from labbook.errors import LabbookError
from labbook.repro import machine

GIB = 1 << 30
UNLIMITED = "9223372036854771712"  # what version 1 says without a limit


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A machine with 8 cores and 64 GiB, and a function that writes files below its root."""
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 64 * GIB if name == "SC_PHYS_PAGES" else 1)

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("files", "cores", "gib"),
    [
        ({}, 8, 64),
        # Version 2: in a container the own group is the topmost; outside, groups above it count too.
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000", "sys/fs/cgroup/memory.max": 3 * GIB}, 1.5, 3),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"}, 8, 64),
        (
            {
                "proc/self/cgroup": "0::/user/job",
                "sys/fs/cgroup/user/cpu.max": "400000 100000",
                "sys/fs/cgroup/user/job/cpu.max": "max 100000",
                "sys/fs/cgroup/user/job/memory.max": 16 * GIB,
                "sys/fs/cgroup/user/memory.max": 8 * GIB,
                "sys/fs/cgroup/other/memory.max": GIB,
            },
            4,
            8,
        ),
        # Version 1: a container sees its own group at the top, and the name that the group has outside.
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n1:name=systemd:/docker/ab",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": 12 * GIB,
            },
            2,
            12,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu:/\n4:memory:/job",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": 5 * GIB,
            },
            8,
            5,
        ),
    ],
)
def test_limits_of_control_groups_are_seen(root, files, cores, gib):
    top = root(files)
    assert machine.cores(top) == cores
    assert machine.memory(top) == gib * GIB


def test_this_machine_has_a_core_and_memory():
    assert 0 < machine.cores() <= (os.cpu_count() or 1)
    assert 0 < machine.memory() < math.inf


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """Let `nvidia-smi -L` list these models."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def list_models(*models):
        lines = [f"GPU {index}: NVIDIA {model} (UUID: GPU-{index})" for index, model in enumerate(models)]
        command = tmp_path / "nvidia-smi"
        command.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        command.chmod(0o755)

    return list_models


def test_gpus_of_one_model_are_shared(nvidia, monkeypatch):
    nvidia("H200", "H200", "H200")
    assert machine.gpus() == ["GPU-0", "GPU-1", "GPU-2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert machine.gpus() == ["2", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus() == []


def test_another_model_is_left_alone(nvidia):
    nvidia("T4", "A100")  # other last digits than a sequential run's
    assert machine.gpus() == ["GPU-0"]


def test_broken_driver_is_no_gpu(nvidia, tmp_path):
    nvidia()
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 18\n")
    assert machine.gpus() == []


@pytest.mark.parametrize(
    ("cores", "gib", "gpus", "values", "jobs", "shared"),
    [
        (8, 64, 0, {}, 8, 0),
        (2, 24, 0, {}, 2, 0),
        (1, 24, 0, {}, 1, 0),
        (1.5, 24, 0, {}, 1, 0),  # a quota
        (64, 16, 0, {}, 8, 0),
        (64, 16, 0, {"data": {"source": "official"}}, 2, 0),
        (8, 1, 0, {}, 1, 0),
        (16, 128, 1, {}, 1, 1),
        (16, 128, 4, {}, 4, 4),
        (2, 128, 4, {}, 2, 4),
        (16, 128, 4, {"device": "cpu"}, 16, 0),
        (16, 128, 4, {"device": "cuda:1"}, 1, 0),
    ],
)
def test_jobs_fit_on_the_machine(workdir, edit_params, monkeypatch, cores, gib, gpus, values, jobs, shared):
    edit_params(lambda params: params.update({"device": "auto"} | values))
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "memory", lambda: gib * GIB)
    monkeypatch.setattr(machine, "gpus", lambda: [f"GPU-{index}" for index in range(gpus)])
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert machine.capacity() == (jobs, [f"GPU-{index}" for index in range(shared)])


def test_params_that_cannot_be_read_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"device": "cpu"}))
    with pytest.raises(LabbookError, match="seed"):
        machine.capacity()
