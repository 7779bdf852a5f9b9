"""Code stage: the fingerprint of each other stage, in code/<stage>.txt or code/<stage>/<item>.txt."""

import _here  # noqa: F401

from labbook.config.chosen import chosen_modules, settings_of_stages
from labbook.fingerprint.write import write_fingerprints
from labbook.stage import run


def main() -> None:
    write_fingerprints(chosen_modules(), settings_of_stages())


if __name__ == "__main__":
    run(main)
