"""Set up what a team shares: a remote in a folder, over SSH or S3, or one cache for all users of a machine.

Each is tried before it is written down. What others may know goes into `.dvc/config`, which git tracks; user names, key files
and paths of one machine go into `.dvc/config.local`, which it does not; passwords and secret keys go nowhere.
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
from labbook.io import explain
from labbook.team.store import speaking_to

__all__ = ["set_cache", "set_folder", "set_s3", "set_ssh"]

SHARED_MODE = 0o3775  # the group's; new files are of the group (setgid) and only their owner may remove them (sticky)
PREFIXES = [f"{number:02x}" for number in range(256)]  # under which objects and runs lie


def set_folder(repo: Repo, name: str, folder: Path, group: str | None) -> str:
    """Make a folder the default remote; with a group, one that its members share.

    Raises:
        LabbookError: the folder cannot be used, or is open to everybody.
    """
    shared = _prepare(repo, folder, group)
    return _use(repo, name, {"url": str(folder), "verify": True} | ({"shared": "group"} if shared else {}), {})


def set_cache(repo: Repo, folder: Path, group: str | None) -> str:
    """Let this clone keep its objects in a folder that others use too: what one of them trained, all have at once.

    Raises:
        LabbookError: the folder cannot be used, or is open to everybody.
    """
    shared = _prepare(repo, folder, group)
    with _edit(repo, "local") as config:
        config["cache"] |= {"dir": str(folder)} | ({"shared": "group"} if shared else {})
    return f"the cache of this clone is {folder}. `dvc repro` or `dvc checkout` takes outputs from there"


def set_ssh(repo: Repo, name: str, address: str, port: int | None, keyfile: str | None) -> str:
    """Make `user@host:/folder` the default remote.

    Raises:
        LabbookError: the server is not known, does not answer or lets nobody in.
    """
    found = re.fullmatch(r"(?:(?P<user>[^@:/]+)@)?(?P<host>[^@:/]+):(?P<folder>/.+)", address)
    if not found:
        raise LabbookError(f"{address}: not an address. It reads user@host:/folder, and the port is an option of its own.")
    own: dict[str, Any] = {"user": found["user"], "keyfile": keyfile}
    settings = {"url": f"ssh://{found['host']}{found['folder']}", "port": port, "verify": True}
    return _use(repo, name, settings, own)


def set_s3(repo: Repo, name: str, bucket: str, *, endpoint: str | None, region: str | None, profile: str | None) -> str:
    """Make `bucket/folder` the default remote; keys come from the environment or from a profile of `~/.aws/credentials`.

    Raises:
        LabbookError: the server does not answer or the bucket is not there; or data would travel unencrypted.
    """
    parts = urlsplit(endpoint or "")
    if parts.password or "@" in bucket:
        raise LabbookError(
            "Leave keys out of the address: put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile."
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise LabbookError(f"{endpoint}: data would travel unencrypted and could be changed on the way. Use https://.")
    settings = {"url": f"s3://{bucket.removeprefix('s3://')}", "endpointurl": endpoint, "region": region, "verify": True}
    return _use(repo, name, settings, {"profile": profile})


def _use(repo: Repo, name: str, settings: dict[str, Any], own: dict[str, Any]) -> str:
    """Try a remote, then write down `settings` for all and `own` for this clone.

    Raises:
        LabbookError: it cannot be reached. Nothing was written.
    """
    settings = {key: value for key, value in settings.items() if value is not None}
    own = {key: value for key, value in own.items() if value is not None}
    repo.config["remote"][name] = settings | own
    with speaking_to(settings["url"]):
        remote = repo.cloud.get_remote(name)
        remote.fs.makedirs(remote.path)
    if name in repo.config.read("local").get("remote", {}):  # what it was before
        with _edit(repo, "local") as config:
            del config["remote"][name]
    with _edit(repo, "repo") as config:
        config["remote"][name] = settings
        config["core"]["remote"] = name
    if own:
        with _edit(repo, "local") as config:
            config["remote"][name] = own
    return f"{name}: {settings['url']}. Commit .dvc/config; `make push` and `make pull` use it"


@contextmanager
def _edit(repo: Repo, level: str) -> Iterator[dict[str, Any]]:
    """Change a file of DVC's configuration, whole or not at all: DVC empties it before it looks whether it can write it.

    Raises:
        LabbookError: it cannot be written.
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
        raise LabbookError(explain(error, path)) from error
    except (ConfigObjError, UnicodeEncodeError) as error:
        raise LabbookError(
            f"{path}: DVC cannot keep this there: {error}. It takes letters of ASCII, and no '%('. Use another name, "
            "such as that of a symbolic link."
        ) from error
    finally:
        repo.config.files[level] = str(path)
        part.unlink(missing_ok=True)


def _prepare(repo: Repo, folder: Path, group: str | None) -> bool:
    """Make a folder, and say whether a group shares it.

    Raises:
        LabbookError: it cannot be used.
    """
    if not folder.is_absolute():
        raise LabbookError(f"{folder}: give the whole path, from / on.")
    if folder.is_relative_to(repo.root_dir):
        raise LabbookError(f"{folder}: lies in the repository. Take a folder outside of it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # tries it
        if folder.stat().st_mode & stat.S_IWOTH:
            raise LabbookError(f"{folder}: everybody may write there. `chmod o-w {folder}` first, or take another folder.")
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
        raise LabbookError(f"{group}: no such group on this machine. `groups` lists yours.") from error
    except OSError as error:
        raise LabbookError(explain(error, folder)) from error
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
