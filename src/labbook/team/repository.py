"""The DVC repository of the current folder, opened so that servers are who they say."""

from dvc.exceptions import DvcException
from dvc.fs import known_implementations
from dvc.repo import Repo

from labbook.core.errors import LabbookError

__all__ = ["check_host_keys", "open_repository"]


def check_host_keys() -> None:
    """Let DVC in this process refuse SSH servers that are not in the user's known_hosts."""
    known_implementations["ssh"]["class"] = "labbook.team.ssh.CheckedSSHFileSystem"


def open_repository() -> Repo:
    """Open the repository.

    Raises:
        LabbookError: there is none here, or its configuration cannot be read.
    """
    check_host_keys()
    try:
        return Repo(".")
    except DvcException as error:
        raise LabbookError(f"{error} Run from the root of the repository.") from error
