"""A snapshot of the working tree as a commit outside any branch, so that workers also run uncommitted code."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname

import psutil

from labbook.errors import LabbookError

__all__ = ["Snapshot", "snapshot"]

IDENTITY = {"GIT_AUTHOR_NAME": "labbook", "GIT_AUTHOR_EMAIL": "labbook@localhost"}
IDENTITY |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in IDENTITY.items()}


@dataclass(frozen=True)
class Snapshot:
    """A commit and the repository from which to fetch it."""

    repository: str
    ref: str

    def check_out(self, clone: Path) -> None:
        """Check out the commit in `clone`, which is created if it does not exist.

        Files that git ignores, such as fetched data, are kept. The caller has exclusive access to the clone.

        Raises:
            LabbookError: git failed; the message contains its error.
        """
        try:
            self._fetch_and_check_out(clone)
        except LabbookError:
            shutil.rmtree(
                clone / ".git", ignore_errors=True
            )  # a killed git process may have left locks or a partial repository
            self._fetch_and_check_out(clone)

    def _fetch_and_check_out(self, clone: Path) -> None:
        if not (clone / ".git").exists():
            clone.mkdir(parents=True, exist_ok=True)
            _git("init", "--quiet", cwd=clone)
        _git("fetch", "--quiet", "--depth=1", "--no-tags", self.repository, self.ref, cwd=clone)
        _git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD", cwd=clone)
        _git("clean", "--quiet", "--force", "-d", cwd=clone)


@contextmanager
def snapshot(root: Path, repository: str | None) -> Iterator[Snapshot]:
    """Commit all files of the working tree, including untracked ones, except those that git ignores.

    Args:
        root: of the working tree.
        repository: git URL from which workers fetch; `None` for `root` itself.

    Raises:
        LabbookError: git failed; the message contains its error.
    """
    ours = f"refs/labbook/{gethostname()}-"
    for left in _git("for-each-ref", "--format=%(refname)", f"{ours}*", cwd=root).split():
        if not psutil.pid_exists(int(left.removeprefix(ours))):  # of a run that was killed
            _forget(left, root, repository)
    ref = f"{ours}{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        head = _git("rev-parse", "HEAD", cwd=root)
        _git("read-tree", "HEAD", cwd=root, **index)
        _git("add", "--all", cwd=root, **index)
        tree = _git("write-tree", cwd=root, **index)
    commit = _git("commit-tree", tree, "-p", head, "-m", "Working tree", cwd=root, **IDENTITY)
    try:
        _git("update-ref", ref, commit, cwd=root)
        if repository:
            _git("push", "--quiet", "--force", repository, f"{ref}:{ref}", cwd=root)
        yield Snapshot(repository or str(root.resolve()), ref)
    finally:
        _forget(ref, root, repository)


def _forget(ref: str, root: Path, repository: str | None) -> None:
    _git("update-ref", "-d", ref, cwd=root)
    if repository:
        with suppress(LabbookError):  # unreachable, or never pushed; do not hide the error of the run
            _git("push", "--quiet", "--delete", repository, ref, cwd=root)


def _git(*arguments: str, cwd: Path, **environment: str) -> str:
    try:
        ended = subprocess.run(
            ["git", *arguments], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise LabbookError("git: not found. Workers use it to fetch the code; install it.") from error
    if ended.returncode:
        raise LabbookError(f"git {arguments[0]}, in {cwd}: {' '.join(ended.stderr.split())}")
    return ended.stdout.strip()
