"""Trainings of one stage in processes of their own. Each test runs in a new one, as the caller must not have computed yet."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, count: int = 2) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LABBOOK_AT_ONCE": str(count), "PYTHONPATH": str(ROOT / "src")}
    line = [sys.executable, "-c", "import os, time\nfrom labbook.at_once import run_at_once\n" + textwrap.dedent(script)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_stand_in_the_order_of_the_items(count):
    ended = run(
        """
        base = 10  # nothing has to be sent to the processes
        print(*run_at_once(lambda item: time.sleep(0.05 * (3 - item)) or base + item, range(3)))
        print(len(set(run_at_once(lambda item: time.sleep(0.1) or os.getpid(), range(3)))))
        """,
        count,
    )
    assert ended.stdout.split("\n") == ["10 11 12", str(min(count, 3)), ""], ended.stderr


def test_two_are_at_work_at_a_time(tmp_path):
    # Each waits for the other.
    ended = run(
        f"""
        def meet(item):
            open("{tmp_path}/" + item, "w").close()
            while not os.path.exists("{tmp_path}/" + {{"a": "b", "b": "a"}}[item]):
                time.sleep(0.01)
            return item
        print(*run_at_once(meet, ["a", "b"]))
        """
    )
    assert ended.stdout == "a b\n", ended.stderr


def test_one_that_fails_ends_the_others():
    ended = run(
        """
        from labbook.core.errors import TrainingError
        def work(item):
            if item:
                raise TrainingError("the loss is nan")
            time.sleep(50)
        try:
            run_at_once(work, [1, 0])
        except TrainingError as error:
            print(error)
        """
    )
    assert ended.stdout == "the loss is nan\n", ended.stderr


def test_one_that_is_killed_is_told_of():
    ended = run(
        """
        from labbook.core.stage import run
        run(lambda: run_at_once(lambda item: os.kill(os.getpid(), 9) if item else time.sleep(50), [1, 0]))
        """
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: One of the trainings was killed")
