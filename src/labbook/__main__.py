"""The command `labbook`, which is also `python -m labbook`: run the module of a subcommand."""

import argparse
import importlib
import runpy
import sys
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["COMMANDS", "main"]


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        module: to run.
        purpose: one line of help.
        is_script: whether the module runs as a script, which reads `sys.argv`; others have `main(argv)`.
    """

    module: str
    purpose: str
    is_script: bool = False


COMMANDS = {
    "check": Command("labbook.config.check", "validate params.yaml, and compare the installed packages with the last run's"),
    "show": Command("labbook.config.show", "print the resolved settings of an experiment, with the origin of each value"),
    "why": Command("labbook.why", "name the modules, settings and files that make a stage run again"),
    "repro": Command("labbook.repro", "run what has changed, stages side by side", is_script=True),
    "exp": Command(
        "labbook.exp", "exp run -S KEY=VALUE: the same with other settings, as an experiment of DVC", is_script=True
    ),
    "team": Command("labbook.team", "share results: set up a remote, push, pull", is_script=True),
    "doctor": Command("labbook.doctor", "report what is wrong with this clone, and repair it on request", is_script=True),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Pass the arguments that follow a subcommand's name to its module; no other module is imported."""
    listed = "\n".join(f"  {name:<8}{command.purpose}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="labbook",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"commands:\n{listed}\n\nFor the arguments of a command, see labbook COMMAND --help.",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    command = COMMANDS[given.command]
    if command.is_script:
        sys.argv[1:] = given.arguments
        runpy.run_module(command.module, run_name="__main__", alter_sys=True)
    else:
        importlib.import_module(command.module).main(given.arguments)


if __name__ == "__main__":
    main()
