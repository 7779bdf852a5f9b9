"""SSH remotes whose host keys are checked.

DVC's own SSH remotes (dvc-ssh 4.3 on sshfs) accept any host key and forward the user's agent.
"""

from typing import Any

from dvc_ssh import SSHFileSystem

__all__ = ["CheckedSSHFileSystem"]


class CheckedSSHFileSystem(SSHFileSystem):  # type: ignore[misc]  # DVC has no types
    """DVC's file system, restricted to servers in the user's known_hosts."""

    def _prepare_credentials(self, **config: Any) -> dict[str, Any]:
        login: dict[str, Any] = super()._prepare_credentials(**config)
        return login | {"known_hosts": (), "agent_forwarding": False}  # (): use the user's SSH configuration
