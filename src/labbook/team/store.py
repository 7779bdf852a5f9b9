"""A DVC cache or remote as a store: objects by the MD5 of their bytes, and the run-cache, which says what a stage once made.

Layout and hashes are DVC's: https://dvc.org/doc/user-guide/project-structure/internal-files. DVC believes a read-only object
of its cache, a name in a listing and every entry of the run-cache; here what counts is what the bytes hash to.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from dvc.exceptions import DvcException
from dvc.fs import LocalFileSystem
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA
from dvc.stage.cache import _get_cache_hash
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.hash import file_md5
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.fs import generic
from dvc_objects.fs.base import FileSystem
from voluptuous import Invalid

from labbook.errors import LabbookError
from labbook.io import explain

__all__ = ["FastLoader", "Store", "cache_of", "digests", "listed", "needed", "parse", "remote_of", "speaking_to", "tree"]

CACHE = "cache"
LIBRARIES = ("aiobotocore", "aiohttp", "asyncssh", "botocore", "dvc_objects")  # whose errors tell of a server
UNREADABLE = "unreadable"  # instead of an MD5
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML has the fast one where libyaml is there

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Store:
    """The objects of a cache or a remote, and its run-cache."""

    label: str  # CACHE, or how DVC calls the remote
    objects: HashFileDB
    runs: str  # the folder of the run-cache; a file there is <first two>/<key>/<value>

    @property
    def name(self) -> str:
        """How to call it in a message."""
        return self.label if self.label == CACHE else f"remote {self.label}"

    @property
    def files(self) -> FileSystem:
        """The file system on which the store lies."""
        return self.objects.fs

    @property
    def jobs(self) -> int:
        """How many of its files are read or written at a time."""
        return (os.cpu_count() or 1) if isinstance(self.files, LocalFileSystem) else int(self.files.jobs)

    def sizes(self) -> dict[str, int]:
        """List all objects, with their size in bytes."""
        found = {}
        for path, size in _walk(self.files, self.objects.path).items():
            with suppress(ValueError):  # a temporary file
                if _is_object(oid := self.objects.path_to_oid(path)):
                    found[oid] = size
        return found

    def holds(self, oids: Iterable[str]) -> set[str]:
        """Name those of the objects that are there, without a listing of all."""

        def exists(oid: str) -> bool:
            return bool(self.files.exists(self.objects.oid_to_path(oid)))

        return {oid for oid, there in in_threads(exists, oids, self.jobs).items() if there}

    def leftovers(self) -> list[str]:
        """List the temporary files that interrupted copies left."""
        return [path for path in _walk(self.files, self.objects.path) if path.endswith(".tmp")]

    def damaged(self, oids: Iterable[str]) -> set[str]:
        """Hash objects and name those whose bytes are not what their name says; missing ones are among them."""
        paths = {self.objects.oid_to_path(oid): oid for oid in oids}
        return {
            paths[path]
            for path, found in digests(self.files, paths, self.jobs).items()
            if found != paths[path].removesuffix(".dir")
        }

    def put(self, files: FileSystem, paths: Mapping[str, str]) -> dict[str, BaseException]:
        """Copy files into the store, each aside and then renamed; give the errors by object.

        Args:
            files: where the copies come from.
            paths: of the copies, by object. Their bytes were hashed.
        """
        failed: dict[str, BaseException] = {}
        oids: dict[str, str] = {}
        for oid in paths:
            try:
                self.objects._init(oid[:2])  # with the permissions of a shared folder
                oids[self.objects.oid_to_path(oid)] = oid
            except OSError as error:
                failed[oid] = error

        def note(_: str, to: str, error: BaseException) -> None:
            failed[oids[to]] = error

        if oids:
            generic.copy(files, [paths[oid] for oid in oids.values()], self.files, list(oids), on_error=note)
        for path, oid in oids.items():
            if oid not in failed:
                self.objects.protect(path)  # type: ignore[no-untyped-call]
        return failed

    def entries(self, key: str | None = None) -> dict[str, int]:
        """List the run-cache, all of it or what ran with one key: `<first two>/<key>/<value>`, with sizes in bytes."""
        found = _walk(self.files, self.files.join(self.runs, key[:2], key) if key else self.runs)
        names = {self.files.as_posix(self.files.relpath(path, self.runs)): size for path, size in found.items()}
        return {name: size for name, size in names.items() if name.count("/") == 2 and not name.endswith(".tmp")}

    def read_entries(self, names: Iterable[str]) -> dict[str, bytes]:
        """Read files of the run-cache."""

        def read(name: str) -> bytes:
            with self.files.open(self.files.join(self.runs, *name.split("/")), "rb") as file:
                data: bytes = file.read()
                return data

        return in_threads(read, names, self.jobs)

    def put_entries(self, entries: Mapping[str, bytes]) -> dict[str, BaseException]:
        """Write files of the run-cache, each whole or not at all; give the errors by name."""

        def put(name: str) -> Exception | None:
            path = self.files.join(self.runs, *name.split("/"))
            try:
                self.objects.makedirs(self.files.parent(path))  # type: ignore[no-untyped-call]
                self.files.put_file(io.BytesIO(entries[name]), path, size=len(entries[name]))
                if isinstance(self.files, LocalFileSystem):
                    Path(path).chmod(getattr(self.objects, "_file_mode"))  # noqa: B009 - the group's, where it is shared
            except Exception as error:  # whatever a server or a library raises
                return error
            return None

        return {name: error for name, error in in_threads(put, entries, self.jobs).items() if error}


def cache_of(repo: Repo) -> Store:
    """Give the cache of a repository."""
    return Store(CACHE, repo.cache.local, repo.stage_cache.cache_dir)


def remote_of(repo: Repo, name: str | None) -> Store:
    """Reach a remote by its name, the default one for `None`.

    Raises:
        LabbookError: there is none of that name, or it cannot be reached.
    """
    name = name or repo.config["core"].get("remote")
    if not name:
        raise LabbookError("no remote is set up. `python -m labbook.team folder /srv/labbook` does, see docs/teams.md.")
    with speaking_to(f"remote {name}"):
        remote = repo.cloud.get_remote(name)
        there = remote.fs.exists(remote.path)
    if not there and isinstance(remote.fs, LocalFileSystem):  # DVC would make it anew, below where a disk should be
        makes = f"`python -m labbook.team folder {remote.path}` makes it"
        raise LabbookError(f"remote {name}: {remote.path} is not there. Is its disk mounted? If it is new, {makes}.")
    return Store(remote.name, remote.odb, remote.fs.join(remote.path, "runs"))


@contextmanager
def speaking_to(name: str) -> Iterator[None]:
    """Say in one message what went wrong with a server or a disk.

    Raises:
        LabbookError: something did.
    """
    try:
        yield
    except DvcException as error:
        raise LabbookError(f"{name}: {error}") from error
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in LIBRARIES:
            raise
        told = " ".join(str(error).split())
        if type(error).__name__ == "HostKeyNotVerifiable":
            told += (
                ". Its key is not in ~/.ssh/known_hosts: connect once by `ssh`, compare the fingerprint that it shows with "
                "the one that the server's owner tells (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`), and accept it. "
                "If it was known and has changed, somebody may stand between: ask first"
            )
        raise LabbookError(
            f"{name} cannot be used ({type(error).__name__}): {told}. When it can, run the same again."
        ) from error


def digests(files: FileSystem, paths: Iterable[str], jobs: int) -> dict[str, str | None]:
    """Hash files side by side: their MD5 by path, `None` for a missing one."""

    def digest(path: str) -> str | None:
        try:
            found: str = file_md5(path, files)
        except FileNotFoundError:
            return None
        except PermissionError as error:  # it may be whole
            raise LabbookError(f"{explain(error, Path(path))} Ask its owner for the right to read it.") from error
        except OSError:
            if not isinstance(files, LocalFileSystem):
                raise  # the server's trouble says nothing of the bytes
            return UNREADABLE  # a bad sector
        return found

    return in_threads(digest, paths, jobs)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> dict[Item, Result]:
    """Give what `work` makes of each item, with `jobs` threads."""
    items = list(items)
    with ThreadPoolExecutor(jobs) as threads:
        return dict(zip(items, threads.map(work, items), strict=True))


def parse(name: str, data: bytes) -> dict[str, Any] | None:
    """Parse a file of the run-cache; `None` when it is not what its name says."""
    try:
        entry: dict[str, Any] = COMPILED_LOCK_FILE_STAGE_SCHEMA(yaml.load(data, Loader=FastLoader))
    except (yaml.YAMLError, UnicodeDecodeError, Invalid):
        return None
    _, key, value = name.split("/")
    whole = _get_cache_hash(dict(entry)) == value and _get_cache_hash(dict(entry), key=True) == key
    return entry if whole else None


def needed(repo: Repo, entries: Iterable[Mapping[str, Any]], *stores: Store) -> dict[str, str]:
    """Name the objects that `dvc.lock` and entries of the run-cache speak of, each with what makes it.

    A directory is an object that lists others: it is read from the first of `stores` that has it whole.

    Raises:
        LabbookError: the pipeline's own files cannot be read.
    """
    try:
        stages, outs = repo.index.stages, repo.index.outs
    except (DvcException, OSError) as error:
        told = ": ".join(" ".join(str(one).split()).rstrip(".") for one in (error, error.__cause__) if one)
        raise LabbookError(f"{told}. Look at dvc.yaml, dvc.lock and params.yaml: `git diff` shows what has changed.") from error
    if not stages:
        raise LabbookError(
            "dvc.yaml: not there, or without stages. `git checkout dvc.yaml` brings back that of the last commit."
        )
    found: dict[str, str] = {}
    for out in outs:
        if out.use_cache and out.hash_info and out.hash_info.name == "md5":
            found.setdefault(out.hash_info.value, out.stage.addressing)
    for entry in entries:
        for out in entry.get("outs", ()):
            if out.get("hash") == "md5":  # else as DVC 2 hashed it
                found.setdefault(out["md5"], f"an earlier run of `{entry['cmd']}`")
    for oid in list(found):
        for file in listed(oid, *stores):
            found.setdefault(file, found[oid])
    return found


def listed(oid: str, *stores: Store) -> set[str]:
    """Name the files that a directory lists; nothing for a file, or for a directory that no store has whole."""
    return {info.value for _, _, info in tree(oid, *stores) or ()} if oid.endswith(".dir") else set()


def tree(oid: str, *stores: Store) -> Tree | None:
    """Read the object that lists a directory, from the first store that has it whole."""
    for store in stores:
        if not store.damaged([oid]):
            return Tree.load(store.objects, HashInfo("md5", oid))
    return None


def _walk(files: FileSystem, folder: str) -> dict[str, int]:
    """List the files below `folder`, with sizes in bytes."""
    if isinstance(files, LocalFileSystem):
        found = {}
        for place, _, names in os.walk(folder, onerror=_unless_missing):
            for name in names:
                path = os.path.join(place, name)  # noqa: PTH118 - a million paths
                with suppress(FileNotFoundError):  # renamed meanwhile
                    found[path] = os.stat(path).st_size  # noqa: PTH116
        return found
    files.fs.invalidate_cache()
    with suppress(FileNotFoundError):
        return {path: info["size"] for path, info in files.fs.find(folder, detail=True).items()}
    return {}


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a folder that may not be read is not an empty one
        raise LabbookError(explain(error, Path(error.filename))) from error


def _is_object(oid: str) -> bool:
    digest = oid.removesuffix(".dir")
    return len(digest) == 32 and set(digest) <= set("0123456789abcdef")
