"""Every byte of workspace, cache and remote, hashed and compared with `dvc.lock` and the run-cache.

What is mended is put in the place of damaged bytes only after it was hashed itself. A file of the workspace that is not what
`dvc.lock` says may be somebody's work: it is set aside, never deleted. So is what has no good copy.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

import yaml
from dvc.fs import localfs
from dvc.output import Output
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree
from dvc_objects.fs.base import FileSystem

from labbook.doctor.finding import Finding
from labbook.errors import DataError
from labbook.io import replace, write_bytes
from labbook.team.store import FastLoader, Store, cache_of, digests, needed, parse, tree

__all__ = ["Objects"]

ASIDE = Path(".set_aside")


class Objects:
    """All objects that a repository speaks of, and where they lie.

    Args:
        repo: locked by the caller while something is mended.
        remote: to compare with, if there is one.
        hash_remote: read every byte of it, not only names and sizes.
    """

    def __init__(self, repo: Repo, remote: Store | None, *, hash_remote: bool) -> None:
        self._repo = repo
        self._remote = remote
        self._hash_remote = hash_remote
        self._cache = cache_of(repo)
        self._here = self._cache.sizes()
        self._damaged = self._cache.damaged(self._here)
        self._there = remote.sizes() if remote else {}
        self._stores = [self._cache, *([remote] if remote else [])]
        self._runs = self._cache.read_entries(self._cache.entries())
        entries = {name: parse(name, data) for name, data in self._runs.items()}
        self._damaged_runs = {name for name, entry in entries.items() if not entry}
        self._makers = needed(repo, filter(None, entries.values()), *self._stores)

    @property
    def told(self) -> str:
        """Say how much was hashed."""
        size = sum(self._here.values()) / 1e6
        cache = f"{len(self._here)} objects ({size:.0f} MB) and {len(self._runs)} runs of the cache"
        return f"{len(self._files)} files of the workspace, {cache}"

    def findings(self) -> Iterator[Finding]:
        """Tell what is wrong, first with the cache, from which the rest is mended."""
        yield from self._of_cache()
        yield from self._of_runs()
        yield from self._of_workspace()
        if self._remote:
            yield from self._of_remote(self._remote)

    def _of_cache(self) -> Iterator[Finding]:
        for oid in sorted(self._damaged):
            maker = self._makers.get(oid, "an earlier commit")
            yield Finding(
                f"cache: {oid} of {maker} is damaged",
                "--mend replaces it by a good copy, or sets it aside when there is none.",
                partial(self._mend_object, oid),
            )
        absent = [oid for oid in self._makers if oid not in self._here]
        for oid in [oid for oid in absent if oid in self._of_lock and self._in_workspace(oid)]:
            yield Finding(
                f"cache: {oid} of {self._makers[oid]} is missing, and the workspace has it",
                "--mend copies it into the cache.",
                partial(self._mend_object, oid),
            )

    def _of_runs(self) -> Iterator[Finding]:
        for name in sorted(self._damaged_runs):
            yield Finding(
                f"run-cache: {name} is damaged",
                "--mend takes that of the remote, or sets it aside; at worst the stage runs again.",
                partial(self._mend_run, name),
            )

    def _of_workspace(self) -> Iterator[Finding]:
        unknown = [out for out in self._outs if out.hash_info.isdir and out.hash_info.value not in self._trees]
        for out in unknown:
            if Path(out.fs_path).exists() or out.hash_info.value in self._here:
                yield Finding(f"{out}: what it holds cannot be compared, its list of files is damaged or missing", _again(out))
        unknown_stages = [stage for stage in self._repo.index.stages if not any(out.hash_info for out in stage.outs)]
        if unknown_stages:
            yield Finding(
                f"dvc.lock: {len(unknown_stages)} stages of dvc.yaml have not run", "`make repro` runs them.", wrong=False
            )
        if lost := _committed(self._repo) & {stage.addressing for stage in unknown_stages}:
            yield Finding(
                f"dvc.lock: lacks {len(lost)} stages that the last commit has, such as {min(lost)}",
                "`git checkout dvc.lock` brings them back, `make repro` runs them again.",
            )
        absent = 0
        for path, (oid, out) in self._files.items():
            found = self._found[path]
            if found is None and not Path(out.fs_path).exists():
                absent += 1
            elif found != oid:
                what = "is missing" if found is None else "is not what dvc.lock says"
                remedy = f"--mend sets it aside under {ASIDE} and restores that of the cache; to keep it, `dvc commit {out}`."
                if found is None:
                    remedy = "--mend restores it."
                yield Finding(f"{_shown(path)} of {out.stage.addressing} {what}", remedy, partial(self._mend_file, path))
        if absent:
            yield Finding(f"{absent} outputs are not in the workspace", "`make pull` or `make repro` brings them.", wrong=False)

    def _of_remote(self, remote: Store) -> Iterator[Finding]:
        ours = self._makers.keys() | self._here.keys()
        common = [oid for oid in ours if oid in self._there]
        short = {oid for oid in common if oid in self._whole and self._there[oid] != self._here[oid]}
        damaged = short | (remote.damaged(common) if self._hash_remote else set())
        for oid in sorted(damaged):
            yield Finding(
                f"{remote.name}: {oid} of {self._makers.get(oid, 'an earlier commit')} is damaged",
                "--mend replaces it by that of the cache.",
                partial(self._mend_remote, remote, oid),
            )
        known = remote.entries()
        names = [name for name in known if self._hash_remote or known[name] != len(self._runs.get(name, b"." * known[name]))]
        for name, data in remote.read_entries(names).items():
            if not parse(name, data):
                yield Finding(
                    f"{remote.name}: {name} of the run-cache is damaged",
                    "--mend replaces it by that of the cache, or takes it away; `make pull` passes it over.",
                    partial(self._mend_remote_run, remote, name),
                )
        unsent = [oid for oid in self._makers if oid in self._whole and oid not in self._there]
        if unsent:
            yield Finding(f"{remote.name}: {len(unsent)} objects are not there yet", "`make push` sends them.", wrong=False)
        if not self._hash_remote:
            yield Finding(
                f"{remote.name}: {sum(oid in self._whole for oid in common)} of our objects are there by name and size",
                f"--remote {remote.label} reads and hashes them.",
                wrong=False,
            )

    @property
    def _whole(self) -> set[str]:
        return self._here.keys() - self._damaged

    @cached_property
    def _outs(self) -> list[Output]:
        return [out for out in self._repo.index.outs if out.hash_info and out.hash_info.name == "md5" and out.is_in_repo]

    @cached_property
    def _trees(self) -> dict[str, Tree]:
        """What the directories of `dvc.lock` hold, from a store or from the workspace."""
        found: dict[str, Tree] = {}
        for out in self._outs:
            oid = out.hash_info.value
            if out.hash_info.isdir and (read := tree(oid, *self._stores) or _tree_of(Path(out.fs_path), oid)):
                found[oid] = read
        return found

    @cached_property
    def _files(self) -> dict[str, tuple[str, Output]]:
        """The files of all outputs: their hash by `dvc.lock`, and the output."""
        files: dict[str, tuple[str, Output]] = {}
        for out in self._outs:
            if not out.hash_info.isdir:
                files[out.fs_path] = out.hash_info.value, out
            for parts, _, info in self._trees.get(out.hash_info.value, ()):
                files[str(Path(out.fs_path, *parts))] = info.value, out
        return files

    @cached_property
    def _found(self) -> dict[str, str | None]:
        return digests(localfs, self._files, os.cpu_count() or 1)

    @cached_property
    def _of_lock(self) -> set[str]:
        """Objects that should be in the cache: those of outputs that DVC caches."""
        oids = {oid for oid, out in self._files.values() if out.use_cache}
        return oids | {out.hash_info.value for out in self._outs if out.use_cache}

    def _in_workspace(self, oid: str) -> tuple[FileSystem, str] | None:
        """Find these bytes in the workspace; those of a directory's list are made from what it holds."""
        if oid.endswith(".dir"):
            folders = (Path(out.fs_path) for out in self._outs if out.hash_info.value == oid)
            made = next(filter(None, (_tree_of(folder, oid) for folder in folders)), None)
            return (made.fs, made.path) if made else None
        paths = (path for path, (wanted, _) in self._files.items() if wanted == oid and self._found[path] == oid)
        path = next((path for path in paths if digests(localfs, [path], 1)[path] == oid), None)
        return (localfs, path) if path else None

    def _mend_object(self, oid: str) -> str:
        place = Path(self._cache.objects.oid_to_path(oid))
        if found := self._in_workspace(oid):
            source, (fs, path) = "the workspace", found
        elif self._remote and oid in self._there and not self._remote.damaged([oid]):
            source, fs, path = self._remote.name, self._remote.files, self._remote.objects.oid_to_path(oid)
        else:
            aside = _set_aside(place, Path("cache", oid))
            del self._here[oid]
            self._damaged.discard(oid)
            raise DataError(
                f"cache: no good copy of {oid}; the damaged one is in {aside}. "
                f"Ask who else has it, or make it again: {self._makers.get(oid, 'an earlier commit')}"
            )
        failed = self._cache.put(fs, {oid: path})
        if failed or self._cache.damaged([oid]):
            raise DataError(
                f"cache: {oid} could not be replaced: {failed.get(oid, 'what was written is damaged too, look after the disk')}"
            )
        self._here[oid] = place.stat().st_size
        self._damaged.discard(oid)
        return f"cache: {oid} is whole again, from {source}"

    def _mend_run(self, name: str) -> str:
        data = b""
        if self._remote and name in self._remote.entries():
            data = self._remote.read_entries([name])[name]
        if data and parse(name, data) and not self._cache.put_entries({name: data}):
            return f"run-cache: {name} is whole again, from {self._remote.name if self._remote else ''}"
        aside = _set_aside(Path(self._cache.runs, *name.split("/")), Path("runs") / name)
        return f"run-cache: {name} has no good copy and is in {aside} now"

    def _mend_file(self, path: str) -> str:
        oid, out = self._files[path]
        file = Path(path)
        if oid not in self._whole:
            git = "" if out.use_cache else f"`git checkout -- {_shown(path)}`, or "
            raise DataError(f"{_shown(path)}: the cache has no good copy. `make pull`, {git}{_again(out)}")
        aside = _set_aside(file, Path(_shown(path))) if file.exists() or file.is_symlink() else None
        # This file alone: DVC's checkout would take its neighbours in a directory with it.
        replace(file, lambda part: shutil.copyfile(self._cache.objects.oid_to_path(oid), part))
        if digests(localfs, [path], 1)[path] != oid:
            raise DataError(f"{_shown(path)}: could not be restored. {_again(out)}")
        return f"{_shown(path)} is as dvc.lock says" + (f"; what was there is {aside}" if aside else "")

    def _mend_remote(self, remote: Store, oid: str) -> str:
        if oid not in self._whole or self._cache.damaged([oid]):
            raise DataError(f"{remote.name}: no good copy of {oid} here. Whoever has one mends it by the same command")
        failed = remote.put(self._cache.files, {oid: self._cache.objects.oid_to_path(oid)})
        if failed or remote.damaged([oid]):
            raise DataError(f"{remote.name}: {oid} could not be replaced: {failed.get(oid, 'it is damaged again')}")
        return f"{remote.name}: {oid} is whole again, from the cache"

    def _mend_remote_run(self, remote: Store, name: str) -> str:
        data = self._runs.get(name)
        if not data or name in self._damaged_runs:
            aside = _free(Path("runs", name))
            write_bytes(aside, remote.read_entries([name])[name])
            remote.files.remove(remote.files.join(remote.runs, *name.split("/")))  # whoever has a good one sends it again
            return f"{remote.name}: {name} of the run-cache has no good copy here, and is in {aside} now"
        failed = remote.put_entries({name: data})
        if failed:
            raise DataError(f"{remote.name}: {name} could not be replaced: {failed[name]}")
        return f"{remote.name}: {name} of the run-cache is whole again, from the cache"


def _committed(repo: Repo) -> set[str]:
    """Name the stages of the last commit's `dvc.lock`, if there is one."""
    try:
        shown = subprocess.run(["git", "show", "HEAD:./dvc.lock"], cwd=repo.root_dir, capture_output=True, check=False)
        return set(yaml.load(shown.stdout, Loader=FastLoader)["stages"])
    except (FileNotFoundError, yaml.YAMLError, KeyError, TypeError):  # no git, no commit, or another file
        return set()


def _tree_of(folder: Path, oid: str) -> Tree | None:
    """List a folder of the workspace as DVC does; `None` when that is another list than the one named `oid`."""
    made = Tree()  # type: ignore[no-untyped-call]
    paths = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    for path, digest in digests(localfs, paths, os.cpu_count() or 1).items():
        made.add(Path(path).relative_to(folder).parts, Meta(), HashInfo("md5", digest))
    made.digest()
    return made if made.oid == oid else None


def _set_aside(file: Path, name: Path) -> Path:
    """Move a file to the folder of what was set aside."""
    place = _free(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    if file.is_symlink():  # into the cache: what counts is the bytes
        shutil.copyfile(file, place)
        file.unlink()
    else:
        shutil.move(file, place)
    return place


def _free(name: Path) -> Path:
    """Give a path in the folder of what was set aside at which nothing is."""
    place, number = ASIDE / name, 1
    while place.exists():
        number += 1
        place = place.with_name(f"{name.name}.{number}")
    return place


def _again(out: Output) -> str:
    return f"`dvc repro --force --single-item {out.stage.addressing}` makes it again."


def _shown(path: str) -> str:
    return os.path.relpath(path)
