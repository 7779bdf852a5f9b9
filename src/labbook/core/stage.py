"""What every stage script shares: a user's mistake ends in one message and exit code 1, not in a traceback."""

import sys
from collections.abc import Callable

from labbook.core.errors import LabbookError

__all__ = ["run"]


def run(main: Callable[[], None]) -> None:
    """Call `main`; print the message of a `LabbookError` and exit with 1, or with 130 after Ctrl-C."""
    try:
        main()
    except LabbookError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
