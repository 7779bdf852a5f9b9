"""`python -m labbook.repro` in small repositories of its own, beside `dvc repro`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from labbook.repro import __main__ as command
from labbook.repro.entries import modify_whole

ROOT = Path(__file__).parents[1]
WAITING = "import pathlib, sys, time; p = pathlib.Path(sys.argv[1]); [time.sleep(0.02) for _ in range(1500) if not p.exists()]"
DVC = [sys.executable, "-m", "dvc", "repro"]


def side_by_side(*arguments: str, jobs: int = 2) -> list[str]:
    return [sys.executable, "-m", "labbook.repro", "--jobs", str(jobs), *arguments]


class Repository:
    """A DVC repository; `stages` maps a name to its command and what it depends on, and each writes a file of its name."""

    def __init__(self, folder: Path, stages: dict[str, tuple[str, list[str]]]) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        (folder / ".dvc").mkdir(parents=True)
        (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        self.write(stages)

    def write(self, stages: dict[str, tuple[str, list[str]]]) -> None:
        blocks = {name: {"cmd": cmd, "deps": deps, "outs": [name]} for name, (cmd, deps) in stages.items()}
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))

    @property
    def options(self) -> dict[str, object]:
        path = os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
        return {"cwd": self.folder, "env": os.environ | {"PYTHONPATH": path, "DVC_NO_ANALYTICS": "1"}, "text": True}

    def run(self, line: list[str], *, check: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(line, capture_output=True, check=check, timeout=60, **self.options)  # type: ignore[call-overload, no-any-return]

    def start(self, line: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=listen,  # noqa: PLW1509 - no other thread here
            **self.options,  # type: ignore[call-overload]
        )
        self.started.append(process)
        return process

    def await_file(self, name: str) -> None:
        deadline = time.monotonic() + 30
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} was not written"
            time.sleep(0.02)

    @property
    def lock(self) -> str:
        return (self.folder / "dvc.lock").read_text()

    def entries(self) -> list[str]:
        return list(yaml.safe_load(self.lock)["stages"])


def listen() -> None:
    """Let a process hear all signals: one that runs in the background of a shell inherits that some are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def repository(tmp_path):
    made: list[Repository] = []

    def make(name: str = "work", **stages: tuple[str, list[str]]) -> Repository:
        made.append(Repository(tmp_path / name, stages))
        return made[-1]

    yield make
    for process in (process for work in made for process in work.started):
        process.kill()
        process.communicate()


def until(name: str) -> str:
    """Give a command that ends when a file is there."""
    return f"{sys.executable} -c '{WAITING}' {name}"


def test_stages_that_need_nothing_of_each_other_run_at_once(repository):
    # Each ends only when the other has begun.
    work = repository(
        a=(f"touch a.began && {until('b.began')} && touch a", []), b=(f"touch b.began && {until('a.began')} && touch b", [])
    )
    ended = work.run(side_by_side())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert work.entries() == ["a", "b"]


def test_files_are_those_of_a_sequential_run(repository):
    stages = {
        "slow": (f"{until('quick')} && echo slow > slow", []),  # stands first and is done last
        "quick": ("sleep 0.1 && echo quick > quick", []),
        "next": ("cat quick quick > next", ["quick"]),
        "last": ("cat slow next > last", ["slow", "next"]),
    }
    ours, theirs = repository("ours", **stages), repository("theirs", **stages)
    (theirs.folder / "quick").touch()  # one at a time, `slow` waits for a file that is there
    for work, line in ((ours, side_by_side()), (theirs, DVC)):
        ended = work.run(line)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ours.lock == theirs.lock
    assert [(ours.folder / name).read_bytes() for name in stages] == [(theirs.folder / name).read_bytes() for name in stages]
    assert "up to date" in ours.run(DVC).stdout
    again = ours.run(side_by_side())
    assert "up to date" in again.stdout
    assert "Running" not in again.stdout


def test_changed_command_moves_no_entry(repository):
    work = repository(a=("echo 1 > a", []), b=("cat a > b", ["a"]), c=("echo 3 > c", []))
    work.run(side_by_side(), check=True)
    work.write({"a": ("echo 2 > a", []), "b": ("cat a > b", ["a"]), "c": ("echo 3 > c", []), "d": ("cat c > d", ["c"])})
    ended = work.run(side_by_side(), check=True)
    assert work.entries() == ["a", "b", "c", "d"]
    assert (work.folder / "b").read_text() == "2\n"
    assert "Running stage 'c'" not in ended.stdout


def test_lines_stand_behind_the_name_of_their_stage(repository):
    work = repository(a=("echo from-a && echo wrong >&2 && touch a", []), b=("touch b", []))
    shown = work.run(side_by_side(), check=True).stdout.splitlines()
    assert {"[a] from-a", "[a] wrong"} <= set(shown)


def test_failure_lets_those_at_work_end_and_starts_no_other(repository):
    work = repository(
        fails=(f"{until('good.began')} && false", []),
        good=("touch good.began && sleep 1 && touch good", []),
        after=("touch after", ["fails"]),
        other=("touch other", ["good"]),
    )
    ended = work.run(side_by_side())
    assert ended.returncode != 0
    assert "fails" in ended.stderr
    assert work.entries() == ["good"]
    assert not (work.folder / "after").exists()
    assert not (work.folder / "other").exists()


def test_keep_going_runs_what_does_not_depend_on_the_failure(repository):
    work = repository(
        fails=("false", []), after=("touch after", ["fails"]), good=("touch good", []), other=("touch other", ["good"])
    )
    ended = work.run(side_by_side("--keep-going"))
    assert ended.returncode != 0
    assert work.entries() == ["good", "other"]
    assert "'after' will be skipped" in ended.stderr


@pytest.mark.parametrize(("flag", "ran"), [("--force", ["a", "b", "c"]), ("--single-item", ["b"]), ("--dry", [])])
def test_flags_mean_what_they_mean_to_dvc(repository, flag, ran):
    work = repository(
        a=("echo a >> log && touch a", []), b=("echo b >> log && touch b", ["a"]), c=("echo c >> log && touch c", [])
    )
    work.run(side_by_side(), check=True)
    (work.folder / "log").write_text("")
    targets = ["b"] if flag == "--single-item" else []
    forced = ["--force"] if flag == "--single-item" else []
    work.run(side_by_side(flag, *forced, *targets), check=True)
    assert sorted((work.folder / "log").read_text().split()) == ran


def test_force_downstream_runs_what_follows(repository):
    work = repository(a=("touch a", []), b=("echo b >> log && touch b", ["a"]))
    work.run(side_by_side(), check=True)
    work.write({"a": ("touch a # changed", []), "b": ("echo b >> log && touch b", ["a"])})  # the same file: b need not run
    work.run(side_by_side("--force-downstream"), check=True)
    assert (work.folder / "log").read_text() == "b\nb\n"


def test_first_failure_of_a_new_repository_is_told(repository):
    ended = repository(a=("false", [])).run(side_by_side())
    assert ended.returncode != 0
    assert "failed to run: false, exited with 1" in ended.stderr


def test_every_failure_is_told_with_its_cause(repository):
    work = repository(
        a=(f"touch began && {until('b.began')} && exit 3", []), b=(f"touch b.began && {until('began')} && exit 4", [])
    )
    ended = work.run(side_by_side())
    assert "exited with 3" in ended.stderr
    assert "exited with 4" in ended.stderr


def test_what_a_command_leaves_behind_is_not_waited_for(repository):
    work = repository(a=(f"({until('never')} &) && touch a", []), b=("touch b", []))
    started = time.monotonic()
    assert work.run(side_by_side()).returncode == 0
    assert time.monotonic() < started + 25  # it would hold the pipe for 30
    (work.folder / "never").touch()


def test_stage_without_outputs_and_renamed_outputs_keep_their_places(repository):
    work = repository(a=("echo a > a", []), b=("echo b > b", []))
    blocks = yaml.safe_load((work.folder / "dvc.yaml").read_text())["stages"]
    blocks = {"look": {"cmd": "cat seen", "deps": ["seen"]}} | blocks
    (work.folder / "seen").write_text("1")
    (work.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))
    work.run(DVC, check=True)
    (work.folder / "seen").write_text("2")
    blocks["a"] = {"cmd": "echo a > renamed", "outs": ["renamed"]}
    (work.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))
    work.run(side_by_side(), check=True)
    assert work.entries() == ["look", "a", "b"]


def test_a_file_that_is_still_read_stays_locked(repository):
    readers = {
        "a": (f"{until('b.began')} && cat data > a", ["data"]),
        "b": (f"touch b.began && {until('go')} && cat data > b", ["data"]),
    }
    work = repository(data=("echo 1 > data", []), **readers, after=("cat a > after && touch after.ran", ["a"]))
    process = work.start(side_by_side())
    work.await_file("after.ran")  # a has ended, b has not
    refused = work.run([*DVC, "--force", "--single-item", "data"])
    (work.folder / "go").touch()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "busy" in refused.stderr


def test_lock_files_are_replaced_whole(tmp_path):
    path = tmp_path / "dvc.lock"
    path.write_text("stages: {a: 1}\n")
    with pytest.raises(ZeroDivisionError), modify_whole(str(path)) as data:
        data["stages"]["a"] = 1 / 0
    assert path.read_text() == "stages: {a: 1}\n"
    with modify_whole(str(path)) as data:
        data["stages"]["a"] = 2
    assert yaml.safe_load(path.read_text()) == {"stages": {"a": 2}}


def test_entries_are_written_while_a_long_stage_runs(repository, tmp_path):
    work = repository(a=("touch a", []), b=(f"{until('go')} && touch b", []))
    hurried = "import runpy, labbook.repro.side_by_side as s, labbook.repro.entries as e; s.IDLE_SECONDS = e.SECONDS = 1; "
    hurried += "runpy.run_module('labbook.repro', run_name='__main__')"
    process = work.start([sys.executable, "-c", hurried, "--jobs", "2"])
    work.await_file("dvc.lock")
    assert work.entries() == ["a"]
    (work.folder / "go").touch()
    process.communicate(timeout=30)
    assert work.entries() == ["a", "b"]


def test_lock_of_files_that_a_killed_process_left_empty_is_forgotten(repository):
    work = repository(a=("touch a", []))
    inner = work.folder / ".dvc" / "tmp"
    inner.mkdir(exist_ok=True)
    (inner / "rwlock").touch()
    assert work.run(side_by_side()).returncode == 0


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # ended, and nobody has asked yet how
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGHUP, 2), (signal.SIGTERM, 1)])
def test_interrupted_run_leaves_no_command_behind_and_goes_on_later(repository, number, jobs):
    sleeping = f'{sys.executable} -c \'import os, time; open("pid", "w").write(str(os.getpid())); time.sleep(50)\' && touch a'
    work = repository(b=("touch b", []), c=("touch c", ["b"]), a=(sleeping, []))
    process = work.start(side_by_side(jobs=jobs))
    for name in ("pid", "c"):
        work.await_file(name)
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode != 0, output
    assert not running(int((work.folder / "pid").read_text()))
    work.write({"b": ("touch b", []), "c": ("touch c", ["b"]), "a": ("touch a", [])})
    ended = work.run(side_by_side())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Running stage 'b'" not in ended.stdout  # what was done is known


def test_a_second_signal_ends_what_does_not_listen_to_the_first(repository):
    deaf = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); open('pid', 'w').write(str(os.getpid())); time.sleep(50)"
    )
    work = repository(a=(f'{sys.executable} -c "{deaf}" ; touch a', []), b=("touch b", []))
    process = work.start(side_by_side())
    for name in ("pid", "b"):
        work.await_file(name)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode != 0, output
    assert not running(int((work.folder / "pid").read_text()))
    assert work.entries() == ["b"]


def test_the_repository_is_free_while_commands_run(repository):
    work = repository(
        a=(f"touch a.began && {until('go')} && touch a", []), b=(f"{until('go')} && touch b", []), c=("touch c", [])
    )
    work.run([*DVC, "--single-item", "c"], check=True)
    process = work.start(side_by_side())
    work.await_file("a.began")
    status = work.run([sys.executable, "-m", "dvc", "status", "c"])
    (work.folder / "go").touch()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert status.returncode == 0, status.stderr


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_wrong_number_of_jobs_is_told(jobs):
    line = [sys.executable, "-m", "labbook.repro", f"--jobs={jobs}"]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--jobs" in ended.stderr


@pytest.mark.parametrize(
    ("cores", "threads", "memory_gib", "device", "jobs"),
    [(8, 2, 64, "cpu", 4), (2, 1, 24, "cpu", 2), (1, 4, 24, "cpu", 1), (64, 1, 16, "cpu", 2), (8, 1, 1, "cpu", 1)],
)
def test_jobs_fit_on_the_cores_and_in_memory(monkeypatch, cores, threads, memory_gib, device, jobs):
    monkeypatch.setattr(command, "read", lambda: {"seed": 0, "device": device, "threads": threads})
    monkeypatch.setattr(command.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(command.os, "sysconf", lambda name: (memory_gib << 30) if name == "SC_PHYS_PAGES" else 1)
    assert command.default_jobs() == jobs


def test_accelerator_takes_one_stage_at_a_time(monkeypatch):
    monkeypatch.setattr(command, "read", lambda: {"seed": 0, "device": "auto", "threads": 1})
    monkeypatch.setattr(command.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert command.default_jobs() == 1


def test_params_that_cannot_be_read_leave_it_to_the_check_stage(monkeypatch):
    monkeypatch.setattr(command, "read", dict)
    assert command.default_jobs() == 1
