"""Run one stage in a worker's clone: python -m labbook.cluster.worker, with a request on standard input; see `Task`."""

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
    """Run one stage, even if its outputs exist; on failure exit with a message, unless the stage's command printed one."""
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
    """Fetch the inputs, run the stage, push its outputs, and write the name of its run-cache entry."""
    request = json.load(sys.stdin)
    # The cache of this machine, and the configuration of the remote as sent by the coordinator; its secrets stay in memory.
    repo = open_repository({"cache": {"dir": request["cache"]}, "remote": {request["remote"]: request["configuration"]}})
    exchange = Exchange(repo, request["remote"])
    exchange.check_out_inputs(request["inputs"])
    (stage,) = reproduce(repo, request["stage"], request["cores"])
    Path(request["answer"]).write_text(exchange.push_result(_get_stage_hash(stage)), encoding="utf-8")


if __name__ == "__main__":
    run(main)
