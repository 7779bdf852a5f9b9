"""`dvc exp run` with stages side by side: labbook exp run [-j N] [arguments of dvc exp run].

DVC writes all of `dvc.lock` once for each stage that ran; here it is written once.
"""

import argparse

from labbook.repro import __main__ as repro

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labbook exp`."""
    parser.epilog = "For the other commands about experiments, see dvc exp --help."
    subparsers = parser.add_subparsers(dest="exp_command", metavar="run", required=True)
    purpose = "run what has changed with other settings, as an experiment of DVC"
    repro.add_arguments(subparsers.add_parser("run", help=purpose, allow_abbrev=False), "exp run")


def main(arguments: argparse.Namespace) -> None:
    """Run an experiment."""
    repro.main(arguments)
