"""Code stage: a fingerprint of what each other stage runs, code/<stage>.txt or code/<stage>/<item>.txt."""

import _here  # noqa: F401

from labbook.config.chosen import chosen_modules
from labbook.fingerprint.write import write_fingerprints
from labbook.stage import run


def main() -> None:
    write_fingerprints(chosen_modules())


if __name__ == "__main__":
    run(main)
