"""Open the DVC repository of the current folder, with SSH host keys checked."""

from typing import Any

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.fs import known_implementations
from dvc.repo import Repo

from labbook.errors import LabbookError

__all__ = ["check_host_keys", "open_repository"]


def check_host_keys() -> None:
    """Patch DVC in this process to refuse SSH servers that are not in the user's known_hosts."""
    known_implementations["ssh"]["class"] = "labbook.team.ssh.CheckedSSHFileSystem"


def open_repository(configuration: dict[str, Any] | None = None) -> Repo:
    """Open the repository.

    Args:
        configuration: overrides settings in DVC's configuration files.

    Raises:
        LabbookError: the current folder has no repository, or its configuration cannot be read.
    """
    check_host_keys()
    try:
        return Repo(".", config=configuration)
    except NotDvcRepoError as error:
        raise LabbookError(f"{error}. Run from the root of the repository.") from error
    except (DvcException, OSError) as error:
        raise LabbookError(f"{str(error).rstrip('.')}. Check .dvc/config and .dvc/config.local.") from error
