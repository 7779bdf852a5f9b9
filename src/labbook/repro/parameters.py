"""Parsed parameter files, kept: DVC parses params.yaml again for every stage that names keys of it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import dvc.dependency.param

__all__ = ["keep_parsed_files"]


def keep_parsed_files() -> None:
    """Let this process parse a parameter file again only when it has changed."""
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
