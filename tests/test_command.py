"""The command `labbook`."""

import importlib.util
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest

from labbook import __main__ as command


def run(*arguments):
    line = [sys.executable, "-m", "labbook", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_every_command(repository):
    shown = run("--help").stdout
    assert all(name in shown for name in command.COMMANDS)


@pytest.mark.parametrize("name", command.COMMANDS)
def test_a_command_is_a_module_that_runs(name):
    found = importlib.util.find_spec(f"labbook.{name}")
    assert found
    assert not found.submodule_search_locations or importlib.util.find_spec(f"labbook.{name}.__main__")


def test_nothing_slow_is_imported_for_help():
    loaded = "import sys, labbook.__main__; print({'torch', 'dvc', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_arguments_go_to_the_command():
    ended = run("repro", "-j", "0")
    assert ended.returncode == 2
    assert "labbook repro: error: --jobs: 0 is less than 1" in ended.stderr


def test_unknown_command_is_told():
    ended = run("repr")
    assert ended.returncode == 2
    assert "repro" in ended.stderr


def test_the_project_installs_the_command(repository):
    scripts = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("labbook", scripts["labbook"], "console_scripts").load() is command.main
