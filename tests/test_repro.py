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

ROOT = Path(__file__).parents[1]
WAITING = "import pathlib, sys, time; p = pathlib.Path(sys.argv[1]); [time.sleep(0.02) for _ in range(1500) if not p.exists()]"
DVC = [sys.executable, "-m", "dvc", "repro"]


def side_by_side(*arguments: str, jobs: int = 2) -> list[str]:
    return [sys.executable, "-m", "labbook.repro", "--jobs", str(jobs), *arguments]


class Repository:
    """A DVC repository; `stages` maps a name to its command and what it depends on, and each writes a file of its name."""

    def __init__(self, folder: Path, stages: dict[str, tuple[str, list[str]]]) -> None:
        self.folder = folder
        folder.mkdir()
        self.write(stages)
        for line in ("git init -q", f"{sys.executable} -m dvc init -q"):
            self.run(line.split(), check=True)

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
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self.options)  # type: ignore[call-overload, no-any-return]

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


@pytest.fixture
def repository(tmp_path):
    def make(name: str = "work", **stages: tuple[str, list[str]]) -> Repository:
        return Repository(tmp_path / name, stages)

    return make


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


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # ended, and nobody has asked yet how
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_no_command_behind_and_goes_on_later(repository, number):
    sleeping = f'{sys.executable} -c \'import os, time; open("pid", "w").write(str(os.getpid())); time.sleep(50)\' && touch a'
    work = repository(a=(sleeping, []), b=("touch b", []), c=("touch c", ["b"]))
    process = work.start(side_by_side())
    for name in ("pid", "c"):
        work.await_file(name)
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode != 0, output
    assert not running(int((work.folder / "pid").read_text()))
    work.write({"a": ("touch a", []), "b": ("touch b", []), "c": ("touch c", ["b"])})
    ended = work.run(side_by_side())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Running stage 'b'" not in ended.stdout  # what was done is known


def test_another_dvc_process_waits_for_its_turn(repository):
    work = repository(a=(f"touch a.began && {until('go')} && touch a", []), b=(f"{until('go')} && touch b", []))
    process = work.start(side_by_side())
    work.await_file("a.began")
    status = work.run([sys.executable, "-m", "dvc", "status"])  # while commands run, the repository is free
    (work.folder / "go").touch()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "Unable to acquire lock" not in status.stderr


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_wrong_number_of_jobs_is_told(jobs):
    line = [sys.executable, "-m", "labbook.repro", f"--jobs={jobs}"]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--jobs" in ended.stderr


@pytest.mark.parametrize(
    ("cores", "threads", "memory_gib", "device", "jobs"),
    [(8, 2, 64, "cpu", 4), (2, 1, 24, "cpu", 2), (1, 4, 24, "cpu", 1), (64, 1, 16, "cpu", 4), (8, 1, 1, "cpu", 1)],
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
