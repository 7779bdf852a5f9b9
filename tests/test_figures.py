"""Figures for print: one style, the same bytes anywhere and at any time, letters as TrueType, pixels as they are."""

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from test_report import make_record

from labbook.core.errors import LabbookError
from labbook.figures import COLUMN, PAGE, save, style
from labbook.figures.confusion import LEGIBLE, draw_confusion
from labbook.figures.curves import COMPARED, KINDS, draw_all, draw_overview
from labbook.params.project import Project, read_project

ROOT = Path(__file__).parents[1]
DRAW = """
from pathlib import Path
import numpy as np
from matplotlib.figure import Figure
from labbook.figures import save, style

with style():
    figure = Figure(figsize=(2, 1))
    left, right = figure.subplots(1, 2)
    left.plot([1, 2, 3], [3e-9, 1, 2], label="curve")
    left.set(yscale="log", title="größer", xlabel="epoch")
    left.legend()
    right.imshow(np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8))
    for kind in ("pdf", "png", "svg"):
        save(figure, Path(f"figure.{kind}"))
"""


@pytest.fixture(scope="module")
def project() -> Project:
    return read_project(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[dict[str, bytes]]:
    """The same figure from two processes whose surroundings differ."""
    own = tmp_path_factory.mktemp("own") / "matplotlibrc"
    own.write_text("font.size: 20\nfont.family: monospace\nsavefig.bbox: tight\npdf.fonttype: 3\n")
    surroundings = (
        {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"},
        {
            "PYTHONHASHSEED": "2",
            "TZ": "Asia/Tokyo",
            "LC_ALL": "C.UTF-8",
            "SOURCE_DATE_EPOCH": "86400",
            "MATPLOTLIBRC": str(own),
        },
    )
    written = []
    for changes in surroundings:
        folder = tmp_path_factory.mktemp("figures")
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **changes}
        subprocess.run([sys.executable, "-c", DRAW], cwd=folder, env=environment, check=True, timeout=60)
        written.append({file.suffix: file.read_bytes() for file in folder.iterdir()})
    return written


def test_bytes_do_not_depend_on_time_locale_hashes_or_a_users_settings(files):
    assert set(files[0]) == {".pdf", ".png", ".svg"}
    for kind, content in files[0].items():
        assert content == files[1][kind], kind


def test_no_file_says_when_or_with_what_it_was_made_but_its_name(files):
    for kind, content in files[0].items():
        assert not re.search(rb"Date|Producer|Creator|Software|20\d\d-\d\d", content), kind
        assert mpl.__version__.encode() not in content, kind
        assert b"figure" in content, "the title"


def test_letters_are_truetype_and_text_can_be_copied(files):
    content = files[0][".pdf"]
    assert b"/FontFile2" in content
    assert b"/ToUnicode" in content
    assert b"/Type3" not in content
    assert ">größer</text>" in files[0][".svg"].decode()


def test_images_keep_their_own_pixels(files):
    content = files[0][".pdf"]
    (image,) = re.finditer(rb"/Subtype /Image /Width 20 /Height 30\b", content)
    assert b"/SMask" not in content
    start = content.index(b"stream\n", image.end()) + len(b"stream\n")
    rows = zlib.decompressobj().decompress(content[start:])
    assert len(rows) == 30 * (1 + 3 * 20), "rows as in PNG: a filter's number, then three bytes a pixel"


def test_style_ends_where_it_began(tmp_path):
    before = dict(mpl.rcParams)
    with style({"font.size": 11}):
        assert (mpl.rcParams["font.size"], mpl.rcParams["pdf.fonttype"]) == (11, 42)
    assert dict(mpl.rcParams) == before


def test_a_figure_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / "figure.pdf").mkdir()
    with pytest.raises(LabbookError, match=r"figure\.pdf"):
        save(Figure(), tmp_path / "figure.pdf")
    assert [file.name for file in tmp_path.iterdir()] == ["figure.pdf"]


def cells(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_confusion_shows_counts_and_shades_by_actual_class():
    with style():
        figure = draw_confusion(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]]), ("a", "b", "c"))
    (shades,) = figure.axes[0].collections
    assert shades.get_array().tolist() == [[0.75, 0.25, 0], [0, 0, 0], [0, 0, 1]]
    assert cells(figure) == ["3", "1", "2"]
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top, "the first class is above"


def test_confusion_of_pixels_shows_percents_and_of_many_classes_shades_alone():
    with style():
        assert cells(draw_confusion(np.array([[30_000, 10_000], [0, 5]]), ("a", "b"))) == ["75%", "25%", "100%"]
        many = draw_confusion(np.eye(LEGIBLE + 1, dtype=np.int64), tuple(map(str, range(LEGIBLE + 1))))
    assert cells(many) == []
    assert many.axes[0].images[0].get_array().shape == (LEGIBLE + 1, LEGIBLE + 1)


@pytest.mark.parametrize("classes", [2, 10, LEGIBLE, LEGIBLE + 1])
def test_confusion_fits_on_a_page(classes):
    with style():
        figure = draw_confusion(
            np.full((classes, classes), 1234), tuple(f"class of name {number}" for number in range(classes))
        )
    assert figure.get_figwidth() <= PAGE
    assert figure.get_figheight() <= PAGE


def test_every_record_has_its_curves_and_what_belongs_together_is_drawn_together(project):
    pair = project.pairs["rings_relu"]
    names = ("mnist_cnn", "mnist_cnn_adam", "mnist_resnet_sgd", *COMPARED[0], pair.first)
    records = [make_record(project, name, [0.5, 0.9]) for name in names]
    with style():
        drawn = {(kind, name): figure for kind, name, figure in draw_all(project, records, [])}
    expected = {("curves", name) for name in names} | {("overview", "assignment_b"), ("comparisons", COMPARED[0][-1])}
    assert drawn.keys() == expected, "half a pair is none"
    assert {kind for kind, _ in drawn} <= set(KINDS)
    assert {figure.get_figwidth() for figure in drawn.values()} <= {COLUMN, PAGE}


def test_overview_tells_all_curves_apart(project):
    names = [name for name, experiment in project.experiments.items() if experiment.assignment == "B"]
    records = [make_record(project, name, [0.5, 0.9]) for name in names]
    with style():
        curves = draw_overview(records).axes[0].lines[: len(records)]
        colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    looks = {(int(curve.get_color().removeprefix("C")) % len(colours), curve.get_linestyle()) for curve in curves}
    assert len(looks) == len(names)


def test_stage_makes_every_folder_where_nothing_was_run(workdir, run_stage):
    done = run_stage("figures")
    assert (done.returncode, done.stderr) == (0, "")
    assert {folder.name for folder in Path("figures").iterdir()} == set(KINDS)
    assert not list(Path("figures").rglob("*.pdf"))
