"""Write the fingerprints of all stages, which DVC tracks instead of lists of source files."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from labbook.fingerprint.record import FOLDER, compute
from labbook.fingerprint.sources import Sources
from labbook.io import write_text

__all__ = ["write_fingerprints"]


def write_fingerprints(
    modules: Mapping[str, Sequence[str]], settings: Mapping[str, Mapping[str, str]], root: Path = Path()
) -> None:
    """Write `code/<key>.txt` for each key of `modules`, and remove all other files from the folder.

    All fingerprints are computed before the first one is written.

    Args:
        modules: the modules that each stage imports by name. The key of a stage is the stem of its script, followed by the
            name of its item if it has one, as in `train/mnist_cnn`.
        settings: the settings that each stage reads from `params.yaml`, as JSON by dotted key.
        root: the folder of the project.

    Raises:
        LabbookError: a script or module is missing or is not valid Python, or the folder cannot be written.
    """
    sources, folder = Sources(root), root / FOLDER
    texts = {
        folder / f"{key}.txt": compute(sources, key.partition("/")[0], names, settings.get(key, {})).to_text()
        for key, names in modules.items()
    }
    for path, text in texts.items():
        write_text(path, text)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            with contextlib.suppress(OSError):  # it contains files
                path.rmdir()
        elif path not in texts:
            path.unlink()
