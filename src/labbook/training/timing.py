"""Seconds, dates and machines of trainings: side files, which are no output of any stage, as no two runs have the same."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labbook.io import write_json

__all__ = ["TIMING", "write_timing"]

TIMING = Path("timing")  # git and DVC ignore it


def write_timing(name: str, source: str, timings: Sequence[Mapping[str, Any]]) -> None:
    """Write the timing of an experiment or sweep.

    Args:
        name: of the experiment or sweep.
        source: of the data.
        timings: of each training, with `seconds` and `seconds_per_epoch`; the machine of the last one is that of all.
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
