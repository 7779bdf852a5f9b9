"""What a team shares, through faults: two clones and a folder, an SSH server or one that speaks S3 between them."""

import contextlib
import errno
import grp
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc.repo import Repo, lock_repo
from dvc_data.hashfile.hash import file_md5
from forks import Fork
from servers import SSHD, SshServer, s3_server
from sshfs import SSHFileSystem

from labbook.doctor.configuration import check_cache, check_remotes
from labbook.doctor.locks import check_locks, running_processes
from labbook.doctor.objects import Objects
from labbook.errors import LabbookError
from labbook.team.repository import open_repository
from labbook.team.setup import set_folder, set_s3, set_ssh
from labbook.team.store import open_cache, open_remote, referenced_objects
from labbook.team.transfer import pull, push

ROOT = Path(__file__).parents[1]
TRIALS = int(os.environ.get("LABBOOK_TRIALS", "1"))  # LABBOOK_TRIALS=100 pytest tests/test_teams.py -k whatever_breaks
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of what DVC is built on
PIPELINE = {
    "draw": {
        "cmd": "mkdir -p drawn && for i in 1 2 3; do seq $i $(cat size) > drawn/$i; done && echo >> ran",
        "deps": ["size"],
        "outs": ["drawn"],
    },
    "train": {
        "cmd": "cat drawn/1 drawn/2 drawn/3 > weights && echo '{\"lines\": '$(wc -l < weights)'}' > metrics.json; echo >> ran",
        "deps": ["drawn/1", "drawn/2", "drawn/3"],  # files of an output that is a folder
        "outs": ["weights"],
        "metrics": [{"metrics.json": {"cache": False}}],
    },
}
OUTPUTS = ("drawn/1", "drawn/2", "drawn/3", "weights", "metrics.json")


class Clone:
    """A clone of a small repository whose stages write down that they ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.become: list[str] = []  # another user
        self.variables = {"PYTHONPATH": str(ROOT / "src")}

    @property
    def environment(self) -> dict[str, str]:
        """That of the moment: the server's fixture, which changes HOME, may be set up after the clone."""
        return os.environ | self.variables

    @property
    def ran(self) -> int:
        return len((self.folder / "ran").read_text()) if (self.folder / "ran").exists() else 0

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        return self.module("dvc", *arguments, fails=fails)

    def module(self, *line: str, fails: bool = False) -> str:
        if self.become:
            with self.start(*line) as process:
                told, _ = process.communicate(timeout=120)
            code = process.returncode
        else:
            ended = Fork(*line, folder=self.folder, environment=self.environment).wait(120)
            told, code = ended.stdout + ended.stderr, ended.returncode
        assert (code != 0) == fails, told
        return told

    def start(self, *line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.become, sys.executable, "-m", *line],
            cwd=self.folder, env=self.environment, text=True,
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

    def take_commit(self, other: "Clone") -> None:
        """What git brings."""
        commit(other.folder)
        run_git(self.folder, "pull", "-q")

    def push(self) -> str:
        with self.open() as repo:
            return push(repo, None)

    def pull(self) -> str:
        with self.open() as repo:
            return pull(repo, None)

    def examine(self, *, repair: bool = False, remote: bool = True) -> list[str]:
        """Return the problems that the doctor finds; with `repair`, those that it could not repair."""
        left = []
        with self.open() as repo, lock_repo(repo):
            objects = Objects(repo, open_remote(repo, None) if remote else None, hash_remote=remote)
            for finding in objects.findings():
                try:
                    if repair and finding.repair:
                        finding.repair()
                    elif finding.is_problem:
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
    assert "0 objects and 0 runs pushed" in a.push()


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
        assert not open_remote(repo, None).put(localfs, {oid: str(weights)})
    damage(a.folder / "drawn/2")
    found = "\n".join(a.examine())
    assert f"cache: {oid} of train is damaged" in found
    assert "drawn/2 of draw differs from dvc.lock" in found
    assert f"remote team: {oid} of train is damaged" in found
    with pytest.raises(LabbookError, match=rf"{oid} of train: not fetched, or damaged in transit"):
        b.pull()
    assert "weights" not in b.outputs()
    assert a.examine(repair=True) == []
    assert a.examine() == []
    assert a.outputs() == good
    assert len(list(a.folder.glob(".set_aside/drawn/2"))) == 1
    b.pull()
    assert b.outputs() == good
    b.repro()
    assert b.ran == 0


def test_a_workspace_file_that_is_somebodys_work_is_set_aside(make_team):
    a, _ = make_team("folder")
    (a.folder / "weights").write_text("trained by hand\n")
    a.push()
    assert len(a.examine()) == 1
    assert (a.folder / "weights").read_text() == "trained by hand\n", "nothing is repaired unasked"
    assert a.examine(repair=True) == []
    assert (a.folder / ".set_aside/weights").read_text() == "trained by hand\n"
    assert a.outputs()["weights"] != b"trained by hand\n"


def test_what_lies_beside_a_file_that_is_mended_stays(make_team):
    a, _ = make_team("folder")
    good = a.outputs()
    for name in ("1", "2", "new"):
        (a.folder / "drawn" / name).write_text(f"work {name}\n")
    assert a.examine(repair=True, remote=False) == []
    assert a.outputs() == good
    assert {path.name: path.read_text() for path in (a.folder / ".set_aside/drawn").iterdir()} == {
        "1": "work 1\n",
        "2": "work 2\n",
    }
    assert (a.folder / "drawn/new").read_text() == "work new\n"


def test_what_is_wrong_here_is_not_laid_to_a_remote(trained, make_team, tmp_path):
    a, _ = make_team("folder")
    (a.folder / "dvc.lock").write_text("stages: [")
    with pytest.raises(LabbookError, match=r"^unable to read: 'dvc\.lock'.* corrupted: while parsing .* `git diff` shows"):
        a.push()
    shutil.copytree(trained, tmp_path / "alone")
    with pytest.raises(LabbookError, match=r"^no remote is set up\. Run `labbook team folder"):
        Clone(tmp_path / "alone").push()
    (a.folder / "dvc.yaml").write_text("")
    (a.folder / "dvc.lock").unlink()
    for command in (a.push, a.pull, a.examine):
        with pytest.raises(LabbookError, match=r"^dvc\.yaml: not found, or without stages\."):
            command()


def test_a_folder_that_is_gone_is_not_made_anew(make_team):
    """A disk of the network that is not mounted."""
    a, b = make_team("folder")
    a.push()
    store = a.folder.parent / "store"
    store.rename(store.with_name("unmounted"))
    for command in (a.push, b.pull):
        with pytest.raises(LabbookError, match=r"^remote team: .*store not found\. Mount its disk"):
            command()
    assert not store.exists()
    store.with_name("unmounted").rename(store)
    b.pull()
    assert b.outputs() == a.outputs()


def test_what_may_not_be_read_is_not_taken_for_damaged(make_team, monkeypatch):
    a, _ = make_team("folder")
    shut = a.object("weights")
    good = shut.read_bytes()

    def read(path: str, fs: object) -> str:
        if path == str(shut):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return file_md5(path, fs)

    monkeypatch.setattr("labbook.team.store.file_md5", read)
    with pytest.raises(LabbookError, match=rf"^{shut}: .*[Pp]ermission.* Ask its owner"):
        a.examine(repair=True, remote=False)
    assert shut.read_bytes() == good
    assert not (a.folder / ".set_aside").exists()


def test_a_remote_can_move(make_team, tmp_path):
    """To another kind, under the same name: nothing of the old one stays in either configuration."""
    a, _ = make_team("ssh")
    with a.open() as repo:
        set_folder(repo, "team", tmp_path / "folder", None)
    a.push()
    assert "[" not in (a.folder / ".dvc/config.local").read_text()


def test_without_a_good_copy_nothing_wrong_is_restored(make_team):
    a, _ = make_team("folder")
    good = a.outputs()
    damage(a.object("weights"))
    damage(a.folder / "weights")
    (left,) = [told for told in a.examine(repair=True, remote=False) if told.startswith("cache")]
    assert "no intact copy" in left
    assert "run its stage again: train" in left
    with a.open() as repo:
        repo.reproduce(["train"], force=True, single_item=True)
    assert a.outputs() == good
    assert a.examine(remote=False) == []


def test_a_damaged_list_of_a_directory_is_made_again_from_the_workspace(make_team):
    a, _ = make_team("folder")
    listed = a.object("drawn")
    good = listed.read_bytes()
    damage(listed, "cut")
    assert len(a.examine(remote=False)) == 1
    assert a.examine(repair=True, remote=False) == []
    assert listed.read_bytes() == good


def test_a_damaged_run_is_passed_over_and_mended(make_team):
    a, b = make_team("folder")
    a.push()
    for run in (b.folder.parent / "store/runs").rglob("*"):
        if run.is_file():
            damage(run)
    with pytest.raises(LabbookError, match="of the run cache: damaged on the remote"):
        b.pull()
    assert not any(path.is_file() for path in (b.folder / ".dvc/cache/runs").rglob("*"))
    assert a.examine(repair=True) == []
    assert "2 runs fetched" in b.pull()


def test_what_dvc_takes_for_whole_is_sent_again(make_team):
    """Half an object, and a directory of which a file is missing: left by a server that failed, or by another tool."""
    a, b = make_team("folder")
    a.push()
    store = b.folder.parent / "store/files/md5"
    cache = a.folder / ".dvc/cache/files/md5"
    damage(store / a.object("weights").relative_to(cache), "cut")
    listed = json.loads(a.object("drawn").read_text())
    (store / listed[0]["md5"][:2] / listed[0]["md5"][2:]).unlink()
    assert a.dvc("push").strip() == "Everything is up to date."
    assert "2 objects" in a.push()
    b.pull()
    assert b.outputs() == a.outputs()


def test_damage_is_not_sent(make_team):
    a, b = make_team("folder")
    damage(a.object("weights"))
    with pytest.raises(LabbookError, match=r"of train: damaged in the cache, not pushed"):
        a.push()
    b.pull()
    assert set(b.outputs()) == {"drawn/1", "drawn/2", "drawn/3", "metrics.json"}


def test_a_server_killed_in_the_middle_of_a_push(make_team, ssh):
    a, b = make_team("ssh")
    a.change(600_000)
    a.repro()
    store = a.folder.parent / "store"
    with a.start("labbook.team", "push") as process:
        while not any(path.name.endswith(".tmp") for path in store.rglob("*")):
            assert process.poll() is None, "it was too fast to be interrupted"
        ssh.kill()
        told, _ = process.communicate(timeout=60)
    ssh.start()
    assert process.returncode == 1, told
    assert "error: " in told
    a.module("labbook.team", "push")
    b.take_commit(a)
    b.module("labbook.team", "pull")
    b.repro()
    assert b.ran == 0
    assert b.outputs() == a.outputs()


def test_a_remote_that_cannot_be_listed_is_not_an_empty_one(make_team, tmp_path):
    a, _ = make_team("folder")
    a.push()
    objects = tmp_path / "store/files/md5"
    objects.rename(tmp_path / "away")
    objects.write_text("")
    with pytest.raises(LabbookError, match=f"{objects}: Not a directory"):
        a.push()


def test_two_people_push_at_once(make_team):
    a, b = make_team("ssh")
    b.repro()
    b.change(700)
    b.repro()
    pushes = [clone.start("labbook.team", "push") for clone in (a, b)]
    for push_ in pushes:
        with push_:
            told, _ = push_.communicate(timeout=60)
        assert push_.returncode == 0, told
    for clone in (a, b):
        assert clone.examine() == []


def test_a_full_disk_during_a_pull(make_team):
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    a, b = make_team("folder")
    a.change(5000)
    a.repro()
    a.push()
    b.take_commit(a)
    pull_ = f"{sys.executable} -m labbook.team pull"
    script = (
        "mkdir -p .dvc/cache && mount -t tmpfs -o size=120k none .dvc/cache;"
        f"{pull_}; echo status $?; cp -r .dvc/cache ../full;"
        f"mount -o remount,size=9m .dvc/cache; {pull_}; echo status $?; {sys.executable} -m dvc repro;"
        "cp -r .dvc/cache ../after"
    )
    told = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=b.folder, env=b.environment, capture_output=True, text=True, check=False
    )
    assert "status 1" in told.stdout, told
    assert "No space left on device" in told.stdout + told.stderr
    assert "status 0" in told.stdout.split("status 1")[1], told
    for folder in ("full", "after"):
        objects = [path for path in (b.folder.parent / folder / "files").rglob("*") if path.is_file() and path.suffix != ".tmp"]
        assert objects
        for path in objects:
            assert file_md5(str(path)) == path.parent.name + path.name.removesuffix(".dir")
    assert b.ran == 0
    assert b.outputs() == a.outputs()


def test_a_lost_lock_holder(make_team):
    """A number that another program has now, and a file cut off in the middle: DVC waits for ever, or stops every run."""
    a, _ = make_team("folder")
    lock = a.folder / ".dvc/tmp/rwlock"
    with subprocess.Popen(["sleep", "60"]) as other:
        held = {"pid": other.pid, "cmd": "dvc repro"}
        for content in (json.dumps({"write": {str(a.folder / "weights"): held}, "read": {}}), "", '{"write": {'):
            lock.write_text(content)
            (a.folder / "weights").unlink(missing_ok=True)
            with pytest.raises(DvcException):
                a.repro()
            with a.open() as repo:
                (finding,) = check_locks(repo)
                finding.repair()
                assert not list(check_locks(repo))
            a.repro()
        other.kill()


def test_a_lock_for_a_year_whose_holder_was_killed(make_team):
    """On file systems without locks, such as some NFS, `core.hardlink_lock` is what DVC advises."""
    a, _ = make_team("folder")
    (a.folder / ".dvc/config.local").write_text("[core]\n    hardlink_lock = true\n")
    hold = "from dvc.lock import HardlinkLock; import os; HardlinkLock('.dvc/tmp/lock', '.dvc/tmp').lock(); os._exit(9)"
    locks = [a.folder / ".dvc/tmp" / name for name in ("lock", "rwlock.lock")]
    for lock in locks:
        lock.unlink()
    subprocess.run([sys.executable, "-c", hold], cwd=a.folder, check=False)
    with a.open() as repo:
        (finding,) = check_locks(repo)
    assert f"remove {locks[0]}" in str(finding)
    assert finding.repair is None, "nobody knows whose it is"
    locks[0].unlink()
    a.repro()


def test_the_lock_of_a_run_that_is_at_work_is_left_alone(make_team):
    a, _ = make_team("folder")
    (a.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"slow": {"cmd": "sleep 60 > out", "outs": ["out"]}}}))
    with a.start("dvc", "repro") as process:
        while not (a.folder / "out").exists():
            assert process.poll() is None
            time.sleep(0.05)
        with a.open() as repo:
            assert not list(check_locks(repo))
            assert running_processes(repo) == {process.pid}
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.communicate()
    with a.open() as repo:
        (finding,) = check_locks(repo)
        finding.repair()
        assert running_processes(repo) == set()


def test_a_server_that_is_not_known_gets_nothing(make_team, ssh):
    """DVC alone takes any key, as its SSH library is told to."""
    a, _ = make_team("ssh")
    known = ssh.home / ".ssh/known_hosts"
    known.write_text("")
    try:
        for use in (push, pull, lambda repo, name: set_ssh(repo, "other", f"{ssh.address}:/elsewhere", ssh.port, None)):
            SSHFileSystem.clear_instance_cache()  # connections that are open
            with a.open() as repo, pytest.raises(LabbookError, match=r"Host key is not trusted.*known_hosts"):
                use(repo, None)
        assert "other" not in (a.folder / ".dvc/config").read_text()
        assert not any(path.is_file() for path in (a.folder.parent / "store").rglob("*"))
    finally:
        known.write_text(ssh.known_host)


def test_settings_that_are_not_safe_are_refused(make_team, tmp_path):
    a, _ = make_team("folder")
    before = (a.folder / ".dvc/config").read_text()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    s3 = {"endpoint": None, "region": None, "profile": None}
    refused = [
        ("absolute path", lambda repo: set_folder(repo, "x", Path("here"), None)),
        ("inside the repository", lambda repo: set_folder(repo, "x", a.folder / "inside", None)),
        ("writable by everybody", lambda repo: set_folder(repo, "x", tmp_path / "open", None)),
        ("no such group", lambda repo: set_folder(repo, "x", tmp_path / "new", "no-such-group")),
        ("ASCII characters", lambda repo: set_folder(repo, "x", tmp_path / "größe", None)),
        ("ASCII characters", lambda repo: set_folder(repo, "x", tmp_path / "%(home)s", None)),
        ("user@host:/folder", lambda repo: set_ssh(repo, "x", "server", None, None)),
        ("https", lambda repo: set_s3(repo, "x", "bucket", **s3 | {"endpoint": "http://example.org"})),
        (
            "AWS_SECRET_ACCESS_KEY",
            lambda repo: set_s3(repo, "x", "bucket", **s3 | {"endpoint": "https://key:secret@example.org"}),
        ),
    ]
    for reason, line in refused:
        with a.open() as repo, pytest.raises(LabbookError, match=reason):
            line(repo)
    assert (a.folder / ".dvc/config").read_text() == before


def test_unsafe_settings_of_others_are_found(make_team):
    a, _ = make_team("folder")
    with (a.folder / ".dvc/config").open("a") as config:
        config.write("['remote \"old\"']\n    url = s3://bucket\n    secret_access_key = secret\n    ssl_verify = false\n")
    with a.open() as repo:
        found = [str(finding) for finding in check_remotes(repo)]
    assert [told.split(":")[0] for told in found] == ["remote old"] * 3
    assert "not hashed" in found[0]
    assert "certificate" in found[1]
    assert "secret_access_key" in found[2]


@pytest.fixture
def users(make_team) -> tuple[Clone, Clone, str]:
    """Two users of a group, each with a clone of their own; the umask of one shuts out everybody."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root on Linux can be two users")
    group = next(group for group in grp.getgrall() if group.gr_gid)
    clones = make_team("folder")
    for user, umask, clone in zip((20001, 20002), ("022", "077"), clones, strict=True):
        for path in (clone.folder, *clone.folder.rglob("*")):
            os.chown(path, user, user)
        # To read is allowed to them, as Python may lie in a folder of root's; to write is not.
        may = "-all,+dac_read_search"
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={group.gr_gid}", f"--inh-caps={may}"]
        clone.become = [*become, f"--ambient-caps={may}", "sh", "-c", f'umask {umask}; exec "$@"', "sh"]
        home = str(clone.folder)
        clone.variables |= {"HOME": home, "USER": f"user{user}", "DVC_SITE_CACHE_DIR": f"{home}/.site"}
    return *clones, group.gr_name


def test_two_users_share_a_folder(users, tmp_path):
    a, b, group = users
    with a.open() as repo:
        set_folder(repo, "team", tmp_path / "store", group)
    shutil.copy(a.folder / ".dvc/config", b.folder / ".dvc/config")
    a.module("labbook.team", "push")
    b.module("labbook.team", "pull")
    b.module("dvc", "repro")
    assert b.ran == 0
    b.change(700)
    b.module("dvc", "repro")
    assert b.ran == 2
    b.module("labbook.team", "push")
    before = a.ran
    a.change(700)
    a.module("labbook.team", "pull")
    a.module("labbook.repro", "--pull")
    assert a.ran == before
    assert a.outputs() == b.outputs()
    theirs = [path for path in (tmp_path / "store/files").rglob("*") if path.is_file() and path.stat().st_uid == 20001]
    assert theirs
    for attack in (f"echo > {theirs[0]}", f"rm -f {theirs[0]}", f"mv {theirs[0]} {theirs[0]}.away"):
        assert subprocess.run([*b.become, "sh", "-c", attack], capture_output=True, check=False).returncode


def test_two_users_share_a_cache(users, tmp_path):
    """What one trained, the other has at once, and neither way is anything pushed."""
    a, b, group = users
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 20001, 20001)
    for clone in (a, b):
        clone.module("labbook.team", "cache", str(tmp_path / "cache"), "--group", group)
    a.change(800)
    a.module("dvc", "repro")
    b.change(800)
    b.module("dvc", "repro")
    assert b.ran == 0
    assert b.outputs() == a.outputs()
    b.change(900)
    b.module("dvc", "repro")
    before = a.ran
    a.change(900)
    a.module("dvc", "repro")
    assert a.ran == before
    with a.open() as repo:
        assert not list(check_cache(repo))


FAULTS = ("cache", "workspace", "remote", "runs", "remote runs", "push killed", "pull killed", "both push", "lock")


@pytest.mark.parametrize("seed", range(TRIALS))
def test_nothing_is_lost_and_nothing_wrong_restored_whatever_breaks(make_team, seed):
    """Some faults in some order, then each does what docs/teams.md says: doctor, push, pull, repro."""
    dice = random.Random(seed)
    a, b = make_team(dice.choice(("folder", "folder", "ssh" if SSHD else "folder", "s3")))
    good = a.outputs()
    with a.open() as repo:
        objects = {oid.removesuffix(".dir") for oid in referenced_objects(repo, (), open_cache(repo))}
    if dice.random() < 0.7:
        a.push()
    if dice.random() < 0.3:
        b.pull()
    for fault in dice.choices(FAULTS, k=dice.randint(1, 4)):
        break_something(fault, a, b, dice)
        assert b.outputs().items() <= good.items(), "b has nothing but what was restored"
    lost = objects - copies(a, b)
    ran = a.ran + b.ran
    for _ in range(2):  # what one repairs on the remote, the other can fetch
        for clone in (a, b):
            with contextlib.suppress(LabbookError):
                clone.pull()
            heal(clone)
            with contextlib.suppress(LabbookError):
                clone.push()
            assert b.outputs().items() <= good.items()
    for clone in (a, b):
        clone.repro(pull=True)
        assert clone.outputs() == good
        assert clone.examine(repair=True) == []
        clone.push()
        assert clone.examine() == []
    assert lost or a.ran + b.ran == ran, "something ran again of which there was a good copy"


def copies(a: Clone, b: Clone) -> set[str]:
    """Hash whatever there is, in both clones and on the remote."""
    found = {file_md5(str(path)) for clone in (a, b) for path in clone.folder.rglob("*") if path.is_file()}
    with a.open() as repo:
        remote = open_remote(repo, None)
        oids = remote.sizes()
        return found | {oid.removesuffix(".dir") for oid in oids.keys() - remote.damaged(oids)}


def break_something(fault: str, a: Clone, b: Clone, dice: random.Random) -> None:
    places = {"cache": a.folder / ".dvc/cache/files", "runs": a.folder / ".dvc/cache/runs", "workspace": a.folder / "drawn"}
    if fault in places:
        files = sorted(path for path in places[fault].rglob("*") if path.is_file())
        for path in dice.sample(files, min(len(files), dice.randint(1, 3))):
            damage(path, dice.choice(("flip", "cut"))) if dice.random() < 0.8 else path.unlink()
    elif fault in {"remote", "remote runs"}:
        with a.open() as repo:
            store = open_remote(repo, None)
            paths = [store.objects.oid_to_path(oid) for oid in sorted(store.sizes())]
            if fault == "remote runs":
                paths = [store.files.join(store.runs, name) for name in sorted(store.entries())]
            for path in dice.sample(paths, min(len(paths), dice.randint(1, 3))):
                with store.files.open(path, "rb") as file:
                    data = file.read()
                store.files.remove(path)
                if dice.random() < 0.8:
                    store.files.put_file(io.BytesIO(dice.choice((data[1:], data[:-1] + b"\0"))), path, size=len(data))
    elif fault == "lock":
        (a.folder / ".dvc/tmp/rwlock").write_text(dice.choice(("", "{")))
    else:
        use_both(fault, a, b, dice)


def use_both(fault: str, a: Clone, b: Clone, dice: random.Random) -> None:
    lines = {"push killed": [(a, "push")], "pull killed": [(b, "pull")], "both push": [(a, "push"), (b, "push")]}[fault]
    reached = b.folder / ".dvc/cache" if fault == "pull killed" else a.folder.parent / "store"
    before = count_files(reached)
    processes = [clone.start("labbook.team", what) for clone, what in lines]
    for process in processes:
        with process:
            if "killed" in fault:
                while process.poll() is None and count_files(reached) == before:  # of S3 nothing is seen: until it ends
                    time.sleep(0.005)
                time.sleep(dice.uniform(0, 0.03))
                process.kill()
            process.communicate(timeout=60)


def count_files(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*"))


def heal(clone: Clone) -> None:
    with clone.open() as repo:
        for finding in check_locks(repo):
            finding.repair()
    for left in clone.examine(repair=True):
        assert "no intact copy" in left or "make" in left or "run its stage again" in left, left
