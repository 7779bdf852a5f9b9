"""Figures: a common style, reproducible bytes, TrueType fonts, images without resampling."""

import io
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sample_records import make_project, make_record, write_record
from toolbox import unused_compute_logits

from labbook.errors import DataError, LabbookError
from labbook.evaluation import Evaluation
from labbook.evaluation.tasks import classification, segmentation, toy2d
from labbook.plots import COLUMN, PAGE, render, save, style
from labbook.plots.confusion import MAX_LABELLED, draw_confusion
from labbook.plots.curves import draw_comparison, draw_learning_curves, draw_overview, draw_sweep
from labbook.plots.samples import draw_samples
from labbook.report.assignments import COMPARISONS, PAIRS
from labbook.report.figures import COPIED, draw_all, write_figures
from labbook.report.records import Gathered, SweepRecord

ROOT = Path(__file__).parents[1]
DRAW = """
from pathlib import Path
import numpy as np
from matplotlib.figure import Figure
from labbook.plots import save, style

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
def files(tmp_path_factory) -> list[dict[str, bytes]]:
    """The same figure, drawn by two processes with different environments."""
    matplotlibrc = tmp_path_factory.mktemp("settings") / "matplotlibrc"
    matplotlibrc.write_text("font.size: 20\nfont.family: monospace\nsavefig.bbox: tight\npdf.fonttype: 3\n")
    environments = (
        {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"},
        {
            "PYTHONHASHSEED": "2",
            "TZ": "Asia/Tokyo",
            "LC_ALL": "C.UTF-8",
            "SOURCE_DATE_EPOCH": "86400",
            "MATPLOTLIBRC": str(matplotlibrc),
        },
    )
    written = []
    for changes in environments:
        folder = tmp_path_factory.mktemp("figures")
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **changes}
        subprocess.run([sys.executable, "-c", DRAW], cwd=folder, env=environment, check=True, timeout=60)
        written.append({file.suffix: file.read_bytes() for file in folder.iterdir()})
    return written


def test_bytes_do_not_depend_on_time_locale_hash_seed_or_matplotlibrc(files):
    assert set(files[0]) == {".pdf", ".png", ".svg"}
    for kind, content in files[0].items():
        assert content == files[1][kind], kind


def test_files_contain_a_title_but_no_date_and_no_software_version(files):
    for kind, content in files[0].items():
        assert not re.search(rb"Date|Producer|Creator|Software|20\d\d-\d\d", content), kind
        assert mpl.__version__.encode() not in content, kind
        assert b"figure" in content, "the title"


def test_fonts_are_truetype_and_text_can_be_copied(files):
    content = files[0][".pdf"]
    assert b"/FontFile2" in content
    assert b"/ToUnicode" in content
    assert b"/Type3" not in content
    assert ">größer</text>" in files[0][".svg"].decode()


def test_images_are_not_resampled(files):
    content = files[0][".pdf"]
    (image,) = re.finditer(rb"/Subtype /Image /Width 20 /Height 30\b", content)
    assert b"/SMask" not in content
    start = content.index(b"stream\n", image.end()) + len(b"stream\n")
    rows = zlib.decompressobj().decompress(content[start:])
    assert len(rows) == 30 * (1 + 3 * 20), "rows are encoded as in PNG: a filter type, then three bytes per pixel"


def test_style_restores_rcparams(tmp_path):
    before = dict(mpl.rcParams)
    with style({"font.size": 11}):
        assert (mpl.rcParams["font.size"], mpl.rcParams["pdf.fonttype"]) == (11, 42)
    assert dict(mpl.rcParams) == before


def test_save_reports_an_unwritable_path_and_leaves_no_partial_file(tmp_path):
    (tmp_path / "figure.pdf").mkdir()
    with pytest.raises(LabbookError, match=r"figure\.pdf"):
        save(Figure(), tmp_path / "figure.pdf")
    assert [file.name for file in tmp_path.iterdir()] == ["figure.pdf"]


def cells(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_confusion_shows_counts_and_is_shaded_by_row_share():
    with style():
        figure = draw_confusion(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]]), ("a", "b", "c"))
    (shades,) = figure.axes[0].collections
    assert shades.get_array().tolist() == [[0.75, 0.25, 0], [0, 0, 0], [0, 0, 1]]
    assert cells(figure) == ["3", "1", "2"]
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top, "the first class is at the top"


def test_confusion_shows_percentages_for_pixels_and_only_shades_for_many_classes():
    with style():
        assert cells(draw_confusion(np.array([[30_000, 10_000], [0, 5]]), ("a", "b"))) == ["75%", "25%", "100%"]
        many = draw_confusion(np.eye(MAX_LABELLED + 1, dtype=np.int64), tuple(map(str, range(MAX_LABELLED + 1))))
    assert cells(many) == []
    assert many.axes[0].images[0].get_array().shape == (MAX_LABELLED + 1, MAX_LABELLED + 1)


@pytest.mark.parametrize("classes", [2, 10, MAX_LABELLED, MAX_LABELLED + 1])
def test_confusion_fits_on_a_page(classes):
    with style():
        figure = draw_confusion(
            np.full((classes, classes), 1234), tuple(f"class of name {number}" for number in range(classes))
        )
    assert figure.get_figwidth() <= PAGE
    assert figure.get_figheight() <= PAGE


def pixels_of(evaluation: Evaluation, images: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Draw samples, and return the pixels of the PNG, (H, W, RGB)."""
    with style():
        content = render(draw_samples(evaluation, images, classes), "png")
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def classify(predicted: list[int], labels: list[int]) -> Evaluation:
    logits = (np.eye(4)[predicted] * 20).astype(np.float32)
    return classification.evaluate(logits, np.array(labels), 1.0, ("a", "b", "c", "d"), unused_compute_logits)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_draw_samples_with_few_or_no_mistakes(count):
    labels = [0, 1, 2, 3] * 2
    predicted = [(label + 1) % 4 if index < count else label for index, label in enumerate(labels)]
    colour = np.array([10, 200, 90], np.uint8)
    images = np.broadcast_to(colour[:, None, None], (8, 3, 5, 5))
    pixels = pixels_of(classify(predicted, labels), images, ("a", "b", "c", "d"))
    assert pixels.shape == (488, 1080, 3)
    assert (pixels == colour).all(axis=2).sum() == count * 190**2, "each pixel of a sample is a square of 38 × 38 pixels"


def test_large_images_are_drawn_without_smoothing():
    """Smoothing would blur the picture and double the size of its file."""
    red, blue = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    drawn = np.random.default_rng(0).integers(0, 2, (2, 64, 64, 1))
    pixels = pixels_of(classify([1, 0], [0, 1]), np.where(drawn, red, blue).transpose(0, 3, 1, 2), ("a", "b", "c", "d"))
    coloured = pixels[(pixels[..., 1] == 0) & (pixels.max(axis=2) > 200)]
    assert len(coloured) > 20000
    assert coloured[:, [0, 2]].min(axis=1).max() == 0


def test_decision_regions_are_drawn_with_the_first_row_at_the_bottom():
    def compute_logits(images: np.ndarray) -> np.ndarray:
        return np.stack([np.zeros(len(images)), images[:, 1, 0, 0] - 127.5], axis=1).astype(np.float32) * 9

    evaluation = toy2d.evaluate(np.zeros((2, 2), np.float32), np.array([0, 1]), 1.0, ("below", "above"), compute_logits)
    pixels = pixels_of(evaluation, np.full((2, 2, 1, 1), 128, np.uint8), ("below", "above"))
    bluer, redder = (pixels[..., one] - pixels[..., other] > 40 for one, other in ((2, 0), (0, 2)))
    assert redder.sum() > 40_000 < bluer.sum()
    assert np.nonzero(redder)[0].mean() < np.nonzero(bluer)[0].mean(), "larger y is higher up and belongs to the second class"


@pytest.mark.parametrize("count", [1, segmentation.SHOWN + 2])
def test_first_scenes_are_drawn_with_truth_and_prediction(count):
    labels = np.zeros((count, 8, 8), np.uint8)
    logits = np.moveaxis(np.eye(2, dtype=np.float32)[np.ones((count, 8, 8), int)], -1, 1)
    evaluation = segmentation.evaluate(logits, labels, 0.5, ("ground", "disc"), unused_compute_logits)
    with style():
        axes = draw_samples(evaluation, np.full((count, 3, 8, 8), 7, np.uint8), ("ground", "disc")).axes
    shown = min(count, segmentation.SHOWN)
    values = [np.unique(axis.images[0].get_array()).tolist() for axis in axes]
    assert values == [[7]] * shown + [[0]] * shown + [[1]] * shown
    assert [axis.get_ylabel() for axis in axes][::shown] == ["image", "truth", "prediction"]


def make_gathered(*names: str, **gathered) -> Gathered:
    return Gathered("official", [make_record(name, [0.5, 0.9]) for name in names], **gathered)


def test_draw_all_yields_curves_overview_pairs_and_comparisons():
    (comparison,) = COMPARISONS
    pair = PAIRS[0]
    names = ("mnist_cnn", "mnist_cnn_adam", "mnist_resnet_sgd", comparison.first, comparison.second, pair.first)
    expected = {("curves", name) for name in names} | {("overview", "assignment_b"), ("comparisons", comparison.second)}
    with style():
        drawn = {(kind, name): figure for kind, name, figure in draw_all(make_gathered(*names))}
        assert drawn.keys() == expected, "a pair needs both experiments"
        assert {figure.get_figwidth() for figure in drawn.values()} <= {COLUMN, PAGE}
        both = [(kind, name) for kind, name, _ in draw_all(make_gathered(pair.first, pair.second))]
    assert ("pairs", pair.name) in both


def lines_of(figure: Figure) -> list[list[tuple[str, list[float]]]]:
    """Return label and values of each line, grouped by axes."""
    return [[(line.get_label(), list(line.get_ydata())) for line in axes.lines] for axes in figure.axes]


def test_curves_contain_the_history():
    curves = make_record("cifar10_cnn", [0.5, 0.8], validation=[0.4, 0.6]).curves
    other = make_record("cifar10_cnn_plus_flip", [0.6, 0.7], validation=[0.3, 0.2]).curves
    rows = pd.DataFrame({"value": [0.0, 0.5], "test_accuracy": [0.97, 0.93]})
    with style():
        loss, accuracy = lines_of(draw_learning_curves(curves))
        assert loss[:3] == [("train", [0.45, 0.15]), ("val", [0.4, 0.6]), ("test", [0.6, 0.3])]
        assert accuracy[:3] == [("train", [0.505, 0.805]), ("val", [0.57, 0.37]), ("test", [0.5, 0.8])]
        assert [label for label, _ in accuracy] == ["train", "val", "test", "selected"]
        compared = lines_of(draw_comparison([curves, other]))
        assert [values for _, values in compared[0]] == [[0.45, 0.15], [0.4, 0.6], [0.35, 0.25], [0.3, 0.2]]
        (errors,) = lines_of(draw_overview([curves, other], 0.9))
        assert [values for _, values in errors] == [pytest.approx(values) for values in ([50, 20], [40, 30], [10, 10])]
        (swept,) = lines_of(draw_sweep(rows, "model.dropout"))
        assert swept[0][1] == [0.97, 0.93]


def test_overview_gives_each_curve_a_distinct_colour_and_line_style():
    names = [name for name, experiment in make_project().experiments.items() if experiment.assignment == "B"]
    with style():
        figure = draw_overview([make_record(name, [0.5, 0.9]).curves for name in names], 0.98)
        colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    curves = figure.axes[0].lines[: len(names)]
    styles = {(int(curve.get_color().removeprefix("C")) % len(colours), curve.get_linestyle()) for curve in curves}
    assert len(styles) == len(names) > len(colours)


def write_pdfs(root: Path, name: str) -> None:
    for folder, kinds in COPIED.items():
        for kind in kinds:
            path = root / folder / name / f"{kind}.pdf"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{kind} of {name}".encode())


def test_write_figures_writes_drawn_figures_and_copies(tmp_path):
    sweep = SweepRecord(
        "swept", make_project().sweeps["mnist_cnn_dropout"], 1, pd.DataFrame({"value": [0], "test_accuracy": [1]})
    )
    for name in ("mnist_cnn", "mnist_mlp_100"):
        write_pdfs(tmp_path, name)
    gathered = make_gathered("mnist_cnn", "mnist_mlp_100", sweeps=[sweep], explained={"mnist_cnn": {}})
    folder = tmp_path / "figures"
    (folder / "curves").mkdir(parents=True)
    (folder / "curves/removed.pdf").write_bytes(b"from an earlier run")
    write_figures(gathered, folder, tmp_path)
    written = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.pdf")}
    drawn = {"curves/mnist_cnn.pdf", "curves/mnist_mlp_100.pdf", "sweeps/swept.pdf"}
    copied = {f"{kind}/{name}.pdf" for kind in ("confusion", "samples") for name in ("mnist_cnn", "mnist_mlp_100")}
    copied |= {f"{kind}/mnist_cnn.pdf" for kind in ("filters", "activations", "attributions")}
    assert written.keys() == drawn | copied
    assert all(written[name].startswith(b"%PDF") for name in drawn)
    assert written["samples/mnist_mlp_100.pdf"] == b"samples of mnist_mlp_100"
    write_figures(gathered, folder, tmp_path)
    again = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.pdf")}
    assert again == written


@pytest.mark.parametrize(("folder", "stage"), [("cards", "evaluate"), ("explained", "explain")])
def test_missing_figure_names_its_stage_and_keeps_the_old_folder(tmp_path, folder, stage):
    write_pdfs(tmp_path, "mnist_cnn")
    gathered = make_gathered("mnist_cnn", explained={"mnist_cnn": {}})
    write_figures(gathered, tmp_path / "figures", tmp_path)
    before = sorted((tmp_path / "figures").rglob("*"))
    shutil.rmtree(tmp_path / "models" / folder)
    with pytest.raises(
        DataError, match=rf"^models/{folder}/mnist_cnn/\w+\.pdf: not found\. Run `dvc repro {stage}@mnist_cnn`\.$"
    ):
        write_figures(gathered, tmp_path / "figures", tmp_path)
    assert sorted((tmp_path / "figures").rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


OUTPUTS = {
    "figures", "reports/assets", "reports/assignments", "reports/compare.html", "reports/experiments", "reports/history.tsv",
    "reports/index.html", "reports/pictures", "reports/tables", "reports/timing.js",
    "reports/tables/embedded.csv", "reports/tables/embedded.md", "timing/embedded.csv",
}  # fmt: skip


@pytest.mark.parametrize("ran", [False, True])
def test_report_stage_writes_all_outputs_with_and_without_results(workdir, run_stage, ran):
    if ran:
        record = make_record("mnist_mlp_100", [0.5, 0.9], source="embedded")
        write_record(record)
        write_pdfs(workdir, record.name)
    done = run_stage("report")
    assert (done.returncode, done.stderr) == (0, "")
    written = {path.as_posix() for folder in ("reports", "reports/tables", "timing") for path in Path(folder).iterdir()}
    assert written | {"figures"} == OUTPUTS
    assert Path("figures").is_dir()
    assert len(list(Path("figures").rglob("*.pdf"))) == (3 if ran else 0)
    assert len(list(Path("reports/experiments").iterdir())) == (1 if ran else 0)


def test_report_stage_never_imports_torch(workdir):
    write_record(make_record("mnist_mlp_100", [0.5, 0.9], source="embedded"))
    write_pdfs(workdir, "mnist_mlp_100")
    script = (
        "import runpy, sys; sys.path[:0] = ['stages', sys.argv.pop()]; runpy.run_path('stages/report.py', run_name='__main__')"
    )
    check = f"{script}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", check, str(ROOT / "src")], capture_output=True, text=True, check=True, timeout=120
    )
    assert {"labbook.report.site", "matplotlib"} <= set(done.stdout.split())
    assert not {"torch", "captum", "sklearn", "safetensors"} & set(done.stdout.split())
