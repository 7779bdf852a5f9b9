"""Write the figures for print to one folder: some drawn here, the others copied from the evaluate and explain stages."""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from labbook.errors import DataError, LabbookError
from labbook.io import write_folder
from labbook.plots import save, style
from labbook.plots.curves import draw_comparison, draw_learning_curves, draw_overview, draw_pair, draw_sweep
from labbook.report.answers import threshold
from labbook.report.assignments import COMPARISONS, OVERVIEW, PAIRS
from labbook.report.records import Gathered, SweepRecord, overview_records

__all__ = ["COPIED", "draw_all", "write_figures"]

COPIED = {  # kinds of copied figures, by source folder
    "models/cards": ("confusion", "samples"),
    "models/explained": ("filters", "activations", "attributions"),
}


def draw_all(gathered: Gathered) -> Iterator[tuple[str, str, Figure]]:
    """Yield kind, name and figure of each figure drawn here. Call it within `labbook.plots.style`."""
    by_name = gathered.by_name
    for name, record in by_name.items():
        yield "curves", name, draw_learning_curves(record.curves)
    for sweep in gathered.sweeps:
        if isinstance(sweep, SweepRecord):
            yield "sweeps", sweep.name, draw_sweep(sweep.rows, sweep.spec.vary.key)
    if overview := overview_records(gathered.records):
        curves = [record.curves for record in overview]
        yield "overview", f"assignment_{OVERVIEW.lower()}", draw_overview(curves, threshold(gathered.source))
    for pair in PAIRS:
        if {pair.first, pair.second} <= by_name.keys():
            yield "pairs", pair.name, draw_pair(by_name[pair.first].curves, by_name[pair.second].curves)
    for compared in COMPARISONS:
        names = (compared.first, compared.second)
        if by_name.keys() >= set(names):
            yield "comparisons", compared.second, draw_comparison([by_name[name].curves for name in names])


def write_figures(gathered: Gathered, folder: Path = Path("figures"), root: Path = Path()) -> None:
    """Write the folder with one PDF per figure, `<kind>/<name>.pdf`.

    Raises:
        DataError: a figure of an experiment is missing.
        LabbookError: the disk is full or the folder cannot be written.
    """
    with write_folder(folder) as part, style():
        _save_all([(figure, part / kind / f"{name}.pdf") for kind, name, figure in draw_all(gathered)])
        for source, target in _copies(gathered):
            path = part / target
            path.parent.mkdir(exist_ok=True)
            try:
                shutil.copyfile(root / source, path)
            except FileNotFoundError as error:
                stage = "explain" if source.is_relative_to("models/explained") else "evaluate"
                raise DataError(f"{source}: not found. Run `dvc repro {stage}@{path.stem}`.") from error


def _save_all(figures: Sequence[tuple[Figure, Path]]) -> None:
    """Save figures in forked processes, one per core: embedding fonts takes most of the time of the report.

    Raises:
        LabbookError: the disk is full or the folder cannot be written.
    """
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1  # libraries of other systems are not fork-safe
    shares = [figures[first::count] for first in range(1, count)]
    processes = [multiprocessing.get_context("fork").Process(target=_save_quietly, args=(share,)) for share in shares]
    for process in processes:
        process.start()
    _save(figures[::count])
    for process, share in zip(processes, shares, strict=True):
        process.join()
        if process.exitcode:
            _save(share)  # raises the error of the process if it persists


def _save(figures: Sequence[tuple[Figure, Path]]) -> None:
    for figure, path in figures:
        save(figure, path)


def _save_quietly(figures: Sequence[tuple[Figure, Path]]) -> None:
    try:
        _save(figures)
    except LabbookError:
        os._exit(1)


def _copies(gathered: Gathered) -> Iterator[tuple[Path, Path]]:
    """Yield source, relative to the project, and target, relative to the folder of figures."""
    for folder, kinds in COPIED.items():
        for record in gathered.records:
            if not record.has_pictures or (folder == "models/explained" and record.name not in gathered.explained):
                continue
            for kind in kinds:
                yield Path(folder) / record.name / f"{kind}.pdf", Path(kind) / f"{record.name}.pdf"
