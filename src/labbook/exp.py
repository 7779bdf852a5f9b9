"""Run `dvc exp run` with stages in parallel: labbook exp run [-j N] [arguments of dvc exp run].

DVC rewrites the whole of `dvc.lock` for each stage that ran; this command writes it once.
"""

import argparse

from labbook.repro import __main__ as repro

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labbook exp`."""
    parser.epilog = "For the other commands about experiments, see dvc exp --help."
    subparsers = parser.add_subparsers(dest="exp_command", metavar="run", required=True)
    purpose = "run the changed stages with other settings, as a DVC experiment"
    repro.add_arguments(subparsers.add_parser("run", help=purpose, allow_abbrev=False), "exp run")


def main(arguments: argparse.Namespace) -> None:
    """Run an experiment."""
    repro.main(arguments)
