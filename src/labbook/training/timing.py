"""Seconds, date and machine of trainings, in side files: they differ from run to run, so no stage declares them as outputs."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labbook.io import write_json

__all__ = ["TIMING", "make_timing", "write_timing"]

TIMING = Path("timing")  # git and DVC ignore it


def make_timing(seconds: float, epochs: float, gpu: str | None) -> dict[str, Any]:
    """Return the timing of a training that has just ended.

    Args:
        seconds: duration of the training.
        epochs: number of epochs trained; a fraction if the training stopped within an epoch.
        gpu: name of the GPU; `None` on the CPU.
    """
    return {
        "seconds": round(seconds, 3),
        "seconds_per_epoch": round(seconds / epochs, 4),
        "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "processor": gpu or _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def write_timing(name: str, source: str, timings: Sequence[Mapping[str, Any]]) -> None:
    """Write the timing of an experiment or sweep.

    Args:
        name: name of the experiment or sweep.
        source: data source, `official` or `embedded`.
        timings: results of `make_timing`, one per training; the machine and date are those of the last one.
    """
    seconds = [timing["seconds"] for timing in timings]
    last = timings[-1]
    write_json(
        TIMING / f"{name}.json",
        {
            "source": source,
            "seconds": round(sum(seconds), 3),
            "seconds_per_training": seconds,
            **{key: last[key] for key in ("seconds_per_epoch", "finished", "processor", "cores", "python")},
        },
    )


def _processor() -> str:
    """Return the name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
