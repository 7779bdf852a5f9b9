"""Check DVC's configuration: verification and encryption of remotes, secrets in tracked files, access to a shared cache."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dvc.repo import Repo

from labbook.doctor.finding import Finding
from labbook.errors import LabbookError
from labbook.team.store import Store, open_remote

__all__ = ["check_cache", "check_remotes", "connect"]

SECRETS = ("password", "passphrase", "access_key_id", "secret_access_key", "session_token", "token", "connection_string")


def check_remotes(repo: Repo) -> Iterator[Finding]:
    """Check remotes for settings that skip verification, and for secrets in tracked files."""
    tracked = repo.config.read("repo").get("remote", {})
    for name, settings in repo.config["remote"].items():
        if not settings.get("verify"):
            yield Finding(
                f"remote {name}: downloads are not hashed, so a damaged object would be used",
                f"Run `dvc remote modify {name} verify true`.",
            )
        if settings.get("ssl_verify") is False or settings.get("use_ssl") is False:
            yield Finding(
                f"remote {name}: the server's certificate is not verified",
                f"Run `dvc remote modify {name} --unset ssl_verify`, and the same for use_ssl. "
                "For a private CA, set ssl_verify to its file.",
            )
        secrets = [key for key in SECRETS if key in tracked.get(name, {})]
        if secrets or urlsplit(settings["url"]).password:
            yield Finding(
                f"remote {name}: {', '.join(secrets) or 'a password'} is in .dvc/config, which git tracks",
                f"Git's history contains it: replace it, and set the new one with `dvc remote modify --local {name} ...`.",
            )


def check_cache(repo: Repo) -> Iterator[Finding]:
    """Check whether the group can write to a shared cache, and whether links in the workspace could modify it."""
    settings = repo.config["cache"]
    folder = Path(repo.cache.local.path)
    if not os.access(folder if folder.exists() else Path(repo.root_dir), os.W_OK | os.X_OK):
        yield Finding(f"{folder}: no write permission", "Ask its owner to add you to its group.")
    if settings.get("shared") == "group":
        unshared = [path for path in (folder, *folder.glob("??")) if not _is_shared(path)]
        if unshared:
            yield Finding(
                f"{len(unshared)} folders of the shared cache are not writable by the group, such as {unshared[0]}",
                f"Ask their owner to run `chmod g+rwxs {folder} {folder}/??`.",
            )
        links = {"hardlink", "symlink"} & set(settings.get("type", ()))
        if links:
            yield Finding(
                f"cache.type: {', '.join(sorted(links))} with a shared cache: writing to an output changes the cache",
                "Run `dvc config --local cache.type reflink,copy`.",
            )
    elif "dir" in settings and folder.exists() and folder.stat().st_uid != os.geteuid():
        yield Finding(
            f"{folder} belongs to another user, and cache.shared is not set",
            "Run `labbook team cache <folder>`, so that both users can write to it.",
        )


def connect(repo: Repo, name: str | None) -> tuple[Store | None, list[Finding]]:
    """Open a remote, by default the default remote; a repository without one gets a note."""
    if name is None and not repo.config["core"].get("remote"):
        return None, [
            Finding("no remote", "See docs/teams.md to set one up, for sharing and as a second copy.", is_problem=False)
        ]
    try:
        return open_remote(repo, name), []
    except LabbookError as error:
        return None, [Finding(str(error).rstrip("."))]


def _is_shared(folder: Path) -> bool:
    mode = folder.stat().st_mode if folder.exists() else stat.S_ISGID | stat.S_IRWXG
    return bool(mode & stat.S_ISGID) and mode & stat.S_IRWXG == stat.S_IRWXG
