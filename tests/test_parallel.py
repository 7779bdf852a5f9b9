"""Parallel trainings of one stage. Each test runs in a new process, because the caller must not have used torch."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def start(script: str, count: object = 2) -> subprocess.Popen[str]:
    environment = os.environ | {"LABBOOK_AT_ONCE": str(count), "PYTHONPATH": str(ROOT / "src")}
    imports = "import os, time\nfrom labbook.training.parallel import run_parallel\n"
    command = [sys.executable, "-c", imports + textwrap.dedent(script)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(script: str, count: object = 2) -> subprocess.CompletedProcess[str]:
    with start(script, count) as process:
        stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_are_in_the_order_of_the_items(count):
    ended = run(
        """
        base = 10  # inherited by the forked processes
        print(*run_parallel(lambda item: time.sleep(0.05 * (3 - item)) or base + item, range(3)))
        print(len(set(run_parallel(lambda item: time.sleep(0.1) or os.getpid(), range(3)))))
        """,
        count,
    )
    assert ended.stdout.split("\n") == ["10 11 12", str(min(count, 3)), ""], ended.stderr


def test_two_items_run_at_the_same_time(tmp_path):
    """Each waits for the other."""
    ended = run(
        f"""
        def meet(item):
            open("{tmp_path}/" + item, "w").close()
            while not os.path.exists("{tmp_path}/" + {{"a": "b", "b": "a"}}[item]):
                time.sleep(0.01)
            return item
        print(*run_parallel(meet, ["a", "b"]))
        """
    )
    assert ended.stdout == "a b\n", ended.stderr


@pytest.mark.parametrize("items", ["[1, 0]", "[0, 1]"], ids=["the first", "the second"])
def test_failure_ends_the_other_processes_at_once(items):
    ended = run(
        f"""
        from labbook.errors import TrainingError
        def work(item):
            if item:
                raise TrainingError("the loss is nan")
            time.sleep(50)
        started = time.monotonic()
        try:
            run_parallel(work, {items})
        except TrainingError as error:
            print(error, time.monotonic() - started < 20)
        """
    )
    assert ended.stdout == "the loss is nan True\n", ended.stderr


def test_killed_process_is_reported():
    ended = run(
        """
        from labbook.stage import run
        run(lambda: run_parallel(lambda item: os.kill(os.getpid(), 9) if item else time.sleep(50), [1, 0]))
        """
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: One of the trainings was killed")


@pytest.mark.parametrize("value", ["", "0", "-1", "two", "1.5"])
def test_invalid_number_of_processes_is_rejected(value):
    ended = run("from labbook.stage import run\nrun(lambda: run_parallel(print, [1, 2]))", value)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"error: LABBOOK_AT_ONCE: invalid value {value!r}. Set it to a number of processes, such as 2, or unset it.\n"
    )
    assert ended.stdout == ""


SLEEPERS = """
        def work(item):
            os.write(1, f"{os.getpid()}\\n".encode())  # one write, because two processes write
            time.sleep(50)
        from labbook.stage import run
        run(lambda: run_parallel(work, [1, 2]))
"""


def is_alive(process: int) -> bool:
    """Return whether a process exists and is not a zombie, which has ended and waits to be reaped."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes under /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_processes_end_with_their_parent(number, code):
    """They print nothing after Ctrl-C, which a terminal sends to all processes."""
    with start(SLEEPERS) as process:
        assert process.stdout
        assert process.stderr
        children = [int(process.stdout.readline()) for _ in range(2)]
        assert all(map(is_alive, children))
        for target in (*(children if number == signal.SIGINT else ()), process.pid):
            os.kill(target, number)
        assert process.wait(20) == code
        deadline = time.monotonic() + 20
        while any(map(is_alive, children)):
            assert time.monotonic() < deadline, "the processes are still running"
            time.sleep(0.01)
        assert process.stderr.read() == ""


def test_forked_processes_can_start_threads():
    """A matrix product on two threads would block if it waited for threads that did not survive the fork."""
    ended = run(
        """
        import torch
        def work(item):
            torch.set_num_threads(2)
            return float((torch.ones(500, 500) @ torch.ones(500, 500)).sum())
        print(run_parallel(work, [1, 2]))
        """
    )
    assert ended.stdout == "[125000000.0, 125000000.0]\n", ended.stderr


def test_module_does_not_import_torch():
    """`labbook repro` imports it for the name of the variable."""
    assert run("import sys; print('torch' in sys.modules)").stdout == "False\n"
