"""One's own losses, optimisers and schedules: files of this package, found on the file system without importing torch."""

from pathlib import Path

__all__ = ["OWN_FOLDERS", "own_module", "own_names"]

PACKAGE = Path(__file__).parents[1]

# The key in an experiment → the folder of this package; it need not exist.
OWN_FOLDERS = {"loss": "losses", "optimizer": "optimizers", "schedule": "schedules"}


def own_module(kind: str, name: str) -> str | None:
    """Return the module behind a name in `params.yaml`, or `None` where the name is not that of a file here.

    Args:
        kind: `loss`, `optimizer` or `schedule`.
        name: such as `lion`, which stands for `labbook.optimizers.lion`.
    """
    return f"labbook.{OWN_FOLDERS[kind]}.{name}" if name in own_names(kind) else None


def own_names(kind: str) -> list[str]:
    """List the names of one's own losses, optimisers or schedules."""
    return sorted(file.stem for file in (PACKAGE / OWN_FOLDERS[kind]).glob("[a-z]*.py"))
