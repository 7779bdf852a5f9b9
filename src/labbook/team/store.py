"""A DVC cache or remote: objects named by their MD5, and the run cache, which records the outputs of earlier runs.

Layout and hashes are DVC's: https://dvc.org/doc/user-guide/project-structure/internal-files. DVC trusts read-only
objects of its cache, names in a listing and all entries of the run cache; this module compares the hashes of their bytes.
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
from labbook.io import describe_os_error

__all__ = [
    "FastLoader", "Store", "files_of", "hash_files", "open_cache", "open_remote",
    "parse_entry", "read_tree", "referenced_objects", "translate_errors",
]  # fmt: skip

CACHE = "cache"
LIBRARIES = ("aiobotocore", "aiohttp", "asyncssh", "botocore", "dvc_objects")  # libraries whose errors come from a server
UNREADABLE = "unreadable"  # instead of an MD5
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # available if PyYAML was built with libyaml

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Store:
    """The objects and the run cache of a DVC cache or remote."""

    label: str  # CACHE, or the name of the remote
    objects: HashFileDB
    runs: str  # folder of the run cache, with files <first two>/<key>/<value>

    @property
    def name(self) -> str:
        """The name of the store in messages."""
        return self.label if self.label == CACHE else f"remote {self.label}"

    @property
    def files(self) -> FileSystem:
        """The file system of the store."""
        return self.objects.fs

    @property
    def jobs(self) -> int:
        """The number of files to read or write in parallel."""
        return (os.cpu_count() or 1) if isinstance(self.files, LocalFileSystem) else int(self.files.jobs)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every object."""
        found = {}
        for path, size in _walk(self.files, self.objects.path).items():
            with suppress(ValueError):  # a temporary file
                if _is_object(oid := self.objects.path_to_oid(path)):
                    found[oid] = size
        return found

    def existing(self, oids: Iterable[str]) -> set[str]:
        """Return those of the objects that exist, without listing the whole store."""

        def exists(oid: str) -> bool:
            return bool(self.files.exists(self.objects.oid_to_path(oid)))

        return {oid for oid, there in map_in_threads(exists, oids, self.jobs).items() if there}

    def temporary_files(self) -> list[str]:
        """Return the temporary files that interrupted copies left."""
        return [path for path in _walk(self.files, self.objects.path) if path.endswith(".tmp")]

    def damaged(self, oids: Iterable[str]) -> set[str]:
        """Hash objects, and return those that are missing or whose bytes do not match their name."""
        paths = {self.objects.oid_to_path(oid): oid for oid in oids}
        return {
            paths[path]
            for path, found in hash_files(self.files, paths, self.jobs).items()
            if found != paths[path].removesuffix(".dir")
        }

    def put(self, files: FileSystem, paths: Mapping[str, str]) -> dict[str, BaseException]:
        """Copy files into the store, each to a temporary file that is then renamed; return the errors by object.

        Args:
            files: the source file system.
            paths: source of each object; the caller has hashed them.
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
        """Return the size in bytes of every run-cache entry `<first two>/<key>/<value>`, or only of those of one key."""
        found = _walk(self.files, self.files.join(self.runs, key[:2], key) if key else self.runs)
        names = {self.files.as_posix(self.files.relpath(path, self.runs)): size for path, size in found.items()}
        return {name: size for name, size in names.items() if name.count("/") == 2 and not name.endswith(".tmp")}

    def read_entries(self, names: Iterable[str]) -> dict[str, bytes]:
        """Read run-cache entries."""

        def read(name: str) -> bytes:
            with self.files.open(self.files.join(self.runs, *name.split("/")), "rb") as file:
                data: bytes = file.read()
                return data

        return map_in_threads(read, names, self.jobs)

    def put_entries(self, entries: Mapping[str, bytes]) -> dict[str, BaseException]:
        """Write run-cache entries, each atomically; return the errors by name."""

        def put(name: str) -> Exception | None:
            path = self.files.join(self.runs, *name.split("/"))
            try:
                self.objects.makedirs(self.files.parent(path))  # type: ignore[no-untyped-call]
                self.files.put_file(io.BytesIO(entries[name]), path, size=len(entries[name]))
                if isinstance(self.files, LocalFileSystem):
                    Path(path).chmod(getattr(self.objects, "_file_mode"))  # noqa: B009 - group-writable if shared
            except Exception as error:  # servers and libraries may raise anything
                return error
            return None

        return {name: error for name, error in map_in_threads(put, entries, self.jobs).items() if error}


def open_cache(repo: Repo) -> Store:
    """Return the cache of a repository."""
    return Store(CACHE, repo.cache.local, repo.stage_cache.cache_dir)


def open_remote(repo: Repo, name: str | None) -> Store:
    """Connect to a remote, by default to the default remote.

    Raises:
        LabbookError: no remote has this name, or it cannot be reached.
    """
    name = name or repo.config["core"].get("remote")
    if not name:
        raise LabbookError("no remote is set up. Run `labbook team folder /srv/labbook`; see docs/teams.md.")
    with translate_errors(f"remote {name}"):
        remote = repo.cloud.get_remote(name)
        there = remote.fs.exists(remote.path)
    if not there and isinstance(
        remote.fs, LocalFileSystem
    ):  # DVC would create it, even below the mount point of a missing disk
        command = f"labbook team folder {remote.path}"
        raise LabbookError(f"remote {name}: {remote.path} not found. Mount its disk, or run `{command}` to create it.")
    return Store(remote.name, remote.odb, remote.fs.join(remote.path, "runs"))


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Convert errors of a server, a disk or DVC to a LabbookError.

    Raises:
        LabbookError: an error occurred.
    """
    try:
        yield
    except DvcException as error:
        raise LabbookError(f"{name}: {error}") from error
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in LIBRARIES:
            raise
        message = " ".join(str(error).split())
        if type(error).__name__ == "HostKeyNotVerifiable":
            message += (
                ". The key is not in ~/.ssh/known_hosts. Connect once with `ssh`, compare the fingerprint with the one that "
                "the server's owner reads there (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`), and accept it. "
                "If the key has changed, ask the owner first; it may be an attack"
            )
        raise LabbookError(
            f"{name} cannot be used ({type(error).__name__}): {message}. Run the same command again when it can."
        ) from error


def hash_files(files: FileSystem, paths: Iterable[str], jobs: int) -> dict[str, str | None]:
    """Return the MD5 of each file, by path; `None` for a missing file."""

    def digest(path: str) -> str | None:
        try:
            found: str = file_md5(path, files)
        except FileNotFoundError:
            return None
        except PermissionError as error:  # it may be intact
            raise LabbookError(f"{describe_os_error(error, Path(path))} Ask its owner for read permission.") from error
        except OSError:
            if not isinstance(files, LocalFileSystem):
                raise  # a server error does not mean damaged bytes
            return UNREADABLE  # a bad sector
        return found

    return map_in_threads(digest, paths, jobs)


def map_in_threads(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> dict[Item, Result]:
    """Return the result of `work` for each item, computed with `jobs` threads."""
    items = list(items)
    with ThreadPoolExecutor(jobs) as threads:
        return dict(zip(items, threads.map(work, items), strict=True))


def parse_entry(name: str, data: bytes) -> dict[str, Any] | None:
    """Parse a run-cache entry; return `None` if it does not match its name."""
    try:
        entry: dict[str, Any] = COMPILED_LOCK_FILE_STAGE_SCHEMA(yaml.load(data, Loader=FastLoader))
    except (yaml.YAMLError, UnicodeDecodeError, Invalid):
        return None
    _, key, value = name.split("/")
    whole = _get_cache_hash(dict(entry)) == value and _get_cache_hash(dict(entry), key=True) == key
    return entry if whole else None


def referenced_objects(repo: Repo, entries: Iterable[Mapping[str, Any]], *stores: Store) -> dict[str, str]:
    """Return the objects to which `dvc.lock` and run-cache entries refer, each with the stage that produces it.

    A directory is an object that lists other objects; it is read from the first of `stores` with an intact copy.

    Raises:
        LabbookError: `dvc.yaml`, `dvc.lock` or `params.yaml` cannot be read.
    """
    try:
        stages, outs = repo.index.stages, repo.index.outs
    except (DvcException, OSError) as error:
        message = ": ".join(" ".join(str(one).split()).rstrip(".") for one in (error, error.__cause__) if one)
        raise LabbookError(
            f"{message}. Check dvc.yaml, dvc.lock and params.yaml; `git diff` shows what has changed."
        ) from error
    if not stages:
        raise LabbookError("dvc.yaml: not found, or without stages. Run `git checkout dvc.yaml` to restore the last commit's.")
    found: dict[str, str] = {}
    for out in outs:
        if out.use_cache and out.hash_info and out.hash_info.name == "md5":
            found.setdefault(out.hash_info.value, out.stage.addressing)
    for entry in entries:
        for out in entry.get("outs", ()):
            if out.get("hash") == "md5":  # otherwise hashed by DVC 2
                found.setdefault(out["md5"], f"an earlier run of `{entry['cmd']}`")
    for oid in list(found):
        for file in files_of(oid, *stores):
            found.setdefault(file, found[oid])
    return found


def files_of(oid: str, *stores: Store) -> set[str]:
    """Return the files that a directory lists; empty for a file, or for a directory without an intact copy."""
    return {info.value for _, _, info in read_tree(oid, *stores) or ()} if oid.endswith(".dir") else set()


def read_tree(oid: str, *stores: Store) -> Tree | None:
    """Read the list of a directory from the first store with an intact copy."""
    for store in stores:
        if not store.damaged([oid]):
            return Tree.load(store.objects, HashInfo("md5", oid))
    return None


def _walk(files: FileSystem, folder: str) -> dict[str, int]:
    """Return the size in bytes of every file below `folder`."""
    if isinstance(files, LocalFileSystem):
        found = {}
        for place, _, names in os.walk(folder, onerror=_unless_missing):
            for name in names:
                path = os.path.join(place, name)  # noqa: PTH118 - a million paths
                with suppress(FileNotFoundError):  # renamed in the meantime
                    found[path] = os.stat(path).st_size  # noqa: PTH116
        return found
    files.fs.invalidate_cache()
    with suppress(FileNotFoundError):
        return {path: info["size"] for path, info in files.fs.find(folder, detail=True).items()}
    return {}


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # an unreadable folder must not count as empty
        raise LabbookError(describe_os_error(error, Path(error.filename))) from error


def _is_object(oid: str) -> bool:
    digest = oid.removesuffix(".dir")
    return len(digest) == 32 and set(digest) <= set("0123456789abcdef")
