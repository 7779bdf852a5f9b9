"""The command line: `labbook` or `python -m labbook`."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from labbook.errors import LabbookError

__all__ = ["COMMANDS", "main"]


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        module: module with `add_arguments(parser)` and `main(arguments)`; imported only when the subcommand is used.
        purpose: one line of help.
        forwards: whether unknown arguments are forwarded to DVC, as `arguments.forwarded`.
    """

    module: str
    purpose: str
    forwards: bool = False


COMMANDS = {
    "check": Command("labbook.config.check", "validate params.yaml and the installed packages"),
    "show": Command("labbook.config.show", "print the resolved settings of an experiment"),
    "why": Command("labbook.why", "explain why a stage would run again"),
    "verify": Command("labbook.report.verify", "recompute the official results from the stored predictions"),
    "results": Command("labbook.report.results", "write the tables of official results from the ledger"),
    "repro": Command("labbook.repro.__main__", "run dvc repro with stages in parallel", forwards=True),
    "exp": Command("labbook.exp", "run dvc exp run with stages in parallel", forwards=True),
    "team": Command("labbook.team.__main__", "share results: set up a remote, push, pull"),
    "doctor": Command("labbook.doctor.__main__", "find and repair problems in this clone"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a subcommand; a `LabbookError` becomes a message and exit code 1, Ctrl-C exit code 130."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="labbook", description="Run and inspect the pipeline of this repository.")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        description = f"{command.purpose[0].upper()}{command.purpose[1:]}."
        subparser = subparsers.add_parser(name, help=command.purpose, description=description, allow_abbrev=False)
        if name in argv[:1]:
            module = importlib.import_module(command.module)
            subparser.set_defaults(run=module.main, error=subparser.error)
            module.add_arguments(subparser)
    arguments, forwarded = parser.parse_known_args(argv)
    if forwarded and not COMMANDS[arguments.command].forwards:
        arguments.error(f"unrecognized arguments: {' '.join(forwarded)}")
    arguments.forwarded = forwarded
    try:
        arguments.run(arguments)
    except LabbookError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
