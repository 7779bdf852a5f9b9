"""The command `labbook`, which is also `python -m labbook`: each subcommand is a module that runs by itself as well."""

import argparse
import runpy
import sys

__all__ = ["main"]

COMMANDS = {
    "repro": "run what has changed, stages side by side",
    "exp": "exp run -S KEY=VALUE: the same with other settings, as an experiment of DVC",
    "team": "share results: set up a remote, push, pull",
    "doctor": "tell what is wrong here, and mend it when asked",
}


def main() -> None:
    """Hand the arguments behind a subcommand's name to its module; nothing else is imported."""
    listed = "\n".join(f"  {name:<8}{purpose}" for name, purpose in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="labbook",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"commands:\n{listed}\n\nlabbook COMMAND --help tells more.",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    sys.argv[1:] = chosen.arguments
    runpy.run_module(f"labbook.{chosen.command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
