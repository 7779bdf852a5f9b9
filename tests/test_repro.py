"""`python -m labbook.repro` in small repositories of its own, beside `dvc repro`."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from dvc.repo import Repo
from forks import Fork
from toolbox import toy_settings

from labbook.repro.entries import modify_atomically
from labbook.repro.needs import Needs, read_needs

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

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the stages of dvc.yaml by a function of them."""
        path = self.folder / "dvc.yaml"
        stages = yaml.safe_load(path.read_text())["stages"]
        change(stages)
        path.write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))

    def write(self, stages: dict[str, tuple[str, list[str]]]) -> None:
        blocks = {name: {"cmd": cmd, "deps": deps, "outs": [name]} for name, (cmd, deps) in stages.items()}
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))

    @property
    def options(self) -> dict[str, object]:
        path = os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
        return {
            "cwd": self.folder,
            "env": os.environ | {"PYTHONPATH": path, "DVC_NO_ANALYTICS": "1", "TERM": "xterm"},
            "text": True,
        }

    def run(self, line: list[str], *, check: bool = False) -> subprocess.CompletedProcess[str]:
        if line[:2] == [sys.executable, "-m"]:
            ended = Fork(*line[2:], folder=self.folder, environment=self.options["env"]).wait()
            assert not check or ended.returncode == 0, ended.stdout + ended.stderr
            return ended
        return subprocess.run(line, capture_output=True, check=check, timeout=60, **self.options)  # type: ignore[call-overload, no-any-return]

    def start(self, line: list[str], terminal: "Terminal | None" = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            line,
            stdin=terminal.theirs if terminal else None,
            stdout=terminal.theirs if terminal else subprocess.PIPE,
            stderr=terminal.theirs if terminal else subprocess.STDOUT,
            start_new_session=terminal is not None,
            preexec_fn=partial(listen, terminal),  # noqa: PLW1509 - no other thread here that holds a lock
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

    def files(self) -> dict[str, bytes]:
        """What lies in the workspace, by path; `.dvc` aside."""
        paths = [path for path in self.folder.rglob("*") if path.is_file() and ".dvc" not in path.parts]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}


def listen(terminal: "Terminal | None") -> None:
    """Let a process hear all signals, and its terminal's: one in the background of a shell inherits that some are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if terminal:
        fcntl.ioctl(terminal.theirs, termios.TIOCSCTTY, 0)


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
        "code": ("mkdir -p code/next && echo 1 > code/slow.txt && echo 2 > code/next/quick.txt", []),
        "slow": (f"{until('quick')} && echo slow > slow", ["code/slow.txt"]),  # stands first and is done last
        "quick": ("sleep 0.1 && echo quick > quick", ["code/next/quick.txt"]),
        "next": ("cat quick code/next/quick.txt > next", ["quick", "code/next/quick.txt"]),
        "last": ("cat slow next code/next/* > last", ["slow", "next", "code/next"]),
    }
    ours, theirs = repository("ours", **stages), repository("theirs", **stages)
    (theirs.folder / "quick").touch()  # one at a time, `slow` waits for a file that is there
    for work, line in ((ours, side_by_side()), (theirs, DVC)):
        (work.folder / "params.yaml").write_text("defaults: {optimizer: {name: SGD, lr: 0.1}, hidden: [16, 16]}\n")
        work.edit(lambda stages: [stages[name].update(params=["defaults"]) for name in ("slow", "quick", "next")])
        ended = work.run(line)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ours.lock == theirs.lock
    assert ours.files() == theirs.files()
    assert "up to date" in ours.run(DVC).stdout
    again = ours.run(side_by_side())
    assert "up to date" in again.stdout
    assert "Running" not in again.stdout


def test_a_changed_file_of_a_folder_runs_again_only_what_reads_it(repository):
    readers = {"a": ("cat code/a.txt > a", ["code/a.txt"]), "b": ("cat code/b.txt > b", ["code/b.txt"])}
    work = repository(code=("mkdir code && echo 1 > code/a.txt && echo 1 > code/b.txt", []), **readers)
    work.run(side_by_side(), check=True)
    work.write({"code": ("mkdir code && echo 2 > code/a.txt && echo 1 > code/b.txt", []), **readers})
    ended = work.run(side_by_side(), check=True)
    assert re.findall(r"Running stage '(\w+)'", ended.stdout) == ["code", "a"]
    assert (work.folder / "a").read_text() == "2\n"


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
    with pytest.raises(ZeroDivisionError), modify_atomically(str(path)) as data:
        data["stages"]["a"] = 1 / 0
    assert path.read_text() == "stages: {a: 1}\n"
    with modify_atomically(str(path)) as data:
        data["stages"]["a"] = 2
    assert yaml.safe_load(path.read_text()) == {"stages": {"a": 2}}


def test_entries_are_written_while_a_long_stage_runs(repository, tmp_path):
    work = repository(a=("touch a", []), b=(f"{until('go')} && touch b", []))
    hurried = "import runpy, labbook.repro.parallel as s, labbook.repro.entries as e; s.IDLE_SECONDS = e.SECONDS = 1; "
    hurried += "runpy.run_module('labbook.repro', run_name='__main__')"
    process = work.start([sys.executable, "-c", hurried, "--jobs", "2"])
    work.await_file("dvc.lock")
    assert work.entries() == ["a"]
    (work.folder / "go").touch()
    process.communicate(timeout=30)
    assert work.entries() == ["a", "b"]


@pytest.mark.parametrize("left", ["", '{"write": {"/a": {"pid": 1'])
def test_lock_of_files_that_a_killed_process_left_half_written_is_forgotten(repository, left):
    work = repository(a=("touch a", []))
    inner = work.folder / ".dvc" / "tmp"
    inner.mkdir(exist_ok=True)
    (inner / "rwlock").write_text(left)
    assert work.run(side_by_side()).returncode == 0


def test_entries_stand_in_order_after_a_failure_was_mended(repository):
    stages = {"fails": ("false", []), "next": ("cat fails > next", ["fails"]), "z": ("touch z", []), "b": ("cat z > b", ["z"])}
    work = repository(**stages)
    work.run(side_by_side("--keep-going"))
    assert work.entries() == ["z", "b"]
    work.write(stages | {"fails": ("touch fails", [])})
    work.run(side_by_side("--single-item", "fails"), check=True)
    work.run(side_by_side(), check=True)
    assert work.entries() == list(stages)


def test_entries_of_earlier_days_keep_their_places(repository):
    work = repository(z=("touch z", []))
    work.run(DVC, check=True)
    work.write({"fails": ("false", []), "a": ("touch a", []), "z": ("touch z", [])})
    work.run(side_by_side("--keep-going"))
    work.write({"fails": ("touch fails", []), "a": ("touch a", []), "z": ("touch z", [])})
    work.run(side_by_side(), check=True)
    assert work.entries() == ["z", "fails", "a"]


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


def test_commands_end_when_the_run_is_killed(repository):
    work = repository(a=(f"echo $$ > pid && {until('never')}; touch a", []))
    process = work.start(side_by_side())
    work.await_file("pid")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while running(int((work.folder / "pid").read_text())):
        assert time.monotonic() < deadline, "the command lives on"
        time.sleep(0.05)
    time.sleep(0.2)
    assert not (work.folder / "a").exists()


KILLS = int(os.environ.get("LABBOOK_KILLS", "2"))  # trials; each takes 3 s


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A pipeline with stages of all kinds that ran to its end, and how many seconds that took."""
    stages = {"code": ("mkdir -p code/first && for n in 0 1 2 3; do echo $n > code/first/$n.txt; done", [])}
    stages |= {
        f"first{number}": (
            f"sleep 0.{number} && echo {number} > first{number} && echo {number}00 > kept{number}",
            [f"code/first/{number}.txt"],
        )
        for number in range(4)
    }
    stages |= {f"then{number}": (f"cat first{number} first{number} > then{number}", [f"first{number}"]) for number in range(4)}
    stages |= {"last": ("cat then* > last", [f"then{number}" for number in range(4)])}
    work = Repository(tmp_path_factory.mktemp("undisturbed") / "work", stages)
    kept = {f"first{number}": [{f"kept{number}": {"cache": False}}] for number in range(4)}
    work.edit(lambda stages: [stages[name].update(metrics=metrics) for name, metrics in kept.items()])
    untouched = {path: path.read_bytes() for path in work.folder.rglob("*") if path.is_file()}
    started = time.monotonic()
    work.run(side_by_side(), check=True)
    return work, {path.relative_to(work.folder): content for path, content in untouched.items()}, time.monotonic() - started


@pytest.mark.parametrize("trial", range(KILLS))
def test_run_that_is_killed_and_run_again_ends_as_if_undisturbed(tmp_path, undisturbed, trial):
    whole, untouched, seconds = undisturbed
    work = Repository(tmp_path / "work", {})
    for path, content in untouched.items():
        (work.folder / path).write_bytes(content)
    moment = np.random.default_rng(trial).uniform(0.3, 1.0) * seconds
    process = work.start(side_by_side())
    time.sleep(moment)
    killed = psutil.Process(process.pid)
    others = killed.children(recursive=True) if trial % 2 else []  # by turns alone, and with all that it started
    for one in (killed, *others):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.communicate()
    again = work.run(side_by_side())
    assert again.returncode == 0, f"killed after {moment:.2f} s: {again.stdout}{again.stderr}"
    assert work.lock == whole.lock, f"killed after {moment:.2f} s"
    assert work.files() == whole.files(), f"killed after {moment:.2f} s"
    status = work.run([sys.executable, "-m", "dvc", "status"])
    assert "up to date" in status.stdout, f"killed after {moment:.2f} s: {status.stdout}"


class Terminal:
    """A terminal with 40 lines of 100 characters, and what was written to it."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        self.raw = b""
        os.set_blocking(self.ours, False)

    @property
    def text(self) -> str:
        with suppress(BlockingIOError):
            while True:
                self.raw += os.read(self.ours, 1 << 16)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw.decode(errors="replace"))

    def await_text(self, pattern: str) -> None:
        deadline = time.monotonic() + 30
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"{pattern} was not shown: {self.text}"
            time.sleep(0.02)

    def await_end(self, process: subprocess.Popen[str]) -> int:
        deadline = time.monotonic() + 30
        while process.poll() is None:
            shown = self.text  # reading lets it go on
            assert time.monotonic() < deadline, f"did not end: {shown}"
            time.sleep(0.02)
        return process.returncode

    def is_as_before(self) -> bool:
        assert self.text
        cursor = re.findall(rb"\x1b\[\?25([hl])", self.raw)
        return termios.tcgetattr(self.theirs) == self.before and cursor[-1:] == [b"h"]


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    os.close(made.theirs)
    os.close(made.ours)


def test_a_terminal_shows_what_runs_and_what_has_ended(repository, terminal):
    work = repository(b=("echo deep; echo trouble && false", []), c=("cat b > c", ["b"]), d=("echo calm && touch d", []))
    long = {"cmd": f"echo step 7 '[of]' 9 && {until('go')} && touch ${{item}}", "outs": ["${item}"]}
    work.edit(lambda stages: stages.update(train={"foreach": ["a"], "do": long}))
    (work.folder / "timing").mkdir()
    (work.folder / "timing/a.json").write_text('{"seconds": 36000}')
    process = work.start(side_by_side("--keep-going"), terminal)
    terminal.await_text(r"runs +train@a 0:00:\d\d step 7 \[of\] 9")
    terminal.await_text(r"1 ran, 1 failed; 1 to go, 9:59:\d\d left if all of them run")
    (work.folder / "go").touch()
    assert terminal.await_end(process) != 0
    terminal.await_text("failed to reproduce 'b'")
    assert re.search(r"failed +b 0:00:\d\d trouble +\r\n", terminal.text)
    assert "deep\r\ntrouble\r\n" in terminal.text
    assert re.search(r"ran +d 0:00:\d\d calm", terminal.text)
    assert "2 ran, 1 failed, 1 not run in 0:00:" in terminal.text
    assert "Stage 'c' will be skipped" in terminal.text
    assert "[train@a]" not in terminal.text
    assert terminal.is_as_before()


def test_interrupted_terminal_is_as_before(repository, terminal):
    work = repository(a=("echo $$ > pid; sleep 50; touch a", []))
    process = work.start(side_by_side(), terminal)
    terminal.await_text("runs +a")
    os.write(terminal.ours, b"\x03")  # Ctrl-C
    assert terminal.await_end(process) != 0
    terminal.await_text("interrupted by the user")
    assert terminal.is_as_before()
    assert not running(int((work.folder / "pid").read_text()))


@pytest.mark.parametrize("flag", ["--quiet", "--verbose"])
def test_a_terminal_shows_lines_when_more_or_less_is_asked_for(repository, terminal, flag):
    work = repository(a=("echo said && touch a", []))
    assert terminal.await_end(work.start(side_by_side(flag), terminal)) == 0
    terminal.await_text(r"\[a\] said")
    assert "0:00:0" not in terminal.text


def with_gpus(work: Repository, *names: str) -> list[str]:
    """Give what starts a command as on a machine with GPUs of one model."""
    driver = work.folder / "nvidia-smi"
    lines = [f"echo 'GPU {index}: NVIDIA H200 (UUID: {name})'\n" for index, name in enumerate(names)]
    driver.write_text("#!/bin/sh\n" + "".join(lines))
    driver.chmod(0o755)
    return ["env", "-u", "CUDA_VISIBLE_DEVICES", f"PATH={work.folder}{os.pathsep}{os.environ['PATH']}"]


def test_each_job_has_a_gpu_of_its_own(repository):
    shown = 'echo "$CUDA_VISIBLE_DEVICES" >'
    work = repository(
        a=(f"touch a.began && {until('b.began')} && {shown} a", []),
        b=(f"touch b.began && {until('a.began')} && {shown} b", []),
    )
    (work.folder / "params.yaml").write_text("{seed: 0, device: auto, data: {source: embedded}}")
    work.run([*with_gpus(work, "GPU-x", "GPU-y"), *side_by_side()], check=True)
    assert {(work.folder / name).read_text().strip() for name in "ab"} == {"GPU-x", "GPU-y"}


@pytest.fixture
def with_trainings(repository):
    """Make a repository in which each stage that `trainings` names trains an experiment of its name, on embedded data."""

    def make(trainings: dict[str, dict[str, Any]], **stages: tuple[str, list[str]]) -> Repository:
        work: Repository = repository(**stages)
        train = toy_settings().model_dump(exclude_unset=True)
        blocks = {name: {"train": train | {"embedded": embedded}} for name, embedded in trainings.items()}
        values = {"seed": 0, "device": "auto", "data": {"source": "embedded"}, "experiments": blocks}
        (work.folder / "params.yaml").write_text(yaml.safe_dump(values))
        work.edit(lambda stages: [stages[name].update(params=[f"experiments.{name}.train"]) for name in trainings])
        return work

    return make


@pytest.mark.parametrize("wide", [{"world_size": 4}, {"threads": 4}, {"world_size": 2, "threads": 2}])
def test_training_counts_for_as_many_jobs_as_it_needs_cores_or_for_all(with_trainings, wide):
    work = with_trainings(
        {"wide": wide},
        first=(f"{until('other')} && test -e other && touch first", []),
        wide=("test -e first && touch wide", []),  # fails beside `first`
        other=("touch other", []),  # for which there is room beside `first`
    )
    ended = work.run(side_by_side(jobs=2))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert work.entries() == ["first", "wide", "other"]


def test_training_has_a_gpu_for_each_of_its_processes(with_trainings):
    shown = 'echo "$CUDA_VISIBLE_DEVICES" >'
    work = with_trainings(
        {"wide": {"world_size": 4}, "one": {"threads": 4}},
        wide=(f"touch wide.began && {until('one.began')} && {shown} wide", []),
        one=(f"touch one.began && {until('wide.began')} && {shown} one", []),
    )
    work.run([*with_gpus(work, *"abcde"), *side_by_side(jobs=5)], check=True)
    wide, one = ((work.folder / name).read_text().strip().split(",") for name in ("wide", "one"))
    assert (len(wide), len(one)) == (4, 1)
    assert sorted(wide + one) == list("abcde")


def test_stage_of_many_trainings_has_the_jobs_that_nothing_else_waits_for(with_trainings):
    shown = 'echo "$LABBOOK_AT_ONCE" >'
    work = with_trainings(
        {"beside": {"seeds": 5}, "last": {"seeds": 5}, "alone": {"seeds": 1}},
        beside=(f"touch began && {until('last')} && {shown} beside", []),
        other=(f"{until('began')} && {shown} other", []),
        last=(f"{shown} last", ["other"]),  # two jobs of three are free
        alone=(f"{shown} alone", ["beside", "last"]),
    )
    work.run(side_by_side(jobs=3), check=True)
    found = [(work.folder / name).read_text() for name in ("beside", "other", "last", "alone")]
    assert found == ["2\n", "1\n", "1\n", "1\n"]
    work.run(side_by_side("--force", "--single-item", "last", jobs=3), check=True)
    assert (work.folder / "last").read_text() == "3\n"


@pytest.mark.parametrize("flags", [(), ("--single-item", "wide")])
def test_as_many_trainings_run_at_once_as_their_threads_have_cores(with_trainings, flags):
    work = with_trainings({"wide": {"seeds": 5, "threads": 2}}, wide=('echo "$LABBOOK_AT_ONCE" > wide', []))
    work.run(side_by_side(*flags, jobs=5), check=True)
    assert (work.folder / "wide").read_text() == "2\n"


def test_needs_of_a_stage_are_those_of_its_experiment_on_its_data(repository, monkeypatch):
    block = {"cmd": "true", "params": ["defaults.C", "experiments.${item}.train"]}
    kinds = {
        "train": ["wide", "seeds", "together", "wrong"],
        "evaluate": ["wide", "together", "nowhere"],
        "explain": ["wide"],
        "sweep": ["widths"],
        "pretrain": ["start"],
    }
    work = repository()
    others = {"evaluate": [], "explain": [], "sweep": ["sweeps.${item}"], "pretrain": ["pretrained.${item}.train"]}
    stages = {
        kind: {"foreach": names, "do": block | {"params": others.get(kind, block["params"])}} for kind, names in kinds.items()
    }
    (work.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages | {"report": {"cmd": "true"}}}))
    train = toy_settings().model_dump(exclude_unset=True)
    own = {
        "wide": {"embedded": {"threads": 3}},
        "seeds": {"seeds": 5, "embedded": {"threads": 1}},
        "together": {"world_size": 2, "seeds": 5},
        "wrong": {"threads": "many"},
    }
    vary = {"key": "optimizer.lr", "first": 0.1, "last": 0.2, "count": 4}
    values = {
        "data": {"source": "embedded"},
        "defaults": {"C": {"threads": 2}},
        "experiments": {name: {"assignment": "C", "train": train | block} for name, block in own.items()},
        "sweeps": {"widths": {"assignment": "C", "title": "", "experiment": "wide", "vary": vary}},
        "pretrained": {"start": {"train": train}},
    }
    monkeypatch.chdir(work.folder)
    for source, threads in (("embedded", 3), ("official", 2)):
        values["data"]["source"] = source
        Path("params.yaml").write_text(yaml.safe_dump(values))
        with closing(Repo()) as repo:
            found = {stage.addressing: needs for stage, needs in read_needs(list(repo.index.stages)).items()}
        assert found == {
            "train@wide": Needs(1, threads),
            "train@seeds": Needs(1, 1 if source == "embedded" else 2, 5),
            "train@together": Needs(2, 2),  # its seeds train one after the other
            "train@wrong": Needs(),
            "evaluate@wide": Needs(1, threads),
            "evaluate@together": Needs(1, 2),
            "evaluate@nowhere": Needs(),
            "explain@wide": Needs(1, threads),
            "sweep@widths": Needs(1, threads, 4),
            "pretrain@start": Needs(),
            "report": Needs(),
        }
    assert Needs(2, 3).cores == 6


def test_settings_that_are_wrong_stop_no_stage_that_does_not_need_them(with_trainings):
    work = with_trainings({"wide": {"threads": "many"}}, wide=("touch wide", []))
    ended = work.run(side_by_side())
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_settings_that_are_no_yaml_are_told(repository):
    work = repository(a=("touch a", []))
    (work.folder / "params.yaml").write_text("seed: {")
    ended = work.run(side_by_side())
    assert ended.returncode != 0
    assert "unable to read: 'params.yaml'" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_more_jobs_than_the_machine_holds_are_told(repository):
    work = repository(a=("touch a", []))
    (work.folder / "params.yaml").write_text("{seed: 0, device: 'cuda:1', data: {source: embedded}}")
    assert "--jobs 2: this machine has room for 1" in work.run(side_by_side(), check=True).stderr


def test_an_experiment_of_dvc_runs_side_by_side_and_is_kept(repository):
    work = repository()
    (work.folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (work.folder / ".gitignore").write_text("/a\n/b\n/ready\n/.dvc/\n")
    (work.folder / "params.yaml").write_text("rate: 1\n")
    blocks = {
        "a": {"cmd": f"{until('ready')} && echo ${{rate}} > a", "outs": ["a"]},
        "b": {"cmd": "echo ${rate} > b && touch ready", "outs": ["b"]},
    }
    (work.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": blocks}))
    for line in (["init", "-q"], ["add", "."], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "first"]):
        work.run(["git", *line], check=True)
    ended = work.run([sys.executable, "-m", "labbook", "exp", "run", "-j", "2", "-S", "rate=2", "--name", "faster"])
    assert ended.returncode == 0, ended.stderr
    assert [(work.folder / name).read_text() for name in ("a", "b")] == ["2\n", "2\n"]
    assert work.entries() == ["a", "b"]
    assert "faster" in work.run([sys.executable, "-m", "dvc", "exp", "list", "--name-only"]).stdout
    other = work.run([sys.executable, "-m", "labbook", "exp", "show"])
    assert other.returncode == 2
    assert "invalid choice: 'show' (choose from 'run')" in other.stderr


def test_a_run_starts_without_importing_torch():
    line = [sys.executable, "-c", "import sys, labbook.repro.__main__; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(line, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, check=False).returncode == 0
