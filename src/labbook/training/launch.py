"""Start the processes of a training on this machine, and report why they failed."""

import logging
import signal
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from labbook.errors import TrainingError
from labbook.training.distributed import NO_RESPONSE, RESUME_HINT

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

__all__ = ["launch"]


def launch(count: int) -> None:
    """Run this script in `count` processes on this machine, as `torchrun --standalone` does, and wait for them.

    Raises:
        TrainingError: a process failed or was killed; the others are stopped.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable()  # torchrun's own messages about a failure, which is reported below
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder),
        )
        try:
            elastic_launch(config, sys.executable)(*sys.argv)
        except ChildFailedError as error:
            raise TrainingError(_describe_cause(error.failures, count)) from error
        except SignalException as error:
            sys.exit(128 + error.sigval)


def _describe_cause(failures: "dict[int, ProcessFailure]", count: int) -> str:
    """Describe why the training failed, given torchrun's record of each process that failed.

    When one process ends, others fail because they cannot reach it, and torchrun ends the rest by SIGTERM, or by SIGKILL
    if they hang: neither is the cause.
    """

    def priority(rank: int) -> int:
        failure = failures[rank]
        if failure.message.startswith(NO_RESPONSE):
            return 0
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            return 1
        return 2 if _has_reported(failure) and not failure.message.startswith("Traceback") else 3

    rank = min(failures, key=priority)
    failure = failures[rank]
    if priority(rank) in (0, 2):
        return failure.message
    if _has_reported(failure):
        return f"process {rank} of {count} failed, and the others were stopped.\n{failure.message}"
    exit_status = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    return f"process {rank} of {count} ended by {exit_status}, and the others were stopped. {RESUME_HINT}"


def _has_reported(failure: "ProcessFailure") -> bool:
    return Path(failure.error_file).is_file()
