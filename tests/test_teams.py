"""What a team shares, through faults: two clones and a folder, an SSH server or one that speaks S3 between them."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from servers import SSHD, SshServer, s3_server

from dvc.fs import localfs
from dvc.repo import Repo, lock_repo
from labbook.core.errors import LabbookError
from labbook.doctor.objects import Objects
from labbook.team.repository import open_repository
from labbook.team.setup import set_folder, set_s3, set_ssh
from labbook.team.store import cache_of, remote_of
from labbook.team.transfer import pull, push

ROOT = Path(__file__).parents[1]
TRIALS = int(os.environ.get("LABBOOK_TRIALS", "5"))  # LABBOOK_TRIALS=100 pytest tests/test_teams.py -k whatever_breaks
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of what DVC is built on
PIPELINE = {
    "draw": {
        "cmd": "mkdir -p drawn && for i in 1 2 3; do seq $i $(cat size) > drawn/$i; done && echo >> ran",
        "deps": ["size"],
        "outs": ["drawn"],
    },
    "train": {
        "cmd": "cat drawn/1 drawn/2 drawn/3 > weights && echo '{\"lines\": '$(wc -l < weights)'}' > metrics.json && echo >> ran",
        "deps": ["drawn"],
        "outs": ["weights"],
        "metrics": [{"metrics.json": {"cache": False}}],
    },
}
OUTPUTS = ("drawn/1", "drawn/2", "drawn/3", "weights", "metrics.json")


class Clone:
    """A clone of a small repository whose stages write down that they ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def ran(self) -> int:
        return len((self.folder / "ran").read_text()) if (self.folder / "ran").exists() else 0

    def dvc(self, *arguments: str) -> str:
        return self.module("dvc", *arguments)

    def module(self, *line: str, fails: bool = False) -> str:
        with self.start(*line) as process:
            told, _ = process.communicate(timeout=120)
        assert (process.returncode != 0) == fails, told
        return told

    def start(self, *line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *line],
            cwd=self.folder, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def outputs(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in OUTPUTS if (self.folder / name).exists()}

    def object(self, name: str) -> Path:
        """The cache's copy of an output."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]
        outs = {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"]}
        return self.folder / ".dvc/cache/files/md5" / outs[name][:2] / outs[name][2:]

    def change(self, size: int) -> None:
        (self.folder / "size").write_text(f"{size}\n")

    @contextlib.contextmanager
    def open(self) -> Iterator[Repo]:
        with contextlib.chdir(self.folder), contextlib.closing(open_repository()) as repo:
            yield repo

    def repro(self, *, pull: bool = False) -> None:
        with self.open() as repo:
            repo.reproduce(pull=pull)

    def push(self) -> str:
        with self.open() as repo:
            return push(repo, None)

    def pull(self) -> str:
        with self.open() as repo:
            return pull(repo, None)

    def examine(self, *, mend: bool = False, remote: bool = True) -> list[str]:
        """Say what the doctor finds wrong, and mend it; what could not be mended is given."""
        left = []
        with self.open() as repo, lock_repo(repo):
            objects = Objects(repo, remote_of(repo, None) if remote else None, hash_remote=remote)
            for finding in objects.findings():
                try:
                    if mend and finding.mend:
                        finding.mend()
                    elif finding.wrong:
                        left.append(str(finding))
                except LabbookError as error:
                    left.append(str(error))
        return left


@pytest.fixture(scope="module")
def _ground(tmp_path_factory) -> Iterator[None]:
    """Nothing of the user's own: DVC's state, keys, identity."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        patch.setenv("DVC_NO_ANALYTICS", "1")
        for name in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{name}_NAME", "test")
            patch.setenv(f"GIT_{name}_EMAIL", "test@localhost")
        for name in ("AWS_PROFILE", "SSH_AUTH_SOCK", "HTTP_PROXY", "http_proxy"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory, _ground) -> Path:
    """A repository whose pipeline has run; tests copy it."""
    folder = tmp_path_factory.mktemp("trained") / "a"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": PIPELINE}, sort_keys=False))
    (folder / ".gitignore").write_text("/ran\n/drawn\n/weights\n/.set_aside/\n")
    (folder / "size").write_text("1000\n")
    run_git(folder, "init", "-q")
    Clone(folder).dvc("repro", "-q")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def ssh(tmp_path_factory, _ground) -> Iterator[SshServer]:
    if SSHD is None:
        pytest.skip("OpenSSH's server is not installed: apt-get install openssh-server")
    server = SshServer(tmp_path_factory.mktemp("ssh"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(server.home))
        yield server
    server.kill()


@pytest.fixture(scope="module")
def s3(_ground) -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "ssh", "s3"])
def team(request, make_team) -> tuple[Clone, Clone]:
    """Two clones with a remote of each kind between them; the first has trained."""
    return make_team(request.param)


@pytest.fixture
def make_team(trained, tmp_path, request) -> Callable[[str], tuple[Clone, Clone]]:
    def make(kind: str) -> tuple[Clone, Clone]:
        a, b = Clone(tmp_path / "a"), Clone(tmp_path / "b")
        shutil.copytree(trained, a.folder)
        with a.open() as repo:
            if kind == "ssh":
                server = request.getfixturevalue("ssh")
                set_ssh(repo, "team", f"{server.address}:{tmp_path / 'store'}", server.port, None)
            elif kind == "s3":
                address = request.getfixturevalue("s3")
                set_s3(repo, "team", f"labbook/{tmp_path.name}", endpoint=address, region=None, profile=None)
            else:
                set_folder(repo, "team", tmp_path / "store", None)
        commit(a.folder)
        run_git(tmp_path, "clone", "-q", str(a.folder), str(b.folder))
        if (a.folder / ".dvc/config.local").exists():
            shutil.copy(a.folder / ".dvc/config.local", b.folder / ".dvc")
        return a, b

    return make


def run_git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-qm", "change")


def damage(path: Path, how: str = "flip") -> None:
    """Change bytes of a file, and nothing else that DVC looks at: mode, size and time stay."""
    stat = path.stat()
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[: len(data) // 2] if how == "cut" else bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    path.chmod(stat.st_mode)


def test_a_clone_pulls_and_trains_nothing(team):
    a, b = team
    a.push()
    b.pull()
    b.repro()
    assert b.ran == 0
    assert b.outputs() == a.outputs()
    assert "0 objects and 0 runs sent" in a.push()


def test_what_anybody_once_trained_is_not_trained_again(team):
    """An earlier run, of which no commit speaks: `dvc push --run-cache` leaves its objects behind."""
    a, b = team
    before = a.outputs()
    a.change(500)
    a.repro()
    other = a.outputs()
    a.change(1000)
    a.repro()
    assert a.outputs() == before
    a.push()
    b.pull()
    b.change(500)
    b.repro(pull=True)
    assert b.ran == 0
    assert b.outputs() == other


def test_damage_is_found_and_mended_wherever_it_is(team):
    a, b = team
    good = a.outputs()
    a.push()
    weights = a.object("weights")
    oid = weights.parent.name + weights.name
    damage(weights)
    with a.open() as repo:
        assert not repo.status(), "DVC believes what is read-only"
        assert not remote_of(repo, None).put(localfs, {oid: str(weights)})
    damage(a.folder / "drawn/2")
    found = "\n".join(a.examine())
    assert f"cache: {oid} of train is damaged" in found
    assert "drawn/2 of draw is not what dvc.lock says" in found
    assert f"remote team: {oid} of train is damaged" in found
    with pytest.raises(LabbookError, match=rf"{oid} of train: not fetched, or what came was damaged"):
        b.pull()
    assert "weights" not in b.outputs()
    assert a.examine(mend=True) == []
    assert a.examine() == []
    assert a.outputs() == good
    assert len(list(a.folder.glob(".set_aside/drawn/2"))) == 1
    b.pull()
    assert b.outputs() == good
    b.repro()
    assert b.ran == 0
