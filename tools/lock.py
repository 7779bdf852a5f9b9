"""Write requirements.lock: the exact version of everything that labbook needs, as it is installed here."""

import re
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

# CUDA's libraries exist for Linux alone; elsewhere torch brings what it needs itself.
LINUX_ONLY = re.compile(r"^(nvidia-|cuda-|triton$)")
HEADER = "# Exact versions that the results were made with; `make lock` writes this file. Python 3.11 or newer.\n"


def needed(name: str, extras: frozenset[str], found: dict[str, str]) -> None:
    """Add what `name` needs, and what that needs, to `found`."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if wanted and (key not in found or requirement.extras):
            known = key in found
            found[key] = distribution(key).version
            if not known or requirement.extras:
                needed(key, frozenset(requirement.extras), found)


def main() -> None:
    """Write the file."""
    found: dict[str, str] = {}
    needed("labbook", frozenset({"pipeline", "dev"}), found)
    found.pop("labbook", None)
    lines = []
    for name, version in sorted(found.items()):
        marker = ' ; sys_platform == "linux"' if LINUX_ONLY.match(name) else ""
        lines.append(f"{name}=={version.split('+')[0]}{marker}")
    Path("requirements.lock").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
