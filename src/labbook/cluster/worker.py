"""Run one stage in the clone of a worker: python -m labbook.cluster.worker, with a request on standard input; see `Task`."""

import json
import logging
import os
import sys
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.logger import set_loggers_level
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.cache import _get_stage_hash
from dvc.stage.exceptions import StageCmdFailedError

from labbook.cluster.exchange import Exchange
from labbook.repro.__main__ import install
from labbook.stage import run
from labbook.team.repository import open_repository


def reproduce(repo: Repo, name: str, cores: int) -> list[Stage]:
    """Run one stage, whatever lies here from before; end with what is wrong, unless its command has said so."""
    install(int(os.environ.get("SLURM_CPUS_PER_TASK", cores)), ())
    try:
        with set_loggers_level(logging.WARNING):
            return list(repo.reproduce(name, single_item=True, force=True))
    except DvcException as error:
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
        sys.exit(1 if isinstance(cause, StageCmdFailedError) else f"error: {name}: {cause}")


def main() -> None:
    """Fetch what the stage reads, run it, send what it made, and write down the name of its entry in the run-cache."""
    request = json.load(sys.stdin)
    # A cache of this machine, and the remote as it is known where the run was started; its secrets are written nowhere.
    repo = open_repository({"cache": {"dir": request["cache"]}, "remote": {request["remote"]: request["configuration"]}})
    exchange = Exchange(repo, request["remote"])
    exchange.lay_out(request["inputs"])
    (stage,) = reproduce(repo, request["stage"], request["cores"])
    Path(request["answer"]).write_text(exchange.give(_get_stage_hash(stage)), encoding="utf-8")


if __name__ == "__main__":
    run(main)
