"""Write requirements.lock: the exact installed version of every package that labbook requires."""

import re
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

# The CUDA libraries exist for Linux only.
LINUX_ONLY = re.compile(r"^(nvidia-|cuda-|triton$)")
HEADER = "# Exact versions of the packages that produced the results; written by `make lock`. Python 3.11 or newer.\n"


def add_requirements(name: str, extras: frozenset[str], found: dict[str, str]) -> None:
    """Add the requirements of `name` to `found`, recursively."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if wanted and (key not in found or requirement.extras):
            known = key in found
            found[key] = distribution(key).version
            if not known or requirement.extras:
                add_requirements(key, frozenset(requirement.extras), found)


def main() -> None:
    """Write the file."""
    found: dict[str, str] = {}
    add_requirements("labbook", frozenset({"pipeline", "dev"}), found)
    found.pop("labbook", None)
    lines = []
    for name, version in sorted(found.items()):
        marker = ' ; sys_platform == "linux"' if LINUX_ONLY.match(name) else ""
        lines.append(f"{name}=={version.split('+')[0]}{marker}")
    Path("requirements.lock").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
