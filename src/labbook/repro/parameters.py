"""Cache parsed parameter files: DVC parses params.yaml again for every stage that lists some of its keys."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import dvc.dependency.param

__all__ = ["cache_parsed_files"]


def cache_parsed_files() -> None:
    """Patch DVC in this process to parse a parameter file again only after it has changed."""
    usual = dvc.dependency.param.load_path
    kept: dict[tuple[str, int, int], Any] = {}

    def load(path: str, fs: Any, **options: Any) -> Any:
        if options or not Path(path).is_file():
            return usual(path, fs, **options)
        stat = Path(path).stat()
        key = path, stat.st_mtime_ns, stat.st_size
        if key not in kept:
            kept[key] = usual(path, fs)
        return deepcopy(kept[key])  # entries of dvc.lock that share an object would be written with anchors

    dvc.dependency.param.load_path = load
