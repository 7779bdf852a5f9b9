"""What coordinator and workers tell each other: outputs of stages by their hash, and in the run-cache what they were made of.

Both are in the team's remote, so a stage that anybody ran, on whatever machine, is found there and runs on none.
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
from labbook.io import replace
from labbook.team.store import cache_of, digests, listed, parse, remote_of, speaking_to, tree

__all__ = ["Exchange"]


class Exchange:
    """A cache here and the remote; any thread may ask."""

    def __init__(self, repo: Repo, remote: str | None) -> None:
        """Reach the remote.

        Raises:
            LabbookError: there is none of that name, or it cannot be reached.
        """
        self.remote = remote_of(repo, remote)
        self._cache = cache_of(repo)
        self._aside = repo.tmp_dir
        self._one_at_a_time = threading.Lock()  # two stages may need the same object

    def take(self, key: str, name: str | None = None) -> dict[str, Any] | None:
        """Bring into the cache what a stage made, and its entry in the run-cache, which is given; `None`: nobody sent it.

        Args:
            key: the hash of the stage's command, dependencies and settings.
            name: of the entry, when it has to be this one.

        Raises:
            LabbookError: what the remote has is damaged, or it cannot be reached.
        """
        with self._one_at_a_time, speaking_to(self.remote.name):
            names = sorted(self.remote.entries(key))
            for known, data in self.remote.read_entries(names if name is None else {name}.intersection(names)).items():
                entry = parse(known, data)
                if entry and self._fetch(_made_by(entry)):
                    _raise(self._cache.put_entries({known: data}))
                    return entry
        return None

    def give(self, key: str) -> str:
        """Send what a stage made just now, then its entry in the run-cache, so that what is there is whole at any moment.

        Raises:
            LabbookError: the cache here does not hold it, or it could not be sent.
        """
        with self._one_at_a_time, speaking_to(self.remote.name):
            names = sorted(self._cache.entries(key), key=lambda name: Path(self._cache.runs, name).stat().st_mtime_ns)
            for name, data in self._cache.read_entries(names[-1:]).items():
                if (entry := parse(name, data)) and self._send(_made_by(entry)):
                    _raise(self.remote.put_entries({name: data}))
                    return name
        raise DataError("The cache does not hold what the stage made: nothing was sent.")

    def here(self, oids: Iterable[str]) -> set[str]:
        """Name those of the objects that are in the cache."""
        return self._cache.holds(oids)

    def lend(self, oids: Iterable[str]) -> None:
        """Send objects of the cache that a stage reads.

        Raises:
            LabbookError: some are not there, or could not be sent.
        """
        oids = list(oids)
        with self._one_at_a_time, speaking_to(self.remote.name):
            if not self._send(oids):
                raise DataError(f"The cache does not hold all of {', '.join(oids)}. `python -m labbook.doctor` says more.")

    def lay_out(self, inputs: Mapping[str, str]) -> None:
        """Fetch what a stage reads and put it in its place.

        Args:
            inputs: by path, the object that is to lie there.

        Raises:
            LabbookError: some are not on the remote or damaged there.
        """
        with speaking_to(self.remote.name):
            if not self._fetch(inputs.values()):
                raise DataError(
                    f"{self.remote.name}: not all that the stage reads is there: {', '.join(inputs)}. Run the same again."
                )
        for path, oid in inputs.items():
            _make_way(Path(path), is_folder=oid.endswith(".dir"))
        files = {path: oid for path, oid in inputs.items() if not oid.endswith(".dir")}
        for folder, oid in inputs.items() - files.items():
            wanted = {str(Path(folder, *parts)): info.value for parts, _, info in tree(oid, self._cache) or ()}
            if Path(folder).is_dir():
                for file in Path(folder).rglob("*"):
                    if not file.is_dir() and str(file) not in wanted:
                        file.unlink()
            files |= wanted
        there = digests(localfs, files, self._cache.jobs)
        for path, oid in files.items():
            if there[path] != oid:
                with suppress(IsADirectoryError):
                    Path(path).unlink(missing_ok=True)  # it may be a link into the cache
                replace(Path(path), lambda part, oid=oid: shutil.copyfile(self._cache.objects.oid_to_path(oid), part))  # type: ignore[misc]

    def _fetch(self, oids: Iterable[str]) -> bool:
        """Copy objects from the remote that are not here whole, directories first; say whether all of them are here now."""
        oids = set(oids)
        if not self._fetch_these(oids):
            return False
        return self._fetch_these({file for oid in oids for file in listed(oid, self._cache)})

    def _fetch_these(self, oids: set[str]) -> bool:
        missing = self._cache.damaged(oids)  # DVC would believe what the cache holds, and check it out
        if not missing <= self.remote.holds(missing):
            return False
        with tempfile.TemporaryDirectory(dir=self._aside) as folder:  # nothing is in the cache before it was hashed
            copies = {str(Path(folder, oid)): oid for oid in missing}
            theirs = [self.remote.objects.oid_to_path(oid) for oid in copies.values()]
            generic.copy(self.remote.files, theirs, localfs, list(copies))
            found = digests(localfs, copies, self._cache.jobs)
            damaged = sorted(oid for path, oid in copies.items() if found[path] != oid.removesuffix(".dir"))
            if damaged:
                raise DataError(
                    f"{self.remote.name}: {', '.join(damaged)} came damaged. "
                    f"`python -m labbook.doctor --remote {self.remote.label} --mend` replaces it where a good copy is."
                )
            _raise(self._cache.put(localfs, {oid: path for path, oid in copies.items()}))
        return True

    def _send(self, oids: Iterable[str]) -> bool:
        """Copy objects to the remote that are not there, directories last; say whether all of them are there now."""
        oids = set(oids)
        files = {file for oid in oids for file in listed(oid, self._cache)} | {oid for oid in oids if not oid.endswith(".dir")}
        return self._send_these(files) and self._send_these(oids - files)

    def _send_these(self, oids: set[str]) -> bool:
        missing = oids - self.remote.holds(oids)
        if self._cache.damaged(missing):
            return False
        _raise(self.remote.put(self._cache.files, {oid: self._cache.objects.oid_to_path(oid) for oid in missing}))
        return True


def _make_way(path: Path, *, is_folder: bool) -> None:
    """Remove a file where a folder has to be, or a folder where a file has to be: another pipeline may have made it."""
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
