"""The command `labbook`."""

import importlib
import importlib.util
import inspect
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest

from labbook import __main__ as command

SCRIPTS = [name for name, entry in command.COMMANDS.items() if entry.is_script]
FUNCTIONS = [name for name, entry in command.COMMANDS.items() if not entry.is_script]


def run(*arguments):
    line = [sys.executable, "-m", "labbook", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_every_command_with_its_purpose():
    shown = run("--help").stdout.splitlines()
    listed = {
        line.split()[0]: " ".join(line.split()[1:]) for line in shown[shown.index("commands:") + 1 :] if line.startswith("  ")
    }
    assert listed == {name: entry.purpose for name, entry in command.COMMANDS.items()}
    assert {"check", "show", "why", "repro", "exp", "team", "doctor"} == listed.keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_a_module_that_runs(name):
    module = command.COMMANDS[name].module
    found = importlib.util.find_spec(module)
    assert found
    assert not found.submodule_search_locations or importlib.util.find_spec(f"{module}.__main__")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_command_is_a_function_of_its_arguments(name):
    module = importlib.import_module(command.COMMANDS[name].module)
    inspect.signature(module.main).bind(["--help"])
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0


def test_nothing_slow_is_imported_for_help():
    loaded = "import sys, labbook.__main__; print({'torch', 'dvc', 'numpy', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_arguments_go_to_a_script():
    ended = run("repro", "-j", "0")
    assert ended.returncode == 2
    assert "labbook repro: error: --jobs: 0 is less than 1" in ended.stderr


def test_arguments_go_to_a_function(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["show", "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: labbook show [-h] [--source {embedded,official}] NAME\n")


def test_unknown_command_is_refused_with_those_that_there_are():
    ended = run("repr")
    assert ended.returncode == 2
    assert "invalid choice: 'repr' (choose from " in ended.stderr
    assert all(name in ended.stderr for name in command.COMMANDS)


def test_the_project_installs_the_command(repository):
    scripts = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("labbook", scripts["labbook"], "console_scripts").load() is command.main
