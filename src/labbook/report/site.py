"""The site: a front page, a page an assignment, a page an experiment, and one that compares two.

It needs no network and no server: pages load only files beside them, and their data stand in them, as a page from disk may read
none. They hold nothing that differs between two runs of the same commit: seconds and dates stand in `timing.js`, which the
timing stage writes beside them. They link to `exercises.html`, which the exercises stage writes.
"""

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps

from labbook.core.files import read_bytes, write_bytes
from labbook.report.assignments import ASSIGNMENTS
from labbook.report.pages import assignment_page, compared, experiment_page, front_page, pictures, result_rows
from labbook.report.records import Gathered

__all__ = ["write_site"]

FOLDERS = ("assignments", "experiments", "pictures", "assets")


def write_site(gathered: Gathered, folder: Path = Path("reports"), root: Path = Path()) -> None:
    """Write the site: everything is made before the first file is written; what another run left in its folders is removed.

    Args:
        gathered: what was measured.
        folder: where it goes.
        root: of the project, whose pictures are copied.

    Raises:
        DataError: a picture or a table is missing or damaged.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labbook.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"default": _plain}
    environment.globals |= {"source": gathered.source, "official": gathered.source == "official", "assignments": ASSIGNMENTS}
    shown = {record.name: pictures(gathered, record, root) for record in gathered.records}
    rows = result_rows(gathered)
    pages = {
        "index.html": ("index.html", front_page(gathered, rows)),
        "compare.html": ("compare.html", {}),
        **{
            f"assignments/{letter}.html": ("assignment.html", assignment_page(gathered, rows, letter) | {"shown": shown})
            for letter in ASSIGNMENTS
        },
        **{
            f"experiments/{record.name}.html": ("experiment.html", experiment_page(gathered, rows, record, shown[record.name]))
            for record in gathered.records
        },
    }
    made = {
        address: environment.get_template(template).render(root="../" * address.count("/"), page=address, **context).encode()
        for address, (template, context) in pages.items()
    }
    data = htmlsafe_json_dumps(compared(gathered, rows, shown), default=_plain)
    made["assets/runs.js"] = f"window.labbookRuns = {data};\n".encode()
    made |= _assets()
    for found in shown.values():
        made |= {picture.address: read_bytes(picture.file, "Run `dvc repro`.") for picture in found.values()}
    for address, content in made.items():
        write_bytes(folder / address, content)
    for name in FOLDERS:
        for file in (folder / name).rglob("*"):
            if file.is_file() and file.relative_to(folder).as_posix() not in made:
                file.unlink()


def _plain(value: Any) -> dict[str, Any]:
    """Give a chart as JSON has it."""
    return asdict(value)


def _assets() -> dict[str, bytes]:
    """Read style and scripts, which are copied as they are."""
    folder = Path(str(files("labbook.report") / "static"))
    return {f"assets/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in folder.rglob("*") if file.is_file()}
