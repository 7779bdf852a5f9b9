"""SSH remotes whose host keys are checked.

DVC's own (dvc-ssh 4.3 on sshfs) accept whatever key a server shows, and forward the user's agent to it.
"""

from typing import Any

from dvc_ssh import SSHFileSystem

__all__ = ["CheckedSSHFileSystem"]


class CheckedSSHFileSystem(SSHFileSystem):  # type: ignore[misc]  # DVC has no types
    """DVC's, for servers that stand in the user's known_hosts."""

    def _prepare_credentials(self, **config: Any) -> dict[str, Any]:
        login: dict[str, Any] = super()._prepare_credentials(**config)
        return login | {"known_hosts": (), "agent_forwarding": False}  # (): as the user's configuration of SSH says
