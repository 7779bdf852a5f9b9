"""Run a stage script: check its fingerprint, and turn errors that a user can fix into a message and exit code 1."""

import sys
from collections.abc import Callable

from labbook.errors import LabbookError
from labbook.fingerprint.check import check_stage

__all__ = ["run"]


def run(main: Callable[[], None]) -> None:
    """Call `main` if the stage's fingerprint matches the code and the installed packages.

    Print the message of a `LabbookError` and exit with 1, or with 130 after Ctrl-C.
    """
    try:
        check_stage()
        main()
    except LabbookError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
