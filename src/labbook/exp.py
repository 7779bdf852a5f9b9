"""`dvc exp run` with stages side by side: labbook exp run [-j N] [arguments of dvc exp run].

DVC writes all of `dvc.lock` once for each stage that ran; here it is written once.
"""

import sys

from labbook.repro.__main__ import start

if __name__ == "__main__":
    if sys.argv[1:2] != ["run"]:
        sys.exit("error: labbook exp knows one command, `labbook exp run`. For the others see `dvc exp --help`.")
    del sys.argv[1]
    start("exp", "run")
