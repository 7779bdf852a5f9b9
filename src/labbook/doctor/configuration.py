"""What DVC is told: remotes that are hashed, hosts that are checked, caches that a group can share, secrets that stay here."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dvc.repo import Repo

from labbook.doctor.finding import Finding
from labbook.errors import LabbookError
from labbook.team.store import Store, remote_of

__all__ = ["find_cache", "find_remotes", "reach"]

SECRETS = ("password", "passphrase", "access_key_id", "secret_access_key", "session_token", "token", "connection_string")


def find_remotes(repo: Repo) -> Iterator[Finding]:
    """Tell what is unsafe in the settings of remotes."""
    tracked = repo.config.read("repo").get("remote", {})
    for name, settings in repo.config["remote"].items():
        if not settings.get("verify"):
            yield Finding(
                f"remote {name}: what comes from it is not hashed, a damaged object would be used",
                f"`dvc remote modify {name} verify true`.",
            )
        if settings.get("ssl_verify") is False or settings.get("use_ssl") is False:
            yield Finding(
                f"remote {name}: its server's certificate is not checked",
                f"`dvc remote modify {name} --unset ssl_verify`, and use_ssl; a CA of your own is `ssl_verify <file>`.",
            )
        told = [key for key in SECRETS if key in tracked.get(name, {})]
        if told or urlsplit(settings["url"]).password:
            yield Finding(
                f"remote {name}: {', '.join(told) or 'a password'} stands in .dvc/config, which git tracks",
                f"Change it, as it is in the history; then `dvc remote modify --local {name} ...`, or the environment.",
            )


def find_cache(repo: Repo) -> Iterator[Finding]:
    """Tell whether others can add to a cache that a group shares, and whether they could damage it."""
    settings = repo.config["cache"]
    folder = Path(repo.cache.local.path)
    if not os.access(folder if folder.exists() else Path(repo.root_dir), os.W_OK | os.X_OK):
        yield Finding(f"{folder}: may not be written", "Ask its owner to add you to its group.")
    if settings.get("shared") == "group":
        shut = [path for path in (folder, *folder.glob("??")) if not _is_shared(path)]
        if shut:
            yield Finding(
                f"{len(shut)} folders of the shared cache are closed to the group, such as {shut[0]}",
                f"Their owner does: chmod g+rwxs {folder} {folder}/??",
            )
        links = {"hardlink", "symlink"} & set(settings.get("type", ()))
        if links:
            yield Finding(
                f"cache.type: {', '.join(sorted(links))} with a shared cache: who writes into an output writes into it",
                "`dvc config --local cache.type reflink,copy`.",
            )
    elif "dir" in settings and folder.exists() and folder.stat().st_uid != os.geteuid():
        yield Finding(
            f"{folder} belongs to another user, and cache.shared is not set",
            "`python -m labbook.team cache <folder>` sets it, so that both can add to it.",
        )


def reach(repo: Repo, name: str | None) -> tuple[Store | None, list[Finding]]:
    """Open a remote, the default one for `None`; no remote at all is nothing wrong."""
    if name is None and not repo.config["core"].get("remote"):
        return None, [
            Finding("no remote", "docs/teams.md: one line shares what you train, and keeps a second copy.", wrong=False)
        ]
    try:
        return remote_of(repo, name), []
    except LabbookError as error:
        return None, [Finding(str(error).rstrip("."))]


def _is_shared(folder: Path) -> bool:
    mode = folder.stat().st_mode if folder.exists() else stat.S_ISGID | stat.S_IRWXG
    return bool(mode & stat.S_ISGID) and mode & stat.S_IRWXG == stat.S_IRWXG
