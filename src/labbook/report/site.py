"""The site: a front page, one page per assignment, one per experiment, and one that compares two experiments.

It needs neither network nor server: pages contain their data, because a page opened from disk cannot fetch files. Pages contain
nothing that differs between two runs of the same commit; training times and dates are in `timing.js`. Pages link to
`exercises.html`, which the exercises stage writes.
"""

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps

from labbook.io import read_bytes, write_bytes, write_folder
from labbook.report.assignments import ASSIGNMENTS
from labbook.report.compare import compare_data, compare_pairs
from labbook.report.pages import assignment_page, experiment_page, front_page, result_rows
from labbook.report.pictures import pictures
from labbook.report.records import Gathered

__all__ = ["write_site"]

FOLDERS = ("assignments", "experiments", "pictures", "assets")


def write_site(gathered: Gathered, folder: Path = Path("reports"), root: Path = Path()) -> None:
    """Render all pages and then write them, replacing those of an earlier run.

    Args:
        gathered: all results.
        folder: folder of the site.
        root: root folder of the project, from which pictures are copied.

    Raises:
        DataError: a picture or a table is missing or damaged.
        LabbookError: the disk is full or the folder cannot be written.
    """
    contents = _render(gathered, root)
    for name in FOLDERS:
        with write_folder(folder / name) as part:
            for path, content in contents.items():
                if path.startswith(f"{name}/"):
                    target = part / path.removeprefix(f"{name}/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
    for path, content in contents.items():
        if "/" not in path:
            write_bytes(folder / path, content)


def _render(gathered: Gathered, root: Path) -> dict[str, bytes]:
    """Return every file of the site, by path."""
    environment = _environment(gathered.source)
    site_pictures = {record.name: pictures(gathered, record, root) for record in gathered.records}
    rows = result_rows(gathered)
    pages: dict[str, tuple[str, dict[str, Any]]] = {
        "index.html": ("index.html", front_page(gathered, rows)),
        "compare.html": ("compare.html", {}),
    }
    for letter in ASSIGNMENTS:
        content = assignment_page(gathered, rows, letter, root) | {"pictures": site_pictures}
        pages[f"assignments/{letter}.html"] = ("assignment.html", content)
    for record in gathered.records:
        content = experiment_page(gathered, rows, record, site_pictures[record.name], root)
        pages[f"experiments/{record.name}.html"] = ("experiment.html", content)
    contents = {
        path: environment.get_template(template).render(root="../" * path.count("/"), page=path, **context).encode()
        for path, (template, context) in pages.items()
    }
    runs, pairs = compare_data(gathered, rows, site_pictures), compare_pairs(gathered.records, root)
    contents["assets/runs.js"] = _script("labbookRuns", runs) + _script("labbookPairs", pairs)
    contents |= _assets()
    for record_pictures in site_pictures.values():
        contents |= {picture.path: read_bytes(picture.source, "Run `dvc repro`.") for picture in record_pictures.values()}
    return contents


def _environment(source: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labbook.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"default": _to_json}
    environment.globals |= {"source": source, "official": source == "official", "assignments": ASSIGNMENTS}
    return environment


def _script(name: str, data: Any) -> bytes:
    return f"window.{name} = {htmlsafe_json_dumps(data, default=_to_json)};\n".encode()


def _to_json(value: Any) -> dict[str, Any]:
    """Convert a chart to a JSON-serialisable dictionary."""
    return asdict(value)


def _assets() -> dict[str, bytes]:
    """Read the style sheet and scripts, which are copied unchanged."""
    folder = Path(str(files("labbook.report") / "static"))
    return {f"assets/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in folder.rglob("*") if file.is_file()}
