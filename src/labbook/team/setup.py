"""Set up a shared remote (a folder, SSH or S3) or a shared cache for all users of a machine.

Each is tested before the configuration is written. Shared settings go into `.dvc/config`, which git tracks; user names, key
files and local paths go into `.dvc/config.local`, which git ignores. Passwords and secret keys are never stored.
"""

import ipaddress
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from configobj import ConfigObjError
from dvc.repo import Repo

from labbook.errors import LabbookError
from labbook.io import describe_os_error
from labbook.team.store import translate_errors

__all__ = ["set_cache", "set_folder", "set_s3", "set_ssh"]

SHARED_MODE = 0o3775  # group-writable; new files belong to the group (setgid), and only their owner can remove them (sticky)
PREFIXES = [f"{number:02x}" for number in range(256)]  # subfolders of objects and runs


def set_folder(repo: Repo, name: str, folder: Path, group: str | None) -> str:
    """Make a folder the default remote; with `group`, its members can write to it.

    Raises:
        LabbookError: the folder cannot be used, or is open to everybody.
    """
    shared = _prepare(repo, folder, group)
    return _use(repo, name, {"url": str(folder), "verify": True} | ({"shared": "group"} if shared else {}), {})


def set_cache(repo: Repo, folder: Path, group: str | None) -> str:
    """Store the objects of this clone in a cache shared with other clones, so that all have the results of each.

    Raises:
        LabbookError: the folder cannot be used, or is open to everybody.
    """
    shared = _prepare(repo, folder, group)
    with _edit(repo, "local") as config:
        config["cache"] |= {"dir": str(folder)} | ({"shared": "group"} if shared else {})
    return f"the cache of this clone is now {folder}; `dvc repro` and `dvc checkout` use it"


def set_ssh(repo: Repo, name: str, address: str, port: int | None, keyfile: str | None) -> str:
    """Make `user@host:/folder` the default remote.

    Raises:
        LabbookError: the address is invalid, or the server is unknown, unreachable or refuses the login.
    """
    found = re.fullmatch(r"(?:(?P<user>[^@:/]+)@)?(?P<host>[^@:/]+):(?P<folder>/.+)", address)
    if not found:
        raise LabbookError(f"{address}: expected user@host:/folder. Set the port with --port.")
    own: dict[str, Any] = {"user": found["user"], "keyfile": keyfile}
    settings = {"url": f"ssh://{found['host']}{found['folder']}", "port": port, "verify": True}
    return _use(repo, name, settings, own)


def set_s3(repo: Repo, name: str, bucket: str, *, endpoint: str | None, region: str | None, profile: str | None) -> str:
    """Make `bucket/folder` the default remote; keys come from the environment or from a profile of `~/.aws/credentials`.

    Raises:
        LabbookError: the server is unreachable, the bucket does not exist, or the connection would be unencrypted.
    """
    parts = urlsplit(endpoint or "")
    if parts.password or "@" in bucket:
        raise LabbookError(
            "the address contains keys. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile, instead."
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise LabbookError(f"{endpoint}: data would travel unencrypted and could be altered in transit. Use https://.")
    settings = {"url": f"s3://{bucket.removeprefix('s3://')}", "endpointurl": endpoint, "region": region, "verify": True}
    return _use(repo, name, settings, {"profile": profile})


def _use(repo: Repo, name: str, settings: dict[str, Any], own: dict[str, Any]) -> str:
    """Test a remote, then write `settings` to the shared configuration and `own` to that of this clone.

    Raises:
        LabbookError: the remote cannot be reached; nothing was written.
    """
    settings = {key: value for key, value in settings.items() if value is not None}
    own = {key: value for key, value in own.items() if value is not None}
    repo.config["remote"][name] = settings | own
    with translate_errors(settings["url"]):
        remote = repo.cloud.get_remote(name)
        remote.fs.makedirs(remote.path)
    if name in repo.config.read("local").get("remote", {}):  # settings of an earlier remote of this name
        with _edit(repo, "local") as config:
            del config["remote"][name]
    with _edit(repo, "repo") as config:
        config["remote"][name] = settings
        config["core"]["remote"] = name
    if own:
        with _edit(repo, "local") as config:
            config["remote"][name] = own
    return f"the default remote is now {name}, {settings['url']}. Commit .dvc/config, then use `make push` and `make pull`"


@contextmanager
def _edit(repo: Repo, level: str) -> Iterator[dict[str, Any]]:
    """Edit a file of DVC's configuration atomically; DVC truncates the file before it knows whether it can write it.

    Raises:
        LabbookError: the file cannot be written.
    """
    path = Path(repo.config.files[level])
    part = path.with_name(f"{path.name}.part")
    try:
        if path.exists():
            shutil.copy(path, part)
        repo.config.files[level] = str(part)
        with repo.config.edit(level) as config:
            yield config
        part.replace(path)
    except OSError as error:
        raise LabbookError(describe_os_error(error, path)) from error
    except (ConfigObjError, UnicodeEncodeError) as error:
        raise LabbookError(
            f"{path}: DVC cannot store this value: {error}. Use ASCII characters without '%(', for example "
            "the path of a symbolic link."
        ) from error
    finally:
        repo.config.files[level] = str(path)
        part.unlink(missing_ok=True)


def _prepare(repo: Repo, folder: Path, group: str | None) -> bool:
    """Create a folder with its subfolders, and return whether a group shares it.

    Raises:
        LabbookError: the folder cannot be used.
    """
    if not folder.is_absolute():
        raise LabbookError(f"{folder}: expected an absolute path.")
    if folder.is_relative_to(repo.root_dir):
        raise LabbookError(f"{folder}: inside the repository. Choose a folder outside of it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # test whether it is writable
        if folder.stat().st_mode & stat.S_IWOTH:
            raise LabbookError(f"{folder}: writable by everybody. Run `chmod o-w {folder}`, or choose another folder.")
        if group and not (_is_shared(folder) and folder.group() == group):
            shutil.chown(folder, group=group)
            folder.chmod(SHARED_MODE)
        if not _is_shared(folder):
            return False
        for part in (folder / "files", folder / "files/md5", folder / "runs"):
            _make_shared(part)
            for prefix in PREFIXES if part.name != "files" else ():
                _make_shared(part / prefix)
    except LookupError as error:
        raise LabbookError(f"{group}: no such group on this machine. Run `groups` to list yours.") from error
    except OSError as error:
        raise LabbookError(describe_os_error(error, folder)) from error
    return True


def _is_shared(folder: Path) -> bool:
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def _make_shared(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir()
        folder.chmod(SHARED_MODE)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
