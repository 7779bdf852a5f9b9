"""The DVC repository of the current folder, opened so that servers are who they say."""

from typing import Any

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.fs import known_implementations
from dvc.repo import Repo

from labbook.errors import LabbookError

__all__ = ["check_host_keys", "open_repository"]


def check_host_keys() -> None:
    """Let DVC in this process refuse SSH servers that are not in the user's known_hosts."""
    known_implementations["ssh"]["class"] = "labbook.team.ssh.CheckedSSHFileSystem"


def open_repository(configuration: dict[str, Any] | None = None) -> Repo:
    """Open the repository.

    Args:
        configuration: what counts instead of the same settings in the files of DVC.

    Raises:
        LabbookError: there is none here, or its configuration cannot be read.
    """
    check_host_keys()
    try:
        return Repo(".", config=configuration)
    except NotDvcRepoError as error:
        raise LabbookError(f"{error}. Run from the root of the repository.") from error
    except (DvcException, OSError) as error:
        raise LabbookError(f"{str(error).rstrip('.')}. Look into .dvc/config and .dvc/config.local.") from error
