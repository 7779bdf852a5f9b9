"""Settings of a cluster: which stages run as jobs, and the resources of each job."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from labbook.config.components import Strict
from labbook.config.reading import read, validate
from labbook.errors import ParamsError

__all__ = ["KINDS", "Cluster", "read_cluster"]

KINDS = ("pretrain", "train", "sweep", "evaluate", "explain")  # of stages that run as jobs by default


class Cluster(Strict):
    """How workers are started and which stages they run; other stages run on the machine that starts the run."""

    executor: Literal["slurm", "local"] = Field("slurm", description="local: worker processes on this machine")
    remote: str | None = Field(None, description="DVC remote that exchanges inputs and results; default: the default remote")
    repository: str | None = Field(
        None, description="git URL from which workers fetch the code; default: this clone, on a shared disk"
    )
    folder: str = Field("~/.cache/labbook/workers", description="on each worker's machine, for clones, cache and checkpoints")
    logs: Path = Field(Path(".dvc/tmp/cluster"), strict=False, description="folder of the job logs, on a shared disk")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="parameters of submitit's executor, such as slurm_partition"
    )
    stages: dict[str, dict[str, Any]] = Field(
        {kind: {} for kind in KINDS},
        description="stages to run as jobs (the name before @), each with additional `parameters`",
    )


def read_cluster(path: Path) -> Cluster:
    """Read the settings of a cluster.

    Raises:
        ParamsError: the file is missing or has an invalid key.
    """
    if not path.is_file():
        raise ParamsError(f"{path}: not found. docs/cluster.md lists its keys.")
    return validate(read(path), Cluster, str(path))
