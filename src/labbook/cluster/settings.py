"""The file that says which stages workers run, and what the cluster gives each of them."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from labbook.config.components import Strict
from labbook.config.reading import read, validate
from labbook.errors import ParamsError

__all__ = ["KINDS", "Cluster", "read_cluster"]

KINDS = ("pretrain", "train", "sweep", "evaluate", "explain")  # of stages that compute


class Cluster(Strict):
    """How workers are started and which stages they run; all others run where the run was started."""

    executor: Literal["slurm", "local"] = Field("slurm", description="local: worker processes on this machine")
    remote: str | None = Field(None, description="of DVC, by which results come and go; default: the default remote")
    repository: str | None = Field(
        None, description="where workers fetch the code; default: this clone, on a disk that all see"
    )
    folder: str = Field("~/.cache/labbook/workers", description="on a worker's machine: clones, their cache, checkpoints")
    logs: Path = Field(Path(".dvc/tmp/cluster"), strict=False, description="of jobs; on a disk that all see")
    parameters: dict[str, Any] = Field(default_factory=dict, description="of submitit's executor, such as slurm_partition")
    stages: dict[str, dict[str, Any]] = Field(
        {kind: {} for kind in KINDS},
        description="a kind of stage, as it stands before the @, and what it takes beyond `parameters`",
    )


def read_cluster(path: Path) -> Cluster:
    """Read the settings of a cluster.

    Raises:
        ParamsError: the file is missing, or holds what is not known.
    """
    if not path.is_file():
        raise ParamsError(f"{path}: not found. docs/cluster.md shows what stands in such a file.")
    return validate(read(path), Cluster, str(path))
