"""The report: tables, charts, pages and training times, from synthetic records."""

import csv
import dataclasses
import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from sample_records import CONFUSION, make_project, make_record, params, svg, write_pictures, write_record

from labbook.errors import DataError
from labbook.io import write_json, write_tsv
from labbook.plots.curves import Curves, draw_comparison, draw_learning_curves, draw_overview, draw_sweep
from labbook.report import assignments
from labbook.report.answers import ANSWERS
from labbook.report.assignments import ASSIGNMENTS, COMPARISONS, DETAILED, EFFECTS, PAIRS, QUESTIONS
from labbook.report.charts import (
    comparison_curves,
    error_curves,
    learning_curves,
    pair_charts,
    reliability,
    sparkline,
    sweep_curve,
)
from labbook.report.gather import gather, gather_all, gather_explained, gather_sweeps, gather_timing
from labbook.report.readme import BEGIN, END, fill
from labbook.report.records import (
    Earlier,
    Gathered,
    Pending,
    PendingSweep,
    Record,
    SweepRecord,
    overview_records,
    read_confusion,
)
from labbook.report.site import write_site
from labbook.report.tables import comparison, curve_points, markdown, results_table, write_results
from labbook.report.timing import write_timing

ROOT = Path(__file__).parents[1]
TIMING = {
    "source": "embedded",
    "seconds": 12.5,
    "seconds_per_training": [5.0, 7.5],
    "seconds_per_epoch": 1.25,
    "finished": "2020-01-01T00:00:00Z",
    "processor": "a CPU",
    "cores": 2,
    "python": "3.11",
}
OTHER_FILES = {"timing.js", "exercises.html"}  # written by other code


def test_every_name_in_assignments_is_an_experiment():
    named = {name for questions in QUESTIONS.values() for question in questions for name in question.experiments}
    named |= {*DETAILED.values(), *EFFECTS}
    named |= {name for pair in PAIRS for name in (pair.first, pair.second)}
    named |= {name for one in COMPARISONS for name in (one.first, one.second)}
    assert named <= set(make_project().experiments)
    assert {question.kind for questions in QUESTIONS.values() for question in questions} == set(ANSWERS)
    letters = {*QUESTIONS, *DETAILED, assignments.OVERVIEW, *(one.assignment for one in (*PAIRS, *COMPARISONS))}
    assert letters <= set(ASSIGNMENTS)


def test_only_assignments_refers_to_experiments_by_name():
    names = re.compile("|".join(rf"\b{name}\b" for name in make_project().experiments))
    sources = [*(ROOT / "src/labbook/report").rglob("*.py"), *(ROOT / "src/labbook/report").rglob("*.html")]
    sources += (ROOT / "src/labbook/plots").rglob("*.py")
    assert len(sources) > 20
    matches = {source.name for source in sources if names.search(source.read_text())}
    assert matches == {"assignments.py"}


def test_result_of_an_experiment_is_the_mean_over_its_seeds():
    record = make_record("mnist_cnn_adam", [0.97, 0.98], seeds=3)
    assert record.values("test_accuracy") == [0.98, 0.979, 0.978]
    assert (record.test_accuracy, record.deviation("test_accuracy")) == (0.979, 0.001)
    assert (record.mean("train_accuracy"), record.deviation("train_accuracy")) == (0.948, 0.002)
    assert (record.mean("test_loss"), record.mean("test_ece")) == (0.135, 0.0133)
    assert (record.values("val_accuracy"), record.mean("val_accuracy"), record.deviation("val_accuracy")) == ([], None, None)
    assert make_record("mnist_cnn_adam", [0.98]).deviation("test_accuracy") is None
    assert (record.history["test_accuracy"].iloc[-1], record.selected["test_accuracy"]) == (0.98, 0.98)


def test_row_of_the_results_has_every_value_in_its_column(tmp_path):
    record = make_record("mnist_mlp_100", [0.5, 0.975, 0.978], seeds=2, validation=[0.4, 0.1, 0.2])
    write_results(Gathered("official", [record]), tmp_path)
    with (tmp_path / "official.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "experiment": "mnist_mlp_100", "assignment": "A", "reported_test_accuracy": "0.9786", "test_accuracy": "0.9745",
        "test_sd": "0.000707", "seeds": "2", "gap": "-0.0041", "verdict": "consistent", "required": "0.975",
        "required_reached": "False", "chance": "0.1135", "test_loss": "0.13", "test_miou": "", "chance_miou": "",
        "test_ece": "0.0128", "train_accuracy": "0.949", "val_accuracy": "0.87", "select": "best_val_loss", "epochs": "1",
        "parameters": "21578", "data": "official", "device": "cpu", "precision": "float32", "threads": "1",
        "first_seed": "0", "torch": "2.0",
    }  # fmt: skip


def test_epochs_are_the_mean_over_the_seeds():
    record = make_record("mnist_mlp_100", [0.97, 0.975, 0.978], seeds=2)
    record.seeds[1]["epochs_trained"] = 6
    table = results_table("official", [record])
    assert table["epochs"].tolist() == [4.5]
    assert comparison(table)["epochs"].tolist() == ["4.5"]


def test_embedded_run_is_compared_only_with_chance(tmp_path):
    records = [make_record("mnist_cnn_adam", [0.5, 0.9], source="embedded")]
    shown = comparison(results_table("embedded", records))
    assert list(shown) == ["experiment", "test accuracy", "chance", "parameters", "epochs"]
    assert shown.iloc[0].tolist() == ["`mnist_cnn_adam`", "0.9000", "0.1135", "21,578", "2"]
    write_results(Gathered("embedded", records), tmp_path)
    assert "0.9909" not in (tmp_path / "embedded.md").read_text() + (tmp_path / "embedded.csv").read_text()


def test_official_run_is_compared_with_the_reported_result(tmp_path):
    records = [make_record("mnist_cnn_adam", [0.97, 0.98]), make_record("mnist_mlp_100", [0.98], seeds=3)]
    write_results(Gathered("official", records), tmp_path)
    text = (tmp_path / "official.md").read_text()
    assert "| `mnist_cnn_adam` | 0.9909 | 0.9800 | -0.0109 | one run only |  | 21,578 | 2 |" in text
    assert "| `mnist_mlp_100` | 0.9776 | 0.9790 ± 0.0010 (n = 3) | +0.0014 | consistent | 0.975 reached | 21,578 | 1 |" in text
    assert "Device: cpu, threads: 1; first seed 0; torch 2.0." in text


def test_tables_contain_no_times_dates_or_links(tmp_path):
    records = [make_record("mnist_mlp_100", [0.98], seeds=2), make_record("rings_relu_zero", [0.5])]
    write_results(Gathered("official", records), tmp_path)
    text = "".join(file.read_text() for file in tmp_path.iterdir())
    assert "](" not in text, "tables contain no links, because git may not track their targets"
    assert not re.search(r"20\d\d-\d\d-\d\d|seconds_", text)


def test_required_accuracy_is_compared_with_the_mean():
    records = [
        make_record("mnist_mlp_100", [0.974]),
        make_record("mnist_mlp_200", [0.98]),
        make_record("mnist_mlp_1000", [0.983], seeds=2),
    ]
    shown = comparison(results_table("official", records))["required"]
    assert list(shown) == ["0.975 missed", "0.980 reached", "0.983 missed"]


def test_markdown_has_a_cell_for_each_value():
    assert markdown(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | x |",
        "| 2 | y |",
    ]


def test_curves_with_several_rows_per_epoch_are_drawn_by_step():
    record = make_record("cifar10_cnn", [0.5, 0.8], validation=[0.4, 0.6])
    assert (record.curves.progress, record.selected["step"], record.curves.selected) == ("step", 100, 0)
    assert make_record("mnist_cnn_adam", [0.9, 0.95]).curves.progress == "epoch"
    assert svg(draw_learning_curves, record.curves) == svg(draw_learning_curves, record.curves)
    assert svg(draw_comparison, [record.curves]) == svg(draw_comparison, [record.curves])


def texts(draw: Callable[..., Figure], curves: Curves) -> list[tuple[str, float]]:
    """Return each text of a figure with its distance from the top."""
    matches = re.findall(r"<text [^>]*?(?:translate\([-.\d]+ |\by=\")([-.\d]+)[^>]*>([^<]+)</text>", svg(draw, curves))
    return [(text, float(height)) for height, text in matches]


def test_legend_is_above_the_curves_and_includes_the_selected_weights():
    legend_texts = texts(draw_learning_curves, make_record("cifar10_cnn", [0.5, 0.8], validation=[0.4, 0.6]).curves)
    (legend,) = {height for text, height in legend_texts if text in {"train", "val", "test", "selected"}}
    assert [text for text, height in legend_texts if height == legend] == ["train", "val", "test", "selected"]
    assert all(height > legend for text, height in legend_texts if height != legend)
    assert "selected" not in dict(texts(draw_learning_curves, make_record("mnist_cnn_adam", [0.9, 0.95]).curves))


def test_epoch_ticks_are_integers_and_a_flat_loss_has_no_offset():
    history = make_record("mnist_cnn_adam", [0.9, 0.95, 0.96]).history
    flat = Curves("flat", history.assign(train_loss=[2.3029, 2.3027, 2.3026], test_loss=2.3026))
    labels = [text for text, _ in texts(draw_learning_curves, flat)]
    assert {"1", "2", "3"} <= set(labels)
    assert any(label.startswith("2.302") for label in labels)
    assert not {"1.5", "2.5"} & set(labels)
    assert not any(label.startswith("+") for label in labels)


def test_figures_are_reproducible_and_contain_no_date():
    curves = make_record("mnist_cnn_adam", [0.9, 0.95]).curves
    assert svg(draw_learning_curves, curves) == svg(draw_learning_curves, curves)
    assert svg(draw_overview, [curves], 0.98) == svg(draw_overview, [curves], 0.98)
    assert not re.search(r"20\d\d-\d\d-\d\d", svg(draw_overview, [curves], 0.98))


def test_curve_points_contain_experiment_and_seed():
    points = curve_points([make_record("mnist_cnn_adam", [0.5, 0.6], seeds=2), make_record("mnist_mlp_100", [0.7])])
    assert list(points["experiment"]) == ["mnist_cnn_adam"] * 4 + ["mnist_mlp_100"]
    assert list(points["seed"]) == [0, 0, 1, 1, 0]
    assert list(points["test_accuracy"]) == [0.5, 0.6, 0.499, 0.599, 0.7]
    assert list(curve_points([])) == ["seed", "epoch", "train_accuracy", "experiment"], "DVC can plot a table without rows"


class Elements(html.parser.HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a site and returns its pages, scripts and style sheets by path."""
    monkeypatch.chdir(tmp_path)

    def written(entries, source: str = "official", **gathered) -> dict[str, str]:
        for record in entries:
            if isinstance(record, Record):
                write_pictures(record, tmp_path)
        write_site(Gathered(source, entries, **gathered), tmp_path / "reports")
        files = [file for file in (tmp_path / "reports").rglob("*") if file.suffix in {".html", ".js", ".css"}]
        return {file.relative_to(tmp_path / "reports").as_posix(): file.read_text() for file in files}

    return written


@pytest.fixture
def site(write) -> dict[str, str]:
    names = ("mnist_mlp_100", "mnist_cnn_small", "mnist_plain_deep_sgd", "mnist_resnet_bn_sgd")
    return write([make_record(name, [0.9, 0.985]) for name in names])


def test_pages_reference_only_local_files_and_anchors_that_exist(site, tmp_path):
    for page, text in site.items():
        elements = Elements(text).found if page.endswith(".html") else []
        ids = {attributes.get("id") for _, attributes in elements}
        for tag, attributes in elements:
            if (address := attributes.get("src") or attributes.get("href")) is None or address == "data:,":
                continue
            file, _, anchor = address.partition("#")
            target = (tmp_path / "reports" / page).parent / file
            assert target.exists() or target.name in OTHER_FILES, (page, tag, address)
            assert not anchor or anchor in ids or file == "../compare.html", (page, address)
        assert "@import" not in text


def test_every_picture_has_alternative_text(site):
    pictures = 0
    for page, text in site.items():
        for tag, attributes in Elements(text).found if page.endswith(".html") else []:
            if tag == "img":
                pictures += 1
                assert "4 taken for 9" in attributes["alt"]
                assert (attributes["width"], attributes["height"]) == ("7", "5")
            if attributes.get("role") == "img":
                assert attributes["aria-label"]
    assert pictures == 5, "one per experiment, and one that its assignment shows in detail"


def test_pages_contain_no_dates(site):
    assert not any(re.search(r"20\d\d-\d\d-\d\d", text) for address, text in site.items() if "vendor" not in address)


def test_site_is_reproducible_and_replaces_files_of_earlier_runs(write, tmp_path):
    records = [make_record(name, [0.9, 0.985]) for name in ("mnist_mlp_100", "mnist_cnn_small")]
    first = write(records)
    (tmp_path / "reports/exercises.html").write_text("from another stage")
    assert write(records) == first | {"exercises.html": "from another stage"}
    assert "experiments/mnist_mlp_100.html" not in write(records[1:])
    assert not (tmp_path / "reports/pictures/samples/mnist_mlp_100.png").exists()


def test_nothing_is_written_when_a_picture_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"samples/mnist_mlp_100\.png: not found\. Run `dvc repro evaluate@mnist_mlp_100`"):
        write_site(Gathered("official", [make_record("mnist_mlp_100", [0.9])]))
    assert not (tmp_path / "reports").exists()


def test_page_shows_the_number_of_training_processes(write):
    records = [make_record(name, [0.9], source="embedded") for name in ("mnist_mlp_100", "mnist_mlp_200")]
    records[0].settings["world_size"] = 4
    pages = write(records, "embedded")
    page = pages["experiments/mnist_mlp_100.html"]
    assert "cpu, threads: 1, processes: 4<" in page
    assert '<tr class="changed"><th scope="row"><code>world_size</code></th><td>4</td><td>1</td></tr>' in page
    assert "processes" not in pages["experiments/mnist_mlp_200.html"]


def test_page_contains_all_results_of_its_experiment(site):
    page = site["experiments/mnist_mlp_100.html"]
    assert "in its best epoch and 0.9776 in its last" in page
    assert "0.975 reached" in page
    assert re.search(r"<code>optimizer\.lr</code></th><td>0\.02<", page)
    assert '<tr class="changed"><th scope="row"><code>batch_size</code>' not in page, "the same as in the official run"
    assert re.search(r"Linear</td><td>10</td><td class=\"number\">21,578<", page)
    rows = re.findall(r'<th scope="row">(\d)</th><td>(\d)</td><td class="number">(\d+)</td><td class="number">([\d.]+)%', page)
    assert rows == [("4", "9", "30", "3.0"), ("9", "4", "3", "0.5")], "most frequent confusion first"
    classes = re.findall(
        r'<th scope="row">(\d)</th><td class="number">([\d,]+)</td><td[^>]*>([\d.]+)</td><td[^>]*>([\d.]+)</td>', page
    )
    precise = [f"{970 / 973:.4f}", f"{606 / 636:.4f}"]
    assert classes == [("4", "1,000", "0.9878", precise[0]), ("9", "609", "0.9970", precise[1])]
    assert "Explanations" not in page
    assert "Assignment A</a></p>" in page


@pytest.mark.parametrize(
    ("origin", "override"),
    [
        ("experiments.mnist_mlp_100.train", "experiments.mnist_mlp_100.train"),
        ("defaults.A", "+experiments.mnist_mlp_100.train"),
        ("experiments.mnist_mlp_100.train.embedded", "experiments.mnist_mlp_100.train.embedded"),
        ("defaults.A.embedded", "+experiments.mnist_mlp_100.train.embedded"),
    ],
)
def test_page_shows_the_override_for_each_origin_of_a_setting(write, origin, override):
    record = dataclasses.replace(make_record("mnist_mlp_100", [0.9]), origins={"optimizer.lr": origin})
    page = write([record])["experiments/mnist_mlp_100.html"]
    assert f" -S {override}.optimizer.lr=0.02 evaluate@mnist_mlp_100 " in page


def test_page_of_an_optimizer_without_a_learning_rate_has_no_override(write):
    record = make_record("mnist_mlp_100", [0.9])
    record.settings["optimizer"] = {"name": "Adam"}
    page = write([record])["experiments/mnist_mlp_100.html"]
    assert "Batches of 32, Adam, 1 epoch." in page
    assert "optimizer.lr=" not in page


def test_charts_contain_the_history_and_mark_the_selected_weights():
    (loss, accuracy) = learning_curves(make_record("cifar10_cnn", [0.5, 0.8], validation=[0.4, 0.6]))
    assert (loss.x, loss.y, loss.selected) == ("step", "loss", 100)
    assert [(line.name, line.x) for line in loss.series] == [(name, [100, 200]) for name in ("train", "validation", "test")]
    assert [line.y for line in loss.series] == [[0.45, 0.15], [0.4, 0.6], [0.6, 0.3]]
    assert [line.y for line in accuracy.series] == [[0.505, 0.805], [0.57, 0.37], [0.5, 0.8]]
    assert accuracy.label.startswith(
        "Accuracy of cifar10_cnn by step: train from 0.505 to 0.805, validation from 0.57 to 0.37, test from 0.5 to 0.8"
    )
    assert learning_curves(make_record("mnist_cnn_adam", [0.9, 0.95]))[0].selected is None


def test_selected_weights_are_marked_in_the_unit_of_the_axis():
    record = make_record("mnist_cnn_adam", [0.9, 0.95, 0.93])
    record.settings["select"] = "best_val_loss"
    record.seeds[0]["kept"] = {"row": 1, "epoch": 2, "step": 200}
    assert [(chart.x, chart.selected) for chart in learning_curves(record)] == [("epoch", 2.0), ("epoch", 2.0)]


def test_sparkline_has_points_and_a_label():
    line = sparkline(make_record("mnist_cnn_adam", [0.5, 1.0, 0.75]))
    assert line["points"] == "2.0,12.0 48.0,2.0 94.0,7.0", (
        "24 pixels high with a margin of 2: accuracy 0 is at y = 22, 1 at y = 2"
    )
    assert line["label"] == "test accuracy from 0.50 to 0.75, at most 1.00"
    record = make_record("cifar10_cnn", [0.5, 0.8], validation=[0.4, 0.6])
    record.history["test_accuracy"] = float("nan")
    assert sparkline(record)["label"] == "validation accuracy from 0.57 to 0.37, at most 0.57"


def test_charts_of_several_experiments_contain_the_values_of_each():
    first = make_record("cifar10_cnn", [0.5, 0.8], validation=[0.4, 0.6])
    second = make_record("cifar10_cnn_plus_flip", [0.6, 0.7], validation=[0.3, 0.2])
    overview = error_curves([first, second])
    assert [(line.name, line.y) for line in overview.series] == [(first.name, [50, 20]), (second.name, [40, 30])]
    assert (overview.scale, overview.target) == ("log", 2)
    loss, accuracy = comparison_curves([first, second])
    assert [(line.name, line.dashed, line.y) for line in loss.series] == [
        ("cifar10_cnn, train", True, [0.45, 0.15]),
        ("cifar10_cnn, validation", False, [0.4, 0.6]),
        ("cifar10_cnn_plus_flip, train", True, [0.35, 0.25]),
        ("cifar10_cnn_plus_flip, validation", False, [0.3, 0.2]),
    ]
    assert [line.colour for line in accuracy.series] == [0, 0, 1, 1]
    assert [(chart.x, line.x) for chart in (loss, accuracy) for line in chart.series] == [("step", [100, 200])] * 8
    assert [(overview.x, line.x) for line in overview.series] == [("epoch", [1, 1])] * 2
    ((left, right), (more, _)) = pair_charts(learning_curves(first), learning_curves(second))
    assert (left.y, right.y, more.y) == ("loss", "loss", "accuracy")
    assert left.y_range == right.y_range == (0.15, 0.6)
    assert more.y_range == (0.37, 0.805)


@pytest.mark.parametrize("names", [("mnist_cnn_adam", "mnist_cnn_small"), ("mnist_cnn_small", "mnist_cnn_adam")])
def test_paired_charts_share_the_larger_range(names):
    accuracies = {"mnist_cnn_adam": [0.9, 0.95], "mnist_cnn_small": [0.5, 0.99]}
    (loss, accuracy) = pair_charts(*(learning_curves(make_record(name, accuracies[name])) for name in names))
    assert [chart.y_range for chart in loss] == [(-0.04, 0.6)] * 2
    assert [chart.y_range for chart in accuracy] == [(0.5, 0.995)] * 2


def test_charts_of_a_sweep_and_of_calibration():
    sweep = make_project().sweeps["mnist_cnn_dropout"]
    rows = pd.DataFrame({"value": [0.0, 0.5], "train_accuracy": [0.9, 0.8], "test_accuracy": [0.97, 0.93]})
    chart = sweep_curve(SweepRecord("x", sweep, 1, rows))
    assert ([(line.x, line.y) for line in chart.series], chart.y_range) == ([([0.0, 0.5], [0.97, 0.93])], (0, 1))
    record = make_record("mnist_mlp_100", [0.9])
    chart = reliability(record)
    assert chart["bins"] == record.card["reliability"]
    assert chart["label"].endswith("expected calibration error 0.0123")
    record.card["reliability"] = []
    assert reliability(record) is None


def test_detailed_model_does_not_depend_on_test_results(write):
    """Its reported accuracy is 0.9918; those of the other two of the last three models are 0.9902 and 0.9872."""
    names = {"mnist_resnet_bn_sgd": 0.9, "mnist_cnn_adam_tuned": 0.95, "mnist_resnet_bn_adam": 0.99}
    page = write([make_record(name, [accuracy]) for name, accuracy in names.items()])["assignments/B.html"]
    assert "In detail: <code>mnist_resnet_bn_sgd</code>" in page
    assert "In detail" not in write([make_record("mnist_cnn_adam_tuned", [0.95])])["assignments/B.html"]


def test_claims_of_the_report_are_shown_only_on_official_data(write):
    names = {"mnist_cnn_small": 0.985, "mnist_cnn_adam": 0.95, "cifar10_cnn": 0.5, "cifar10_cnn_plus_dropout": 0.5}
    validated = {"cifar10_cnn": [0.4], "cifar10_cnn_plus_dropout": [0.3]}

    def pages(source: str) -> dict[str, str]:
        return write([make_record(name, [one], source, 2, validated.get(name, ())) for name, one in names.items()], source)

    official, embedded = pages("official"), pages("embedded")
    assert (
        "<p>Claim of the report: test accuracy over 0.98 with SGD and 0.9909 with Adam. "
        '<span class="bad">Our results differ (SGD: reached; Adam: ours is lower).</span></p>'
    ) in official["assignments/B.html"]
    row = (
        "<code>cifar10_cnn_plus_dropout</code></a></th><td>+10.00 percentage points (95% interval +10.00 to +10.00)</td>"
        "<td>above zero</td>"
    )
    claim = '<td class="claim">“slight gain”. <span class="good">Our results agree.</span></td>'
    assert row + claim + "</tr>" in official["assignments/D.html"]
    assert row + "</tr>" in embedded["assignments/D.html"]
    assert not any("The report" in embedded[f"assignments/{letter}.html"] for letter in "BD")
    assert "Claims of the reports are not judged on embedded data" in embedded["assignments/B.html"]


def test_best_and_last_epochs_of_a_report_are_shown_beside_ours(write):
    curves = make_record("mnist_mlp_100", [0.97, 0.98, 0.978], seeds=3, validation=[0.1, 0.3, 0.2])
    page = write([curves])["experiments/mnist_mlp_100.html"]
    section = page[page.index('<h2 id="epochs">') : page.index('<h2 id="curves">')]
    rows = re.findall(r'<th scope="row">([\w ]+)</th>' + 4 * r"<td[^>]*>(.*?)</td>", section)
    assert [[re.sub(r"<[^>]+>", "", cell) for cell in row] for row in rows] == [
        ["best epoch by test accuracy", "0.9786", "0.9790 ± 0.0010 n = 3", "+0.0004", "consistent"],
        ["last epoch", "0.9776", "0.9770 ± 0.0010 n = 3", "-0.0006", "consistent"],
    ]
    assert "compares that epoch with the weights that we select on validation data" in section
    curves.history["test_accuracy"] = float("nan")
    assert "The last epochs are not compared" in write([curves])["experiments/mnist_mlp_100.html"]
    assert 'id="epochs"' not in write([make_record("mnist_cnn_adam", [0.9])])["experiments/mnist_cnn_adam.html"]
    embedded = make_record("mnist_mlp_100", [0.97], "embedded")
    assert 'id="epochs"' not in write([embedded], "embedded")["experiments/mnist_mlp_100.html"]


def test_run_by_an_earlier_version_has_a_row_but_no_page_and_no_gap(write):
    entry = Earlier("mnist_mlp_100", make_project().experiments["mnist_mlp_100"], {"test_accuracy": "0.9778"})
    pages = write([entry])
    cells = cells_of(pages["index.html"], "mnist_mlp_100")
    assert cells == ["A", "", "0.9786", "0.9778", "", "one run, earlier version", "", "", "", "", "", "", ""]
    assert "experiments/mnist_mlp_100.html" not in pages


def cells_of(page: str, name: str) -> list[str]:
    """Return the text of each cell of the row of an experiment in a table of results."""
    row = page[page.index(f"<code>{name}</code>") : page.index("</tr>", page.index(f"<code>{name}</code>"))]
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]


def test_table_of_results_has_each_value_in_its_column(write):
    record = make_record("mnist_mlp_100", [0.975, 0.978], seeds=2, validation=[0.4, 0.1])
    official = cells_of(write([record])["index.html"], record.name)
    assert official == [
        "A", "", "0.9786", "0.9775 ± 0.0007 n = 2", "-0.0011", "consistent", "21,578", "1", "–", "0.975 reached", "0.9490",
        "0.8700", "0.0128",
    ]  # fmt: skip
    record = make_record("mnist_mlp_100", [0.975, 0.978], "embedded", seeds=2, validation=[0.4, 0.1])
    embedded = cells_of(write([record], "embedded")["index.html"], record.name)
    assert embedded == ["A", "", "0.9775 ± 0.0007 n = 2", "0.1135", "21,578", "1", "–", "0.9490", "0.8700", "0.0128"]


def test_missing_measurements_are_gaps_in_a_curve():
    record = make_record("mnist_cnn_adam", [0.9, 0.95])
    record.history["train_loss"] = [float("nan"), 0.5]
    (line, *_) = learning_curves(record)[0].series
    assert line.y == [None, 0.5]
    assert error_curves([record]).series[0].y == [10, 5]


def test_explanations_are_shown_with_attribution_quality(write, tmp_path):
    record = make_record("mnist_cnn", [0.9], source="embedded")
    metrics = {"infidelity": 0.25, "sensitivity_max": 0.5, "deletion": 0.125, "insertion": 0.75}
    metrics["similarity_randomised_down_to"] = {"10": 0.5, "0": None}
    write_pictures(record, tmp_path, ("filters", "activations", "attributions"))
    entry = {"source": "embedded", "samples": [], "notes": ["no more", "all correct"], "methods": {"layer_gradcam": metrics}}
    write_json(tmp_path / "models/explained/mnist_cnn/explained.json", entry)
    pages = write([record], "embedded", explained=gather_explained(make_project("embedded"), tmp_path))
    page = pages["experiments/mnist_cnn.html"]
    shown = re.findall(r'src="\.\./pictures/(\w+)/mnist_cnn\.png"', page)
    assert shown == ["samples", "filters", "activations", "attributions"]
    assert re.search(r"Grad-CAM</th><td[^>]*>0\.25</td><td[^>]*>0\.5</td><td[^>]*>0\.125</td><td[^>]*>0\.75</td>", page)
    assert "<code>10</code> 0.50, <code>0</code> –" in page
    assert "Requested images: no more; all correct." in page
    runs = json.loads(pages["assets/runs.js"].partition("window.labbookRuns = ")[2].partition(";\n")[0])
    assert runs["mnist_cnn"]["pictures"]["filters"]["path"] == "pictures/filters/mnist_cnn.png"
    assert runs["mnist_cnn"]["attribution_quality"]["layer_gradcam"]["insertion"] == 0.75
    assert gather_explained(make_project("official"), tmp_path) == {}, "explanations on another data source are ignored"


@pytest.mark.parametrize("source", ["official", "embedded"])
def test_several_seeds_are_compared_with_the_report_only_on_official_data(write, tmp_path, source):
    several = make_record("mnist_mlp_100", [0.9, 0.9786], source, seeds=3)
    pages = write([several, make_record("mnist_mlp_200", [0.9], source)], source)
    page = pages["experiments/mnist_mlp_100.html"]
    section = page[page.index('<h2 id="seeds">') : page.index('<h2 id="settings">')]
    # Of 0.9786, 0.9776 and 0.9766: t with two degrees of freedom is 4.302653.
    interval, of_run = "0.9751 to 0.9801", "0.9726 to 0.9826"
    assert "Trained with 3 seeds." in section
    assert f"Mean test accuracy 0.9776, standard deviation 0.0010; 95% interval of the mean {interval}" in section
    assert f"of one more run {of_run}" in section
    rows = re.findall(r'<th scope="row">([\w ]+)</th>' + 5 * r'<td(?: class="number")?>([^<]*)</td>', section)
    assert rows == [
        ("0", "2", "0.9500", "–", "0.9786", "0.1250"),
        ("1", "2", "0.9480", "–", "0.9776", "0.1350"),
        ("2", "2", "0.9460", "–", "0.9766", "0.1450"),
        ("Mean", "2", "0.9480", "–", "0.9776", "0.1350"),
        ("Standard deviation", "", "", "", "0.0010", "0.0100"),
    ]
    sentence = "The reported test accuracy, 0.9776, lies inside the interval of one more run."
    assert (sentence in section) == (source == "official")
    assert 'id="seeds"' not in pages["experiments/mnist_mlp_200.html"]
    assert "<strong>0.9776</strong> ± 0.0010 <small>n = 3</small>" in pages["index.html"]
    assert "<dd><strong>0.9776</strong> ± 0.0010 <small>n = 3</small></dd>" in page
    assert "<dd><strong>0.9000</strong></dd>" in pages["experiments/mnist_mlp_200.html"]

    write_results(Gathered(source, [several]), tmp_path)
    table = (tmp_path / f"{source}.md").read_text().partition("## Several seeds")[2]
    row = f"| `mnist_mlp_100` | 3 | 0.9776 ± 0.0010 | {interval} | {of_run} |"
    assert row + (" 0.9776 |\n" if source == "official" else "\n") in table
    assert "Several seeds" not in write_and_read("mnist_mlp_200", source, tmp_path)


def write_and_read(name: str, source: str, folder: Path) -> str:
    write_results(Gathered(source, [make_record(name, [0.9], source)]), folder)
    return (folder / f"{source}.md").read_text()


def test_read_confusion_checks_the_classes(tmp_path):
    record = make_record("mnist_mlp_100", [0.9])
    write_pictures(record, tmp_path)
    counts = read_confusion(record, tmp_path)
    assert (counts.loc["4", "9"], counts.loc["9", "4"]) == (30, 3)
    (tmp_path / "plots/confusion/mnist_mlp_100.csv").write_text(CONFUSION[: CONFUSION.rindex("9,9")])
    with pytest.raises(DataError, match=r"mnist_mlp_100\.csv: damaged.* Run `dvc repro evaluate@mnist_mlp_100`"):
        read_confusion(record, tmp_path)


def test_training_times_are_written_to_separate_files(tmp_path):
    for name in ("mnist_mlp_2x50", "mnist_cnn_dropout"):
        write_json(tmp_path / f"timing/{name}.json", TIMING | {"finished": f"2020-01-0{len(name) - 12}T00:00:00Z"})
    project = make_project("embedded")
    timing = gather_timing(project, tmp_path)
    assert list(timing) == ["mnist_mlp_2x50", "mnist_cnn_dropout"], "experiments and sweeps that have a file"
    assert gather_timing(make_project("official"), tmp_path) == {}, "training times on another data source are ignored"
    write_timing(project, timing, tmp_path / "timing.js", tmp_path)
    script = (tmp_path / "timing.js").read_text()
    values = json.loads(script.removeprefix("window.labbookTiming = ").removesuffix(";\n"))
    assert values["runs"]["mnist_mlp_2x50"] == {"seconds": 6.25, "total": 12.5}
    assert (values["finished"], values["processor"]) == ("2020-01-05T00:00:00Z", "a CPU"), "the latest date"
    with (tmp_path / "embedded.csv").open() as file:
        row, _ = csv.DictReader(file)
    assert row == {
        "experiment": "mnist_mlp_2x50", "trainings": "2", "seconds": "12.5", "seconds_per_training": "6.25",
        "seconds_per_epoch": "1.25", "reported_seconds_cpu": "", "reported_seconds_gpu": "",
        "finished": "2020-01-02T00:00:00Z", "processor": "a CPU", "cores": "2", "python": "3.11",
    }  # fmt: skip


def test_training_times_on_official_data_include_the_reported_ones(tmp_path):
    names = ("mnist_mlp_2x50", "mnist_cnn_small", "mnist_mlp_100")
    write_timing(make_project("official"), dict.fromkeys(names, TIMING), tmp_path / "timing.js", tmp_path)
    with (tmp_path / "official.csv").open() as file:
        rows = list(csv.DictReader(file))
    reported = [(row["reported_seconds_cpu"], row["reported_seconds_gpu"]) for row in rows]
    assert reported == [("199.0", ""), ("", "146.0"), ("", "")]


def test_timing_script_is_written_without_training_times(tmp_path):
    write_timing(make_project("embedded"), {}, tmp_path / "timing.js", tmp_path)
    assert '"runs": {}' in (tmp_path / "timing.js").read_text()


def test_damaged_timing_file_is_reported_with_its_fix(tmp_path):
    (tmp_path / "timing").mkdir()
    (tmp_path / "timing/mnist_mlp_100.json").write_text("{")
    with pytest.raises(DataError, match=r"timing/mnist_mlp_100\.json: damaged.*Delete it"):
        gather_timing(make_project("embedded"), tmp_path)


def test_experiments_that_were_not_run_are_pending(tmp_path, write):
    project = make_project()
    entries = gather(params(), project, tmp_path)
    assert [entry.name for entry in entries] == list(project.experiments)
    assert all(isinstance(entry, Pending) for entry in entries)
    sweeps = gather_sweeps(params(), project, tmp_path)
    assert sweeps == [PendingSweep(name, sweep) for name, sweep in project.sweeps.items()]
    assert gather_timing(project, tmp_path) == {}
    some = [make_record("mnist_cnn_adam", [0.97, 0.98]), *entries[-2:]]
    write_results(Gathered("official", some, sweeps), tmp_path)
    text = (tmp_path / "official.md").read_text()
    assert "| `scenes_unet` | 0.7975 |  |  | not yet run |  |  |  |" in text
    assert "| `mnist_cnn_adam` | 0.9909 | 0.9800 |" in text
    assert "## Dropout probability of mnist_cnn\n\nNot yet run on this data." in text
    pages = write(some, sweeps=sweeps)
    assert pages["index.html"].count('class="pending">not yet run<') == 2
    assert "experiments/scenes_unet.html" not in pages
    assert (
        '>Dropout probability of mnist_cnn</h2>\n<p class="pending">Not yet run on this data.</p>'
        in pages["assignments/A.html"]
    )


@pytest.mark.parametrize(("source", "reported"), [("embedded", None), ("official", "0.9786")])
def test_reported_accuracy_is_shown_only_on_official_data(source, reported):
    pending = Pending("mnist_mlp_100", make_project().experiments["mnist_mlp_100"])
    table = results_table(source, [pending, make_record("mnist_mlp_100", [0.97], source, validation=[0.1])])
    assert table["reported_test_accuracy"].tolist() == [reported] * 2


def test_overview_contains_curves_with_gaps_but_none_without_test_accuracy():
    records = [make_record(name, [0.9, 0.95]) for name in ("mnist_cnn_adam", "mnist_cnn_small", "mnist_cnn_pool_first")]
    records[0].history.loc[0, "test_accuracy"] = records[1].history["test_accuracy"] = float("nan")
    others = [make_record("mnist_mlp_100", [0.9])]
    assert [record.name for record in overview_records(records + others)] == ["mnist_cnn_adam", "mnist_cnn_pool_first"]


@pytest.mark.parametrize("source", ["embedded", "official"])
def test_tables_without_results_name_the_data_source(tmp_path, source):
    gathered = gather_all(params(source), make_project(source), tmp_path)
    assert set(results_table(source, gathered.entries)["data"]) == {source}
    write_results(gathered, tmp_path)
    text = (tmp_path / f"{source}.md").read_text()
    assert f"Data: {source}. Device: –, threads: –" in text
    assert ("0.9786" in text) is (source == "official")


def test_sweep_has_a_table_and_a_chart(tmp_path, write):
    ((name, sweep),) = make_project().sweeps.items()
    columns = {"value": [0.0, 0.5], "train_accuracy": [0.9, 0.8], "test_loss": [0.1, 0.2], "test_accuracy": [0.97, 0.93]}
    record = SweepRecord(name, sweep, 1, pd.DataFrame(columns))
    write_results(Gathered("official", [], [record]), tmp_path)
    assert "| 0.5000 | 0.9300 | 0.2000 | 0.8000 |" in (tmp_path / "official.md").read_text()
    page = write([], sweeps=[record])["assignments/A.html"]
    assert '<td class="number">0.9300</td>' in page
    assert '"y": [0.97, 0.93]' in page
    assert "<code>model.dropout</code>, 1 epoch each." in page
    assert "Not yet run on this data" not in page.partition("Dropout probability")[2].partition("</section>")[0]
    drawn = [svg(draw_sweep, record.rows, sweep.vary.key) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert ">model.dropout</text>" in drawn[0]


def test_segmentation_has_iou_by_class_and_mean_iou(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = make_record("scenes_unet", [0.8, 0.85])
    record.card["metrics"].update(
        test_miou=0.2342,
        chance_miou=0.0388,
        test_accuracy_per_class={"background": 0.9, "9": None},
        test_iou_per_class={"background": 0.8182, "9": None},
    )
    other = make_record("mnist_cnn_adam", [0.97, 0.98])
    write_results(Gathered("official", [other, record]), tmp_path)
    text = (tmp_path / "official.md").read_text()
    assert text.endswith("| --- | --- | --- | --- | --- |\n| `scenes_unet` | 0.8500 | 0.1135 | 0.2342 | 0.0388 |\n")
    write_pictures(record)
    counts = "actual,predicted,count\nbackground,background,9\nbackground,9,1\n9,background,0\n9,9,0\n"
    Path("plots/confusion/scenes_unet.csv").write_text(counts)
    write_site(Gathered("official", [record]))
    page = Path("reports/experiments/scenes_unet.html").read_text()
    assert "<dd>0.2342, chance 0.0388</dd>" in page
    cells = re.findall(r'<th scope="row">(\w+)</th>' + 4 * "<td[^>]*>(.*?)</td>" + "</tr>", page)
    assert cells == [("background", "10", "0.9000", "1.0000", "0.8182"), ("9", "0", "–", "0.0000", "–")]
    write_results(Gathered("official", [other]), tmp_path)
    assert "Segmentation" not in (tmp_path / "official.md").read_text()


def test_results_on_another_data_source_are_pending(tmp_path):
    """Git tracks files of embedded runs; an official report must ignore them."""
    write_record(make_record("mnist_mlp_100", [0.9], source="embedded"), tmp_path)
    rows = [{"source": "embedded", "value": 0.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5}]
    write_tsv(tmp_path / "plots/sweeps/mnist_cnn_dropout.tsv", list(rows[0]), rows)
    official, embedded = (gather_all(params(source), make_project(source), tmp_path) for source in ("official", "embedded"))
    assert official.records == []
    assert all(isinstance(sweep, PendingSweep) for sweep in official.sweeps)
    assert [record.name for record in embedded.records] == ["mnist_mlp_100"]
    (sweep,) = embedded.sweeps
    assert isinstance(sweep, SweepRecord)
    assert sweep.epochs == params()["sweeps"]["mnist_cnn_dropout"]["train"]["embedded"]["epochs"]


def test_sweep_of_two_data_sources_is_pending(tmp_path):
    row = {"source": "official", "value": 0.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5}
    for sources in (("embedded", "official"), ("official", "embedded")):
        rows = [row | {"source": source} for source in sources]
        write_tsv(tmp_path / "plots/sweeps/mnist_cnn_dropout.tsv", list(row), rows)
        (sweep,) = gather_sweeps(params("embedded"), make_project("embedded"), tmp_path)
        assert isinstance(sweep, PendingSweep)


def test_record_round_trip(tmp_path):
    record = make_record("mnist_mlp_100", [0.5, 0.9, 0.8], source="embedded", seeds=2, validation=[0.3, 0.1, 0.2])
    write_record(record, tmp_path)
    read, *_ = gather(params("embedded"), make_project("embedded"), tmp_path)
    assert isinstance(read, Record)
    assert dataclasses.replace(read, histories={}) == dataclasses.replace(record, histories={})
    assert list(read.histories) == [0, 1]
    for seed, history in record.histories.items():
        pd.testing.assert_frame_equal(read.histories[seed], history, check_exact=True)
    assert (read.selected["step"], read.selected["val_loss"]) == (200, 0.1)
    assert read.official["batch_size"] == 32


def test_embedded_record_also_has_the_official_settings(tmp_path):
    write_record(make_record("mnist_cnn_adam", [0.5, 0.9], source="embedded"), tmp_path)
    (read,) = (entry for entry in gather(params("embedded"), make_project("embedded"), tmp_path) if isinstance(entry, Record))
    assert (read.settings["epochs"], read.official["epochs"]) == (12, 100)
    assert (read.settings["batch_size"], read.official["batch_size"]) == (16, 128)


def _cut_last_seed(record: Record) -> None:
    del record.histories[1]


def _cut_last_row(record: Record) -> None:
    record.histories[1] = record.histories[1].iloc[:-1]


def _change_seed(record: Record) -> None:
    record.seeds[1]["seed"] = 5


def _change_epochs(record: Record) -> None:
    record.seeds[1]["epochs_trained"] = 9


def _change_selected(key: str) -> Callable[[Record], None]:
    return lambda record: record.seeds[1]["kept"].update({key: 9})


@pytest.mark.parametrize(
    "change", [_cut_last_seed, _cut_last_row, _change_seed, _change_epochs, *map(_change_selected, ("row", "epoch", "step"))]
)
def test_card_and_history_from_different_runs_are_rejected(tmp_path, change):
    record = make_record("mnist_mlp_100", [0.5, 0.9], source="embedded", seeds=2)
    change(record)
    write_record(record, tmp_path)
    with pytest.raises(
        DataError, match=r"mnist_mlp_100/card\.json: from a different run than .*\.tsv\. Run `dvc repro evaluate@mnist_mlp_100`"
    ):
        gather(params("embedded"), make_project("embedded"), tmp_path)


def test_damaged_card_names_its_stage(tmp_path):
    write_json(tmp_path / "models/cards/mnist_mlp_100/card.json", {})
    with pytest.raises(DataError, match=r"mnist_mlp_100/card\.json: damaged.* Run `dvc repro evaluate@mnist_mlp_100`"):
        gather(params("embedded"), make_project("embedded"), tmp_path)


def test_fill_replaces_the_table_in_the_readme():
    table = results_table("official", [make_record("mnist_mlp_100", [0.98], seeds=3)])
    text = fill(f"before {BEGIN}{END} after", table)
    row = "| `mnist_mlp_100` | 0.9776 | 0.9790 ± 0.0010 (n = 3) | +0.0014 | consistent | 0.975 reached | 21,578 | 1 |"
    assert text.startswith(f"before {BEGIN}\n\n| experiment | reported | reproduced | gap | verdict | required |")
    assert text.endswith(f"{row}\n\n{END} after")


def test_readme_without_markers_is_rejected():
    with pytest.raises(DataError, match="a marker is missing"):
        fill(f"{BEGIN} and no end", pd.DataFrame())
    assert END not in BEGIN
