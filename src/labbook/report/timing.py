"""Write training times, dates and machines, which differ between runs, to files that are not outputs of a stage."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from labbook.config.project import Project
from labbook.io import write_text

__all__ = ["timing_csv", "timing_table", "write_timing"]

COLUMNS = (
    "experiment", "trainings", "seconds", "seconds_per_training", "seconds_per_epoch", "reported_seconds_cpu",
    "reported_seconds_gpu", "finished", "processor", "cores", "python",
)  # fmt: skip


def timing_table(project: Project, timing: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per experiment or sweep; reported seconds, of one training, are included on official data only."""
    rows = []
    for name, entry in timing.items():
        experiment = project.experiments.get(name)
        reported = experiment.reported if experiment and project.source == "official" else None
        rows.append(
            {
                **entry,
                "experiment": name,
                "trainings": len(entry["seconds_per_training"]),
                "seconds_per_training": _per_training(entry),
                "reported_seconds_cpu": reported.seconds_cpu if reported else None,
                "reported_seconds_gpu": reported.seconds_gpu if reported else None,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def timing_csv(project: Project, timing: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of training times as CSV."""
    return str(timing_table(project, timing).to_csv(index=False, lineterminator="\n"))


def write_timing(
    project: Project,
    timing: Mapping[str, Mapping[str, Any]],
    script: Path = Path("reports/timing.js"),
    folder: Path = Path("timing"),
) -> None:
    """Write `<source>.csv`, and the script with the training times that the pages of the site show.

    Args:
        project: the project, with the reported seconds.
        timing: training times of each experiment and sweep.
        script: path of the script, in the folder of the site.
        folder: folder of the table.
    """
    write_text(folder / f"{project.source}.csv", timing_csv(project, timing))
    values = {
        "finished": max((entry["finished"] for entry in timing.values()), default="–"),
        "processor": ", ".join(sorted({entry["processor"] for entry in timing.values()})) or "–",
        "runs": {name: {"seconds": _per_training(entry), "total": entry["seconds"]} for name, entry in timing.items()},
    }
    write_text(script, f"window.labbookTiming = {json.dumps(values, indent=2)};\n")


def _per_training(entry: Mapping[str, Any]) -> float:
    return round(fmean(entry["seconds_per_training"]), 3)
