"""Exchange of stage inputs and outputs between coordinator and workers, through the DVC remote.

Objects are stored by hash, and the run cache maps inputs to outputs. A stage that anyone has run on any machine is therefore
fetched instead of being run again.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvc.fs import localfs
from dvc.repo import Repo
from dvc_objects.fs import generic

from labbook.errors import DataError
from labbook.io import write_atomically
from labbook.team.store import files_of, hash_files, open_cache, open_remote, parse_entry, read_tree, translate_errors

__all__ = ["Exchange"]


class Exchange:
    """The local cache and the remote. Methods are thread-safe."""

    def __init__(self, repo: Repo, remote: str | None) -> None:
        """Connect to the remote.

        Raises:
            LabbookError: no remote has this name, or it cannot be reached.
        """
        self.remote = open_remote(repo, remote)
        self._cache = open_cache(repo)
        self._aside = repo.tmp_dir
        self._lock = threading.Lock()  # two stages may need the same object

    def fetch_result(self, key: str, name: str | None = None) -> dict[str, Any] | None:
        """Fetch the outputs of a stage into the cache, and return its run-cache entry; `None` if the remote has none.

        Args:
            key: the hash of the stage's command, dependencies and settings.
            name: of the entry; default: any entry of the key.

        Raises:
            LabbookError: an object on the remote is damaged, or the remote cannot be reached.
        """
        with self._lock, translate_errors(self.remote.name):
            names = sorted(self.remote.entries(key))
            for known, data in self.remote.read_entries(names if name is None else {name}.intersection(names)).items():
                entry = parse_entry(known, data)
                if entry and self._fetch(_made_by(entry)):
                    _raise(self._cache.put_entries({known: data}))
                    return entry
        return None

    def push_result(self, key: str) -> str:
        """Push the outputs of a stage that has just run, then its run-cache entry, and return the name of the entry.

        The entry comes last, so that the remote never has an entry without its outputs.

        Raises:
            LabbookError: the local cache lacks an output, or the push failed.
        """
        with self._lock, translate_errors(self.remote.name):
            names = sorted(self._cache.entries(key), key=lambda name: Path(self._cache.runs, name).stat().st_mtime_ns)
            for name, data in self._cache.read_entries(names[-1:]).items():
                if (entry := parse_entry(name, data)) and self._send(_made_by(entry)):
                    _raise(self.remote.put_entries({name: data}))
                    return name
        raise DataError("the local cache lacks an output of the stage; nothing was pushed. Run the stage again.")

    def cached(self, oids: Iterable[str]) -> set[str]:
        """Return those of the objects that are in the local cache."""
        return self._cache.existing(oids)

    def push_inputs(self, oids: Iterable[str]) -> None:
        """Push the inputs of a stage from the local cache.

        Raises:
            LabbookError: an object is missing, or the push failed.
        """
        oids = list(oids)
        with self._lock, translate_errors(self.remote.name):
            if not self._send(oids):
                raise DataError(f"the local cache lacks some of {', '.join(oids)}. Run `labbook doctor` to find out why.")

    def check_out_inputs(self, inputs: Mapping[str, str]) -> None:
        """Fetch the inputs of a stage and check them out.

        Args:
            inputs: hash of the object to check out, by path.

        Raises:
            LabbookError: an object on the remote is missing or damaged.
        """
        with translate_errors(self.remote.name):
            if not self._fetch(inputs.values()):
                raise DataError(
                    f"{self.remote.name}: some inputs of the stage are missing: {', '.join(inputs)}. Run the command again."
                )
        for path, oid in inputs.items():
            _make_way(Path(path), is_folder=oid.endswith(".dir"))
        files = {path: oid for path, oid in inputs.items() if not oid.endswith(".dir")}
        for folder, oid in inputs.items() - files.items():
            wanted = {str(Path(folder, *parts)): info.value for parts, _, info in read_tree(oid, self._cache) or ()}
            if Path(folder).is_dir():
                for file in Path(folder).rglob("*"):
                    if not file.is_dir() and str(file) not in wanted:
                        file.unlink()
            files |= wanted
        there = hash_files(localfs, files, self._cache.jobs)
        for path, oid in files.items():
            if there[path] != oid:
                with suppress(IsADirectoryError):
                    Path(path).unlink(missing_ok=True)  # it may be a link into the cache
                write_atomically(Path(path), lambda part, oid=oid: shutil.copyfile(self._cache.objects.oid_to_path(oid), part))  # type: ignore[misc]

    def _fetch(self, oids: Iterable[str]) -> bool:
        """Fetch objects that are missing or damaged locally, directories first; return whether all of them are intact now."""
        oids = set(oids)
        if not self._fetch_these(oids):
            return False
        return self._fetch_these({file for oid in oids for file in files_of(oid, self._cache)})

    def _fetch_these(self, oids: set[str]) -> bool:
        missing = self._cache.damaged(oids)  # DVC would trust damaged objects and check them out
        if not missing <= self.remote.existing(missing):
            return False
        with tempfile.TemporaryDirectory(dir=self._aside) as folder:  # nothing enters the cache before it has been hashed
            copies = {str(Path(folder, oid)): oid for oid in missing}
            theirs = [self.remote.objects.oid_to_path(oid) for oid in copies.values()]
            generic.copy(self.remote.files, theirs, localfs, list(copies))
            found = hash_files(localfs, copies, self._cache.jobs)
            damaged = sorted(oid for path, oid in copies.items() if found[path] != oid.removesuffix(".dir"))
            if damaged:
                raise DataError(
                    f"{self.remote.name}: {', '.join(damaged)} arrived damaged. "
                    f"Run `labbook doctor --remote {self.remote.label} --repair` on a machine that has intact copies."
                )
            _raise(self._cache.put(localfs, {oid: path for path, oid in copies.items()}))
        return True

    def _send(self, oids: Iterable[str]) -> bool:
        """Push objects that the remote lacks, directories last; return whether it has all of them now."""
        oids = set(oids)
        files = {file for oid in oids for file in files_of(oid, self._cache)} | {
            oid for oid in oids if not oid.endswith(".dir")
        }
        return self._send_these(files) and self._send_these(oids - files)

    def _send_these(self, oids: set[str]) -> bool:
        missing = oids - self.remote.existing(oids)
        if self._cache.damaged(missing):
            return False
        _raise(self.remote.put(self._cache.files, {oid: self._cache.objects.oid_to_path(oid) for oid in missing}))
        return True


def _make_way(path: Path, *, is_folder: bool) -> None:
    """Remove a file that blocks a folder, or a folder that blocks a file, left by another version of the pipeline."""
    for folder in path.parents:
        if folder.is_file():
            folder.unlink()
    if path.is_dir() and not is_folder:
        shutil.rmtree(path)
    elif not path.is_dir() and is_folder:
        path.unlink(missing_ok=True)


def _made_by(entry: Mapping[str, Any]) -> list[str]:
    return [out["md5"] for out in entry["outs"]]


def _raise(failed: Mapping[str, BaseException]) -> None:
    for error in failed.values():
        raise error
