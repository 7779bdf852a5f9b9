"""Compare the hashes of all files in workspace, cache and remote with `dvc.lock` and the run cache.

A replacement is hashed before it is used. A workspace file that differs from `dvc.lock` may be somebody's work, so it is moved
to `.set_aside/`, never deleted. Damaged objects without an intact copy are moved there, too.
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
from labbook.io import write_atomically, write_bytes
from labbook.team.store import FastLoader, Store, hash_files, open_cache, parse_entry, read_tree, referenced_objects

__all__ = ["Objects"]

SET_ASIDE = Path(".set_aside")


class Objects:
    """All objects that a repository refers to, in workspace, cache and remote.

    Args:
        repo: the repository; the caller must hold its lock during repairs.
        remote: the remote to check, if any.
        hash_remote: whether to hash objects on the remote, instead of comparing names and sizes.
    """

    def __init__(self, repo: Repo, remote: Store | None, *, hash_remote: bool) -> None:
        self._repo = repo
        self._remote = remote
        self._hash_remote = hash_remote
        self._cache = open_cache(repo)
        self._cache_sizes = self._cache.sizes()
        self._damaged = self._cache.damaged(self._cache_sizes)
        self._remote_sizes = remote.sizes() if remote else {}
        self._stores = [self._cache, *([remote] if remote else [])]
        self._runs = self._cache.read_entries(self._cache.entries())
        entries = {name: parse_entry(name, data) for name, data in self._runs.items()}
        self._damaged_runs = {name for name, entry in entries.items() if not entry}
        self._producers = referenced_objects(repo, filter(None, entries.values()), *self._stores)

    @property
    def summary(self) -> str:
        """Describe what was hashed."""
        size = sum(self._cache_sizes.values()) / 1e6
        cache = f"{len(self._cache_sizes)} objects ({size:.0f} MB) and {len(self._runs)} run-cache entries"
        return f"{len(self._files)} files of the workspace, {cache}"

    def findings(self) -> Iterator[Finding]:
        """Yield all findings; those about the cache come first, because the others are repaired from it."""
        yield from self._check_cache()
        yield from self._check_run_cache()
        yield from self._check_workspace()
        if self._remote:
            yield from self._check_remote(self._remote)

    def _check_cache(self) -> Iterator[Finding]:
        for oid in sorted(self._damaged):
            producer = self._producers.get(oid, "an earlier commit")
            yield Finding(
                f"cache: {oid} of {producer} is damaged",
                "--repair replaces it with an intact copy, or moves it to .set_aside if there is none.",
                partial(self._repair_object, oid),
            )
        missing = [oid for oid in self._producers if oid not in self._cache_sizes]
        for oid in [oid for oid in missing if oid in self._cached_objects and self._in_workspace(oid)]:
            yield Finding(
                f"cache: {oid} of {self._producers[oid]} is missing, but the workspace has it",
                "--repair copies it into the cache.",
                partial(self._repair_object, oid),
            )

    def _check_run_cache(self) -> Iterator[Finding]:
        for name in sorted(self._damaged_runs):
            yield Finding(
                f"run cache: {name} is damaged",
                "--repair fetches it from the remote, or moves it to .set_aside, so that the stage runs again.",
                partial(self._repair_run, name),
            )

    def _check_workspace(self) -> Iterator[Finding]:
        unknown = [out for out in self._outs if out.hash_info.isdir and out.hash_info.value not in self._trees]
        for out in unknown:
            if Path(out.fs_path).exists() or out.hash_info.value in self._cache_sizes:
                yield Finding(
                    f"{out}: cannot be compared, because its list of files is damaged or missing", f"Run {_rerun_command(out)}"
                )
        unknown_stages = [stage for stage in self._repo.index.stages if not any(out.hash_info for out in stage.outs)]
        if unknown_stages:
            yield Finding(
                f"dvc.lock: {len(unknown_stages)} stages of dvc.yaml have not run", "Run `make repro`.", is_problem=False
            )
        if lost := _committed(self._repo) & {stage.addressing for stage in unknown_stages}:
            yield Finding(
                f"dvc.lock: lacks {len(lost)} stages of the last commit, such as {min(lost)}",
                "Run `git checkout dvc.lock` to restore them, or `make repro` to run them again.",
            )
        missing = 0
        for path, (oid, out) in self._files.items():
            actual = self._workspace_hashes[path]
            if actual is None and not Path(out.fs_path).exists():
                missing += 1
            elif actual != oid:
                state = "is missing" if actual is None else "differs from dvc.lock"
                remedy = (
                    f"--repair moves it to {SET_ASIDE} and restores the one in dvc.lock; to keep it, run `dvc commit {out}`."
                )
                if actual is None:
                    remedy = "--repair restores it."
                yield Finding(f"{_relative(path)} of {out.stage.addressing} {state}", remedy, partial(self._repair_file, path))
        if missing:
            yield Finding(f"{missing} outputs are not in the workspace", "Run `make pull` or `make repro`.", is_problem=False)

    def _check_remote(self, remote: Store) -> Iterator[Finding]:
        ours = self._producers.keys() | self._cache_sizes.keys()
        common = [oid for oid in ours if oid in self._remote_sizes]
        resized = {oid for oid in common if oid in self._intact and self._remote_sizes[oid] != self._cache_sizes[oid]}
        damaged = resized | (remote.damaged(common) if self._hash_remote else set())
        for oid in sorted(damaged):
            yield Finding(
                f"{remote.name}: {oid} of {self._producers.get(oid, 'an earlier commit')} is damaged",
                "--repair replaces it from the cache.",
                partial(self._repair_remote, remote, oid),
            )
        known = remote.entries()
        names = [name for name in known if self._hash_remote or known[name] != len(self._runs.get(name, b"." * known[name]))]
        for name, data in remote.read_entries(names).items():
            if not parse_entry(name, data):
                yield Finding(
                    f"{remote.name}: {name} of the run cache is damaged",
                    "--repair replaces it from the cache or moves it to .set_aside; `make pull` skips it.",
                    partial(self._repair_remote_run, remote, name),
                )
        unpushed = [oid for oid in self._producers if oid in self._intact and oid not in self._remote_sizes]
        if unpushed:
            yield Finding(f"{remote.name}: {len(unpushed)} objects have not been pushed", "Run `make push`.", is_problem=False)
        if not self._hash_remote:
            yield Finding(
                f"{remote.name}: {sum(oid in self._intact for oid in common)} objects of this clone match by name and size",
                f"--remote {remote.label} also hashes them.",
                is_problem=False,
            )

    @property
    def _intact(self) -> set[str]:
        return self._cache_sizes.keys() - self._damaged

    @cached_property
    def _outs(self) -> list[Output]:
        return [out for out in self._repo.index.outs if out.hash_info and out.hash_info.name == "md5" and out.is_in_repo]

    @cached_property
    def _trees(self) -> dict[str, Tree]:
        """The file lists of the directories in `dvc.lock`, from a store or from the workspace."""
        trees: dict[str, Tree] = {}
        for out in self._outs:
            oid = out.hash_info.value
            if out.hash_info.isdir and (tree := read_tree(oid, *self._stores) or _build_tree(Path(out.fs_path), oid)):
                trees[oid] = tree
        return trees

    @cached_property
    def _files(self) -> dict[str, tuple[str, Output]]:
        """The hash in `dvc.lock` and the output of each file, by path."""
        files: dict[str, tuple[str, Output]] = {}
        for out in self._outs:
            if not out.hash_info.isdir:
                files[out.fs_path] = out.hash_info.value, out
            for parts, _, info in self._trees.get(out.hash_info.value, ()):
                files[str(Path(out.fs_path, *parts))] = info.value, out
        return files

    @cached_property
    def _workspace_hashes(self) -> dict[str, str | None]:
        return hash_files(localfs, self._files, os.cpu_count() or 1)

    @cached_property
    def _cached_objects(self) -> set[str]:
        """The objects of cached outputs, which should be in the cache."""
        oids = {oid for oid, out in self._files.values() if out.use_cache}
        return oids | {out.hash_info.value for out in self._outs if out.use_cache}

    def _in_workspace(self, oid: str) -> tuple[FileSystem, str] | None:
        """Find an intact copy in the workspace; the list of a directory is built from its files."""
        if oid.endswith(".dir"):
            folders = (Path(out.fs_path) for out in self._outs if out.hash_info.value == oid)
            tree = next(filter(None, (_build_tree(folder, oid) for folder in folders)), None)
            return (tree.fs, tree.path) if tree else None
        paths = (path for path, (expected, _) in self._files.items() if expected == oid and self._workspace_hashes[path] == oid)
        path = next((path for path in paths if hash_files(localfs, [path], 1)[path] == oid), None)
        return (localfs, path) if path else None

    def _repair_object(self, oid: str) -> str:
        place = Path(self._cache.objects.oid_to_path(oid))
        if copy := self._in_workspace(oid):
            source, (fs, path) = "the workspace", copy
        elif self._remote and oid in self._remote_sizes and not self._remote.damaged([oid]):
            source, fs, path = self._remote.name, self._remote.files, self._remote.objects.oid_to_path(oid)
        else:
            moved = _set_aside(place, Path("cache", oid))
            del self._cache_sizes[oid]
            self._damaged.discard(oid)
            raise DataError(
                f"cache: no intact copy of {oid}; the damaged one is in {moved}. "
                f"Ask other members for it, or run its stage again: {self._producers.get(oid, 'an earlier commit')}"
            )
        failed = self._cache.put(fs, {oid: path})
        if failed or self._cache.damaged([oid]):
            raise DataError(
                f"cache: {oid} could not be replaced: {failed.get(oid, 'the new copy is damaged, too; check the disk')}"
            )
        self._cache_sizes[oid] = place.stat().st_size
        self._damaged.discard(oid)
        return f"cache: restored {oid} from {source}"

    def _repair_run(self, name: str) -> str:
        data = b""
        if self._remote and name in self._remote.entries():
            data = self._remote.read_entries([name])[name]
        if data and parse_entry(name, data) and not self._cache.put_entries({name: data}):
            return f"run cache: restored {name} from {self._remote.name if self._remote else ''}"
        moved = _set_aside(Path(self._cache.runs, *name.split("/")), Path("runs") / name)
        return f"run cache: {name} has no intact copy; moved it to {moved}"

    def _repair_file(self, path: str) -> str:
        oid, out = self._files[path]
        file = Path(path)
        if oid not in self._intact:
            git = "" if out.use_cache else f"`git checkout -- {_relative(path)}`, or "
            raise DataError(f"{_relative(path)}: the cache has no intact copy. Run `make pull`, {git}{_rerun_command(out)}")
        moved = _set_aside(file, Path(_relative(path))) if file.exists() or file.is_symlink() else None
        # Only this file: DVC's checkout would also replace its neighbours in a directory.
        write_atomically(file, lambda part: shutil.copyfile(self._cache.objects.oid_to_path(oid), part))
        if hash_files(localfs, [path], 1)[path] != oid:
            raise DataError(f"{_relative(path)}: could not be restored. Run {_rerun_command(out)}")
        return f"restored {_relative(path)}" + (f"; moved the previous file to {moved}" if moved else "")

    def _repair_remote(self, remote: Store, oid: str) -> str:
        if oid not in self._intact or self._cache.damaged([oid]):
            raise DataError(f"{remote.name}: no intact copy of {oid} in this clone. A member who has one can run this repair")
        failed = remote.put(self._cache.files, {oid: self._cache.objects.oid_to_path(oid)})
        if failed or remote.damaged([oid]):
            raise DataError(f"{remote.name}: {oid} could not be replaced: {failed.get(oid, 'it is damaged again')}")
        return f"{remote.name}: restored {oid} from the cache"

    def _repair_remote_run(self, remote: Store, name: str) -> str:
        data = self._runs.get(name)
        if not data or name in self._damaged_runs:
            moved = _unused_path(Path("runs", name))
            write_bytes(moved, remote.read_entries([name])[name])
            remote.files.remove(
                remote.files.join(remote.runs, *name.split("/"))
            )  # a member who has an intact one pushes it again
            return f"{remote.name}: {name} of the run cache has no intact copy in this clone; moved it to {moved}"
        failed = remote.put_entries({name: data})
        if failed:
            raise DataError(f"{remote.name}: {name} could not be replaced: {failed[name]}")
        return f"{remote.name}: restored {name} of the run cache from this clone"


def _committed(repo: Repo) -> set[str]:
    """Return the stages in the last commit's `dvc.lock`, if there is one."""
    try:
        shown = subprocess.run(["git", "show", "HEAD:./dvc.lock"], cwd=repo.root_dir, capture_output=True, check=False)
        return set(yaml.load(shown.stdout, Loader=FastLoader)["stages"])
    except (FileNotFoundError, yaml.YAMLError, KeyError, TypeError):  # no git, no commit, or another file
        return set()


def _build_tree(folder: Path, oid: str) -> Tree | None:
    """Return the list of files of a workspace folder as DVC builds it; `None` if its hash is not `oid`."""
    tree = Tree()  # type: ignore[no-untyped-call]
    paths = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    for path, digest in hash_files(localfs, paths, os.cpu_count() or 1).items():
        tree.add(Path(path).relative_to(folder).parts, Meta(), HashInfo("md5", digest))
    tree.digest()
    return tree if tree.oid == oid else None


def _set_aside(file: Path, name: Path) -> Path:
    """Move a file to `.set_aside/` and return its new path."""
    place = _unused_path(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    if file.is_symlink():  # into the cache: keep a copy
        shutil.copyfile(file, place)
        file.unlink()
    else:
        shutil.move(file, place)
    return place


def _unused_path(name: Path) -> Path:
    """Return an unused path in `.set_aside/`."""
    place, number = SET_ASIDE / name, 1
    while place.exists():
        number += 1
        place = place.with_name(f"{name.name}.{number}")
    return place


def _rerun_command(out: Output) -> str:
    return f"`dvc repro --force --single-item {out.stage.addressing}`."


def _relative(path: str) -> str:
    return os.path.relpath(path)
