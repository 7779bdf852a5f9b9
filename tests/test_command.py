"""The command `labbook`: help, arguments, and exit codes."""

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest

from labbook import __main__ as command
from labbook.errors import LabbookError

NAMES = ("check", "show", "why", "verify", "results", "repro", "exp", "team", "doctor")


def run(*arguments):
    command_line = [sys.executable, "-m", "labbook", *arguments]
    return subprocess.run(command_line, capture_output=True, text=True, check=False, timeout=60)


def test_help_describes_every_command_on_one_line(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out.splitlines()
    assert set(NAMES) <= command.COMMANDS.keys()
    for name, entry in command.COMMANDS.items():
        assert any(line.split() == [name, *entry.purpose.split()] for line in printed), name


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: labbook {name} [-h]")


@pytest.mark.parametrize(
    ("arguments", "slow"), [(["--help"], "torch dvc numpy pydantic"), (["why", "--help"], "torch dvc pydantic")]
)
def test_help_imports_no_slow_package(arguments, slow):
    script = (
        "import sys, contextlib, labbook.__main__ as command\n"
        f"with contextlib.suppress(SystemExit): command.main({arguments})\n"
        f"sys.exit(' '.join(set({slow.split()}) & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("usage: labbook")
    assert ended.stderr == "\n"


def test_unknown_arguments_are_passed_to_dvc(monkeypatch):
    called = []
    monkeypatch.setattr("labbook.repro.__main__.install", lambda jobs, *_: called.append(jobs))
    monkeypatch.setattr("dvc.cli.main", called.append)
    with pytest.raises(SystemExit):
        command.main(["repro", "--force", "-j", "1", "--single-item", "train@mnist_cnn"])
    with pytest.raises(SystemExit):
        command.main(["exp", "run", "-S", "seed=1", "--jobs=2", "--queue"])
    assert called == [
        1,
        ["--wait-for-lock", "repro", "--force", "--single-item", "train@mnist_cnn"],
        2,
        ["--wait-for-lock", "exp", "run", "-S", "seed=1", "--queue"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["repro", "-j", "0"], "labbook repro: error: --jobs: expected at least 1, got 0"),
        (["exp", "run", "-j", "0"], "labbook exp run: error: --jobs: expected at least 1, got 0"),
        (["repro", "--cluster", "c.yaml"], "labbook repro: error: --cluster: requires --jobs"),
        (["show", "one", "two"], "labbook show: error: unrecognized arguments: two"),
        (["check", "--all"], "labbook check: error: unrecognized arguments: --all"),
        ([], "labbook: error: the following arguments are required: COMMAND"),
    ],
)
def test_invalid_arguments_are_refused_with_the_name_of_the_command(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code"), [(LabbookError("x: wrong. Correct it."), "error: x: wrong. Correct it."), (KeyboardInterrupt(), 130)]
)
def test_error_ends_a_command_without_a_traceback(monkeypatch, raised, code):
    def show(*_):
        raise raised

    monkeypatch.setattr("labbook.config.show.show", show)
    with pytest.raises(SystemExit) as ended:
        command.main(["show", "mnist_cnn"])
    assert ended.value.code == code


def test_unknown_command_is_refused_with_the_known_ones():
    ended = run("repr")
    assert ended.returncode == 2
    assert "invalid choice: 'repr' (choose from " in ended.stderr
    assert all(name in ended.stderr for name in command.COMMANDS)


def test_project_installs_the_command(repository):
    scripts = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("labbook", scripts["labbook"], "console_scripts").load() is command.main
