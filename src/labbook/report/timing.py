"""Seconds, dates and machines: the only figures that differ between two runs, and so in files of their own."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from labbook.core.files import write_text
from labbook.params.project import Project

__all__ = ["timing_table", "write_timing"]


def timing_table(project: Project, timing: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Put one row an experiment, sweep or run of several seeds; reported seconds stand beside ours on official data alone."""
    rows = []
    for name, entry in timing.items():
        experiment = project.experiments.get(name)
        reported = experiment.reported if experiment and project.data.source == "official" else None
        rows.append(
            {
                "experiment": name,
                "seconds": entry["seconds"],
                "seconds_per_epoch": entry["seconds_per_epoch"],
                "reported_seconds": reported.seconds if reported else None,
                "reported_on": reported.seconds_on if reported else None,
                "finished": entry["finished"],
                "processor": entry["processor"],
                "cores": entry["cores"],
                "python": entry["python"],
            }
        )
    return pd.DataFrame(rows)


def write_timing(project: Project, timing: dict[str, dict[str, Any]], script: Path, folder: Path) -> None:
    """Write the table, and the script from which the page takes its seconds.

    Args:
        project: for what was reported.
        timing: of each experiment, sweep and run of several seeds.
        script: beside the page.
        folder: of the tables.
    """
    table = timing_table(project, timing)
    write_text(folder / f"{project.data.source}-timing.csv", table.to_csv(index=False, lineterminator="\n"))
    values = {
        "finished": max((entry["finished"] for entry in timing.values()), default=""),
        "processor": ", ".join(sorted({entry["processor"] for entry in timing.values()})),
        "runs": {name: {"seconds": entry["seconds"]} for name, entry in timing.items()},
    }
    write_text(script, f"window.labbookTiming = {json.dumps(values, indent=2)};\n")
