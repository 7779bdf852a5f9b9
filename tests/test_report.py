"""The report: verdicts, tables, answers and the page, from records made here."""

import dataclasses
import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from labbook.core.errors import DataError
from labbook.core.files import write_json, write_tsv
from labbook.figures import render, style
from labbook.figures.curves import draw_comparison, draw_learning_curves, draw_overview, draw_sweep
from labbook.params.project import Experiment, Project, Reported, read_project
from labbook.report.answers import answer_b, answer_c, answer_d, best_of_last_three
from labbook.report.charts import errors, learning
from labbook.report.readme import BEGIN, END, filled
from labbook.report.records import (
    Gathered,
    Pending,
    PendingSweep,
    Record,
    SweepRecord,
    gather,
    gather_explained,
    gather_seeds,
    gather_sweeps,
    gather_timing,
    read_confusion,
)
from labbook.report.site import write_site
from labbook.report.tables import comparison, curve_points, markdown, results_table, write_results
from labbook.report.timing import write_timing
from labbook.report.verdict import TOLERANCE, judge, print_reported

ROOT = Path(__file__).parents[1]
TIMING = {
    "source": "embedded",
    "seconds": 12.5,
    "seconds_per_epoch": 1.25,
    "finished": "2020-01-01T00:00:00Z",
    "processor": "a CPU",
    "cores": 2,
    "python": "3.11",
}
BESIDE = {"timing.js", "exercises.html"}  # pages of other stages
CONFUSION = "actual,predicted,count\n4,4,970\n4,9,12\n9,4,3\n9,9,1006\n"
ACCURACIES = st.floats(0, 1, allow_nan=False)


@pytest.fixture(scope="module")
def project() -> Project:
    return read_project(ROOT / "params.yaml")


def make_record(project: Project, name: str, accuracies: list[float], source: str = "official", **asked) -> Record:
    experiment: Experiment = project.experiments[name].model_copy(update=asked)
    history = pd.DataFrame(
        {
            "epoch": range(1, len(accuracies) + 1),
            "step": range(100, 100 * len(accuracies) + 1, 100),
            "train_loss": [1 - value for value in accuracies],
            "train_accuracy": accuracies,
            "val_loss": float("nan"),
            "val_accuracy": float("nan"),
            "test_loss": [1 - value for value in accuracies],
            "test_accuracy": accuracies,
        }
    )
    figures = {"train_loss": 1 - accuracies[-1], "train_accuracy": accuracies[-1]}
    card = {
        "source": source,
        "device": "cpu",
        "threads": 2,
        "seed": 0,
        "torch": "2.0",
        "kept": "last",
        "settings": experiment.train.on(source).model_dump(exclude_none=True, exclude={"processes"}),
        "best_epoch": len(accuracies),
        "epochs_trained": len(accuracies),
        "last": figures,
        "best": figures,
        "parameters": 21578,
        "dataset": "mnist",
        "classes": ["4", "9"],
        "image_shape": [1, 28, 28],
        "layers": [{"name": "1", "kind": "Linear", "shape": [10], "parameters": 21578}],
        "reliability": [{"from": 0.9333, "to": 1.0, "samples": 1991, "confidence": 0.99, "accuracy": 0.98}],
        "samples": {"train": 60000, "val": 0, "test": 10000},
        "metrics": {
            "test_accuracy": accuracies[-1],
            "test_loss": 0.1,
            "test_calibration_error": 0.01,
            "chance_accuracy": 0.1135,
            "test_accuracy_per_class": {"4": 0.9878, "9": 0.997},
            "train_accuracy": accuracies[-1],
            "best_epoch": len(accuracies),
            "epochs_trained": len(accuracies),
            "parameters": 21578,
            "confusion": "confusion.csv",
            "samples": "mistakes.png",
        },
        "mistakes": [{"index": 0, "actual": "4", "predicted": "9", "confidence": 0.9}],
    }
    return Record(name, experiment, card, history)


@given(reported=ACCURACIES, accuracy=ACCURACIES)
def test_an_exact_figure_is_matched_within_the_tolerance_and_never_below_it(reported, accuracy):
    verdict = judge(Reported(test_accuracy=reported), accuracy, chance=0.1)
    assert verdict.gap == pytest.approx(accuracy - reported, abs=1e-6)
    assert verdict.good is (verdict.gap >= -TOLERANCE)
    assert verdict.words == ("better" if verdict.gap > TOLERANCE else "matched" if verdict.good else "below")


@pytest.mark.parametrize(("accuracy", "words"), [(0.9701, "reached"), (0.97, "missed"), (0.95, "missed")])
def test_a_lower_bound_has_to_be_passed(accuracy, words):
    assert judge(Reported(kind="over", test_accuracy=0.97), accuracy, 0.1).words == words


def test_words_are_answered_with_chance_and_never_with_a_verdict():
    reported = Reported(kind="guessing", quote="fails")
    assert judge(reported, 0.1135, 0.1135).words.startswith("hardly better than chance")
    assert judge(reported, 0.98, 0.1135).words.startswith("better than chance")
    assert judge(reported, 0.98, 0.1135).good is None


@pytest.mark.parametrize(
    ("reported", "words"),
    [
        (Reported(kind="words", quote="slight gain"), "reported in words"),
        (Reported(kind="other_data", test_accuracy=0.79), "reported on other data"),
        (Reported(), "nothing reported"),
    ],
)
def test_what_cannot_be_compared_gets_no_verdict(reported, words):
    verdict = judge(reported, 0.9, 0.1)
    assert (verdict.words, verdict.gap, verdict.good) == (words, None, None)


@pytest.mark.parametrize(
    ("reported", "printed"),
    [
        (Reported(test_accuracy=0.987), "0.9870"),
        (Reported(kind="over", test_accuracy=0.97), "over 0.97"),
        (Reported(kind="almost", test_accuracy=0.99), "almost 0.99"),
        (Reported(kind="words", quote="fails"), "“fails”"),
        (Reported(kind="about", test_accuracy=0.44), "about 0.44"),
        (Reported(), "–"),
    ],
)
def test_reported_figures_are_printed_as_the_report_did(reported, printed):
    assert print_reported(reported) == printed


def test_an_embedded_run_stands_beside_chance_alone(project, tmp_path):
    records = [make_record(project, "mnist_cnn_adam", [0.5, 0.9], source="embedded")]
    shown = comparison(results_table("embedded", records))
    assert "chance" in shown
    assert not {"reported", "reproduced", "gap", "verdict", "required"} & set(shown)
    write_results(Gathered("embedded", records), tmp_path)
    assert "0.9909" not in (tmp_path / "embedded.md").read_text() + (tmp_path / "embedded.csv").read_text()


def test_an_official_run_stands_beside_the_reported_figure(project, tmp_path):
    records = [make_record(project, "mnist_cnn_adam", [0.97, 0.98])]
    write_results(Gathered("official", records), tmp_path)
    text = (tmp_path / "official.md").read_text()
    assert "| `mnist_cnn_adam` | 0.9909 | 0.9800 | -0.0109 | below |" in text
    assert "Device: cpu, threads: 2; seed 0; torch 2.0" in text


def test_a_missed_requirement_is_shown_as_missed(project):
    records = [make_record(project, "mnist_mlp_100", [0.974]), make_record(project, "mnist_mlp_200", [0.981])]
    assert list(comparison(results_table("official", records))["required"]) == ["0.975 missed", "0.980 reached"]


def test_markdown_has_a_cell_for_each_value():
    assert markdown(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | x |",
        "| 2 | y |",
    ]


def test_answers_tell_what_was_measured(project):
    records = [
        make_record(project, "mnist_cnn_small", [0.97, 0.981, 0.985]),
        make_record(project, "mnist_cnn_pool_first", [0.97, 0.981, 0.985]),
        make_record(project, "mnist_cnn_pool_first_tanh", [0.9, 0.95, 0.97]),
        make_record(project, "mnist_cnn_adam", [0.982, 0.985, 0.99]),
    ]
    swap, tanh, adam = (answer.answer for answer in answer_b(records))
    assert "agree in every figure" in swap
    assert "ReLU 2 epochs, tanh does not reach it in 3 epochs" in tanh
    assert "SGD needs 2 epochs and Adam 1 epoch;" in adam


def test_pytorch_and_numpy_are_compared_with_their_seconds(project, write):
    pytorch, numpy = (make_record(project, name, [0.9, 0.971]) for name in ("mnist_mlp_2x50", "mnist_mlp_2x50_numpy"))
    numpy.history["train_loss"] += [0, 2e-3]
    (answer,) = answer_b([pytorch, numpy])
    assert "0.9710 in PyTorch and 0.9710 in NumPy" in answer.answer
    assert "differ by at most 1.0e-06 after the first epoch and 2.0e-03 after the last" in answer.answer
    page = write("official", [pytorch, numpy])["assignments/B.html"]
    assert page.count('data-ratio="mnist_mlp_2x50 mnist_mlp_2x50_numpy"') == 1
    numpy.card["seed"] = 1
    assert "differ in other settings too" in answer_b([pytorch, numpy])[0].answer


def test_a_difference_between_the_two_orders_is_told(project):
    records = [make_record(project, "mnist_cnn_small", [0.98]), make_record(project, "mnist_cnn_pool_first", [0.97])]
    assert "differ by up to 0.01" in answer_b(records)[0].answer


def watched(project: Project, name: str, train: list[float], val: list[float]) -> Record:
    """Make a record of assignment D from its losses; accuracy is one minus the loss."""
    record = make_record(project, name, [1 - loss for loss in train])
    history = record.history.assign(val_loss=val, val_accuracy=[1 - loss for loss in val], epoch=1)
    best = {"train_loss": history["train_loss"][val.index(min(val))], "val_loss": min(val)}
    card = record.card | {"kept": "best_validation_loss", "best_epoch": 1, "best": best}
    return dataclasses.replace(record, history=history, card=card)


def test_single_changes_are_compared_on_validation_data_best_first(project):
    records = [
        watched(project, "cifar10_cnn", [0.5, 0.2], [0.4, 0.6]),
        watched(project, "cifar10_cnn_plus_elu", [0.5, 0.1], [0.5, 0.6]),
        watched(project, "cifar10_cnn_plus_flip", [0.5, 0.4], [0.5, 0.3]),
    ]
    (answer,) = answer_d(records)
    assert "against 0.6000 of cifar10_cnn: flip +10.0, elu -10.0." in answer.answer
    assert answer_d(records[1:]) == []
    records[2].card["settings"] = records[2].card["settings"] | {"epochs": 3}
    assert "flip" not in answer_d(records)[0].answer, "what differs in other settings is not compared"


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        ([0.5, 0.3, 0.1], [0.6, 0.4, 0.5], "At the end, yes: validation loss 0.400 and train loss 0.300"),
        ([0.5, 0.3, 0.1], [0.6, 0.4, 0.3], "Not by the last row: validation loss 0.300 and train loss 0.100"),
    ],
)
def test_overfitting_is_a_validation_loss_that_leaves_the_train_loss(project, train, val, words):
    (answer,) = answer_d([watched(project, "cifar10_cnn_best", train, val)])
    assert words in answer.answer


def test_image_sizes_are_compared_when_two_were_measured(project):
    sizes = [make_record(project, name, [accuracy]) for name, accuracy in (("tiny_wide_32px", 0.3), ("tiny_wide", 0.4))]
    assert answer_c(sizes[:1]) == []
    assert "0.3000 at 32×32, 0.4000 at 64×64" in answer_c(sizes)[0].answer
    sizes[0].card["settings"] = sizes[0].card["settings"] | {"epochs": 3}
    assert answer_c(sizes) == []


def test_curve_of_several_rows_an_epoch_is_drawn_by_step(project):
    record = watched(project, "cifar10_cnn", [0.5, 0.2], [0.4, 0.6])
    assert (record.progress, record.kept["step"]) == ("step", 100)
    assert make_record(project, "mnist_cnn_adam", [0.9, 0.95]).progress == "epoch"
    assert svg(draw_learning_curves, record) == svg(draw_learning_curves, record)
    assert svg(draw_comparison, [record]) == svg(draw_comparison, [record])


def svg(draw: Callable[..., Figure], shown: object) -> str:
    with style():
        return render(draw(shown), "svg").decode()


def texts(draw: Callable[..., Figure], record: Record) -> list[tuple[str, float]]:
    """Give each text of a figure with its height from the top."""
    placed = re.findall(r"<text [^>]*?(?:translate\([-.\d]+ |\by=\")([-.\d]+)[^>]*>([^<]+)</text>", svg(draw, record))
    return [(text, float(height)) for height, text in placed]


def test_the_legend_stands_above_the_curves_and_names_the_kept_row(project):
    kept = texts(draw_learning_curves, watched(project, "cifar10_cnn", [0.5, 0.2], [0.4, 0.6]))
    (legend,) = {height for text, height in kept if text in {"train", "val", "test", "kept"}}
    assert [text for text, height in kept if height == legend] == ["train", "val", "test", "kept"]
    assert all(height > legend for text, height in kept if height != legend)
    assert "kept" not in dict(texts(draw_learning_curves, make_record(project, "mnist_cnn_adam", [0.9, 0.95])))


def test_epochs_are_whole_and_a_loss_that_hardly_moves_is_printed_in_full(project):
    record = make_record(project, "mnist_cnn_adam", [0.9, 0.95, 0.96])
    flat = dataclasses.replace(record, history=record.history.assign(train_loss=[2.3029, 2.3027, 2.3026], test_loss=2.3026))
    labels = [text for text, _ in texts(draw_learning_curves, flat)]
    assert {"1", "2", "3"} <= set(labels)
    assert any(label.startswith("2.302") for label in labels)
    assert not {"1.5", "2.5"} & set(labels)
    assert not any(label.startswith("+") for label in labels)


def test_questions_without_their_experiments_are_left_out(project):
    assert answer_b([make_record(project, "mnist_mlp_100", [0.9])]) == []
    assert best_of_last_three([make_record(project, "mnist_mlp_100", [0.9])]) is None


def test_figures_are_the_same_bytes_twice_and_name_no_date(project):
    record = make_record(project, "mnist_cnn_adam", [0.9, 0.95])
    assert svg(draw_learning_curves, record) == svg(draw_learning_curves, record)
    assert svg(draw_overview, [record]) == svg(draw_overview, [record])
    assert not re.search(r"20\d\d-\d\d-\d\d", svg(draw_overview, [record]))


def test_all_curves_stand_in_one_table_by_experiment(project):
    points = curve_points([make_record(project, name, [0.5, 0.6]) for name in ("mnist_cnn_adam", "mnist_mlp_100")])
    assert list(points["experiment"]) == ["mnist_cnn_adam"] * 2 + ["mnist_mlp_100"] * 2


class Elements(html.parser.HTMLParser):
    """Collects every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a site and give its pages and scripts by address."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "confusion.csv").write_text(CONFUSION)
    Image.new("RGB", (7, 5)).save(tmp_path / "mistakes.png")

    def written(source: str, *gathered, **explained) -> dict[str, str]:
        write_site(Gathered(source, *gathered, **explained), tmp_path / "reports")
        files = [file for file in (tmp_path / "reports").rglob("*") if file.suffix in {".html", ".js", ".css"}]
        return {file.relative_to(tmp_path / "reports").as_posix(): file.read_text() for file in files}

    return written


@pytest.fixture
def site(project, write) -> dict[str, str]:
    names = ("mnist_mlp_100", "mnist_cnn_small", "mnist_plain_deep_sgd", "mnist_resnet_bn_sgd")
    return write("official", [make_record(project, name, [0.9, 0.985]) for name in names])


def test_pages_load_what_lies_beside_them_and_name_only_what_is_there(site, tmp_path):
    for page, text in site.items():
        elements = Elements(text).found if page.endswith(".html") else []
        ids = {attributes.get("id") for _, attributes in elements}
        for tag, attributes in elements:
            if (address := attributes.get("src") or attributes.get("href")) is None or address == "data:,":
                continue
            file, _, anchor = address.partition("#")
            target = (tmp_path / "reports" / page).parent / file
            assert target.exists() or target.name in BESIDE, (page, tag, address)
            assert not anchor or anchor in ids or file == "../compare.html", (page, address)
        assert "@import" not in text


def test_every_picture_has_words(site):
    for page, text in site.items():
        for tag, attributes in Elements(text).found if page.endswith(".html") else []:
            if tag == "img":
                assert "4 taken for 9" in attributes["alt"]
                assert (attributes["width"], attributes["height"]) == ("7", "5")
            if attributes.get("role") == "img":
                assert attributes["aria-label"]


def test_pages_hold_no_seconds_and_no_dates(site):
    assert not any(re.search(r"20\d\d-\d\d-\d\d", text) for address, text in site.items() if "vendor" not in address)


def test_a_site_is_the_same_bytes_twice_and_leaves_nothing_of_another_run(project, write, tmp_path):
    records = [make_record(project, name, [0.9, 0.985]) for name in ("mnist_mlp_100", "mnist_cnn_small")]
    first = write("official", records)
    (tmp_path / "reports/exercises.html").write_text("of another stage")
    assert write("official", records) == first | {"exercises.html": "of another stage"}
    assert "experiments/mnist_mlp_100.html" not in write("official", records[1:])
    assert not (tmp_path / "reports/pictures/samples/mnist_mlp_100.png").exists()


def test_nothing_is_written_when_a_picture_is_missing(project, write, tmp_path):
    (tmp_path / "mistakes.png").unlink()
    with pytest.raises(DataError, match=r"mistakes\.png: not found\. Run `dvc repro evaluate@mnist_mlp_100`"):
        write("official", [make_record(project, "mnist_mlp_100", [0.9])])
    assert not (tmp_path / "reports").exists()


def test_a_page_says_how_many_processes_trained(project, write):
    records = [make_record(project, name, [0.9], source="embedded") for name in ("mnist_mlp_100", "mnist_mlp_200")]
    records[0].card["settings"]["processes"] = 4
    pages = write("embedded", records)
    page = pages["experiments/mnist_mlp_100.html"]
    assert "cpu, threads: 2, processes: 4<" in page
    assert '<tr class="changed"><th scope="row"><code>processes</code></th><td>4</td><td>1</td></tr>' in page
    assert "processes" not in pages["experiments/mnist_mlp_200.html"]


def test_a_page_tells_everything_of_its_experiment(site):
    page = site["experiments/mnist_mlp_100.html"]
    assert "in its best epoch and 0.9776 in its last" in page
    assert "0.975 reached" in page
    assert re.search(r"<code>optimizer\.lr</code></th><td>0\.02<", page)
    assert 'class="changed"' not in page, "every setting is that of the official run"
    assert re.search(r"Linear</td><td>10</td><td class=\"number\">21,578<", page)
    rows = re.findall(r'<th scope="row">(\d)</th><td>(\d)</td><td class="number">(\d+)</td><td class="number">([\d.]+) %', page)
    assert rows == [("4", "9", "12", "1.2"), ("9", "4", "3", "0.3")], "the most frequent confusion comes first"
    classes = re.findall(
        r'<th scope="row">(\d)</th><td class="number">([\d,]+)</td><td[^>]*>([\d.]+)</td><td[^>]*>([\d.]+)</td>', page
    )
    precise = [f"{970 / 973:.4f}", f"{1006 / 1018:.4f}"]
    assert classes == [("4", "982", "0.9878", precise[0]), ("9", "1,009", "0.9970", precise[1])]
    assert "Inside the model" not in page


def test_charts_hold_the_history_and_mark_the_kept_weights(project):
    (loss, accuracy) = learning(watched(project, "cifar10_cnn", [0.5, 0.2], [0.4, 0.6]))
    assert (loss.x, loss.y, loss.mark) == ("step", "loss", 100)
    assert [(line.name, line.x) for line in loss.series] == [(name, [100, 200]) for name in ("train", "validation", "test")]
    assert [line.y for line in loss.series[:2]] == [pytest.approx([0.5, 0.2]), pytest.approx([0.4, 0.6])]
    assert accuracy.label.startswith("Accuracy of cifar10_cnn by step: train from 0.5 to 0.8, validation from 0.6 to 0.4")
    assert learning(make_record(project, "mnist_cnn_adam", [0.9, 0.95]))[0].mark is None


def test_a_figure_that_was_not_measured_is_a_gap(project):
    record = make_record(project, "mnist_cnn_adam", [0.9, 0.95])
    (line, *_) = learning(dataclasses.replace(record, history=record.history.assign(train_loss=[float("nan"), 0.5])))[0].series
    assert line.y == [None, 0.5]
    assert errors([record]).series[0].y == [10, 5]


def test_what_was_explained_is_shown_with_its_trust(project, write, tmp_path):
    record = make_record(project, "mnist_cnn", [0.9], source="embedded")
    figures = {"infidelity": 0.25, "sensitivity_max": 0.5, "deletion": 0.125, "insertion": 0.75}
    figures["similarity_randomised_down_to"] = {"10": 0.5, "0": None}
    for kind in ("filters", "activations", "attributions"):
        (tmp_path / f"plots/{kind}").mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / f"plots/{kind}/mnist_cnn.png")
    (tmp_path / "metrics/explain").mkdir(parents=True)
    entry = {"source": "embedded", "samples": [], "methods": {"layer_gradcam": figures}}
    write_json(tmp_path / "metrics/explain/mnist_cnn.json", entry)
    pages = write("embedded", [record], explained=gather_explained(project, tmp_path))
    page = pages["experiments/mnist_cnn.html"]
    shown = re.findall(r'src="\.\./pictures/(\w+)/mnist_cnn\.png"', page)
    assert shown == ["samples", "filters", "activations", "attributions"]
    assert re.search(r"layer gradcam</th><td[^>]*>0\.25</td><td[^>]*>0\.5</td><td[^>]*>0\.125</td><td[^>]*>0\.75</td>", page)
    assert "<code>10</code> 0.50, <code>0</code> –" in page
    runs = json.loads(pages["assets/runs.js"].removeprefix("window.labbookRuns = ").removesuffix(";\n"))
    assert runs["mnist_cnn"]["pictures"]["filters"]["address"] == "pictures/filters/mnist_cnn.png"
    assert runs["mnist_cnn"]["trust"]["layer_gradcam"]["insertion"] == 0.75
    official = project.model_copy(update={"data": project.data.model_copy(update={"source": "official"})})
    assert gather_explained(official, tmp_path) == {}, "pictures of other data are not those of this run"


SEEDS = {
    "source": "official",
    "test_accuracy": {
        "mean": 0.9775,
        "deviation": 0.0007,
        "low": 0.9712,
        "high": 0.9838,
        "run_low": 0.9666,
        "run_high": 0.9884,
    },
    "test_loss": {"mean": 0.15, "deviation": 0.07, "low": 0.1, "high": 0.2, "run_low": 0.1, "run_high": 0.2},
    "runs": {"0": {"test_accuracy": 0.977, "test_loss": 0.2}, "7": {"test_accuracy": 0.978, "test_loss": 0.1}},
}


@pytest.mark.parametrize("source", ["official", "embedded"])
def test_several_seeds_are_shown_and_placed_beside_the_report_on_official_data_alone(project, write, tmp_path, source):
    write_json(tmp_path / "metrics/seeds/mnist_mlp_100.json", SEEDS | {"source": source})
    there = project.model_copy(update={"data": project.data.model_copy(update={"source": source})})
    seeded = gather_seeds(there, tmp_path)
    assert list(seeded) == ["mnist_mlp_100"], "the others were not run"
    other = "embedded" if source == "official" else "official"
    elsewhere = project.model_copy(update={"data": project.data.model_copy(update={"source": other})})
    assert gather_seeds(elsewhere, tmp_path) == {}, "figures of other data are not those of this run"

    record, without = (make_record(project, name, [0.9], source=source) for name in ("mnist_mlp_100", "mnist_mlp_200"))
    page = write(source, [record, without], seeded=seeded)["experiments/mnist_mlp_100.html"]
    section = page[page.index('<h2 id="seeds">') : page.index('<h2 id="settings">')]
    assert "Trained 2 times" in section
    assert "Mean test accuracy 0.9775, standard deviation 0.0007; 95 % interval of the mean 0.9712 to 0.9838" in section
    assert '<th scope="row">7</th><td class="number">0.9780</td>' in section
    assert ("The reported figure, 0.9786, lies inside the interval of the mean." in section) == (source == "official")
    assert 'id="seeds"' not in write(source, [record, without], seeded=seeded)["experiments/mnist_mlp_200.html"]

    write_results(Gathered(source, [record], seeded=seeded), tmp_path)
    table = (tmp_path / f"{source}.md").read_text().partition("## Several seeds")[2]
    row = "| `mnist_mlp_100` | 2 | 0.9775 | 0.0007 | 0.9712 to 0.9838 | 0.9666 to 0.9884 |"
    assert row + (" 0.9786 | inside the interval of the mean |\n" if source == "official" else "\n") in table
    assert ("0.9786" in table) == (source == "official")


def test_confusion_counts_are_read_by_class_and_a_torn_file_is_refused(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = make_record(project, "mnist_mlp_100", [0.9])
    (tmp_path / "confusion.csv").write_text(CONFUSION)
    assert read_confusion(record).loc["4", "9"] == 12
    (tmp_path / "confusion.csv").write_text(CONFUSION[: CONFUSION.rindex("9,9")])
    with pytest.raises(DataError, match=r"confusion\.csv: damaged.* Run `dvc repro evaluate@mnist_mlp_100`"):
        read_confusion(record)


def test_seconds_stand_beside_the_page(project, tmp_path):
    timing = dict.fromkeys(("mnist_mlp_100", "mnist_mlp_2x50"), TIMING)
    write_timing(project, timing, tmp_path / "timing.js", tmp_path)
    script = (tmp_path / "timing.js").read_text()
    values = json.loads(script.removeprefix("window.labbookTiming = ").removesuffix(";\n"))
    assert values["runs"]["mnist_mlp_2x50"] == {"seconds": 12.5}
    table = pd.read_csv(tmp_path / "embedded-timing.csv")
    assert table["reported_seconds"].isna().all(), "embedded seconds are compared with no reported ones"


def test_what_was_not_run_is_pending_and_shown_as_that(project, tmp_path, write):
    entries = gather(project, tmp_path)
    assert [entry.name for entry in entries] == list(project.experiments)
    assert all(isinstance(entry, Pending) for entry in entries)
    sweeps = gather_sweeps(project, tmp_path)
    assert sweeps == [PendingSweep(name, sweep) for name, sweep in project.sweeps.items()]
    assert gather_timing(project, tmp_path) == {}
    some = [make_record(project, "mnist_cnn_adam", [0.97, 0.98]), *entries[-2:]]
    write_results(Gathered("official", some, sweeps), tmp_path)
    text = (tmp_path / "official.md").read_text()
    assert "| `scenes_unet` | 0.7975 |  |  | not yet run |  |  |  |" in text
    assert "| `mnist_cnn_adam` | 0.9909 | 0.9800 |" in text
    assert "## Dropout probability of mnist_cnn\n\nNot yet run on this data." in text
    pages = write("official", some, sweeps)
    assert pages["index.html"].count('class="pending">not yet run<') == 2
    assert "experiments/scenes_unet.html" not in pages
    assert (
        '>Dropout probability of mnist_cnn</h2>\n<p class="pending">Not yet run on this data.</p>'
        in pages["assignments/A.html"]
    )


@pytest.mark.parametrize("source", ["embedded", "official"])
def test_the_source_is_told_where_nothing_was_run(project, tmp_path, source):
    entries = gather(project, tmp_path)
    assert set(results_table(source, entries)["data"]) == {source}
    write_results(Gathered(source, entries), tmp_path)
    text = (tmp_path / f"{source}.md").read_text()
    assert f"Data: {source}. Device: –, threads: –" in text
    assert ("0.9786" in text) is (source == "official")


def test_a_sweep_is_shown_with_its_figures(project, tmp_path, write):
    ((name, sweep),) = project.sweeps.items()
    rows = pd.DataFrame({"value": [0.0, 0.5], "train_accuracy": 0.9, "test_loss": 0.1, "test_accuracy": [0.97, 0.93]})
    record = SweepRecord(name, sweep, rows)
    write_results(Gathered("official", [], [record]), tmp_path)
    assert "| 0.5000 | 0.9300 | 0.1000 | 0.9000 |" in (tmp_path / "official.md").read_text()
    page = write("official", [], [record])["assignments/A.html"]
    assert '<td class="number">0.9300</td>' in page
    assert '"y": [0.97, 0.93]' in page
    assert "Not yet run" not in page
    assert svg(draw_sweep, record) == svg(draw_sweep, record)


def test_a_segmenter_is_shown_by_class_with_its_mean_overlap(project, tmp_path, write):
    (tmp_path / "confusion.csv").write_text(
        "actual,predicted,count\nbackground,background,9\nbackground,9,1\n9,background,0\n9,9,0\n"
    )
    record = make_record(project, "scenes_unet", [0.8, 0.85])
    record.card["metrics"] |= {
        "test_mean_iou": 0.2342,
        "chance_mean_iou": 0.0388,
        "test_accuracy_per_class": {"background": 0.9, "9": None},
        "test_iou_per_class": {"background": 0.8182, "9": None},
    }
    other = make_record(project, "mnist_cnn_adam", [0.97, 0.98])
    write_results(Gathered("official", [other, record]), tmp_path)
    text = (tmp_path / "official.md").read_text()
    assert text.endswith("| --- | --- | --- | --- | --- |\n| `scenes_unet` | 0.8500 | 0.1135 | 0.2342 | 0.0388 |\n")
    page = write("official", [record])["experiments/scenes_unet.html"]
    assert "<dd>0.2342, chance 0.0388</dd>" in page
    cells = re.findall(r'<th scope="row">(\w+)</th>' + 4 * "<td[^>]*>(.*?)</td>" + "</tr>", page)
    assert cells == [("background", "10", "0.9000", "1.0000", "0.8182"), ("9", "0", "–", "0.0000", "–")]
    write_results(Gathered("official", [other]), tmp_path)
    assert "Segmentation" not in (tmp_path / "official.md").read_text()


def test_results_of_other_data_are_pending_too(project, tmp_path):
    """Files of an embedded run lie in git; an official report must not take them for its own."""
    official = project.model_copy(update={"data": project.data.model_copy(update={"source": "official"})})
    card = make_record(project, "mnist_mlp_100", [0.9], source="embedded").card
    write_json(tmp_path / "models/cards/mnist_mlp_100.json", card)
    write_json(tmp_path / "metrics/timing/mnist_mlp_100.json", TIMING | {"source": "embedded"})
    rows = [{"source": "embedded", "value": 0.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5}]
    write_tsv(tmp_path / "plots/sweeps/mnist_cnn_dropout.tsv", list(rows[0]), rows)
    assert isinstance(gather(official, tmp_path)[0], Pending)
    assert all(isinstance(sweep, PendingSweep) for sweep in gather_sweeps(official, tmp_path))
    assert gather_timing(official, tmp_path) == {}
    assert list(gather_timing(project, tmp_path)) == ["mnist_mlp_100"]
    assert [sweep.name for sweep in gather_sweeps(project, tmp_path) if isinstance(sweep, SweepRecord)] == ["mnist_cnn_dropout"]


@pytest.mark.parametrize(
    "change",
    [
        {"best": {"train_loss": 0.25}},
        {"last": {"train_accuracy": 0.25}},
        {"last": {"train_accuracy": 0.5}},
        {"best_epoch": 7},
        {"epochs_trained": 3},
    ],
)
def test_a_card_and_a_history_of_two_runs_are_refused(project, tmp_path, change):
    record = make_record(project, "mnist_mlp_100", [0.5, 0.9], source="embedded")
    write_tsv(tmp_path / "plots/history/mnist_mlp_100.tsv", list(record.history), record.history.to_dict("records"))
    write_json(tmp_path / "models/cards/mnist_mlp_100.json", record.card)
    read = gather(project, tmp_path)[0]
    assert isinstance(read, Record)
    assert read.kept["epoch"] == 2
    write_json(tmp_path / "models/cards/mnist_mlp_100.json", record.card | change)
    with pytest.raises(
        DataError, match=r"models/cards/mnist_mlp_100.json: of another run.* Run `dvc repro evaluate@mnist_mlp_100`"
    ):
        gather(project, tmp_path)


def test_a_damaged_card_names_the_stage_that_makes_it(project, tmp_path):
    (tmp_path / "models/cards").mkdir(parents=True)
    (tmp_path / "models/cards/mnist_mlp_100.json").write_text("{}")
    with pytest.raises(DataError, match=r"models/cards/mnist_mlp_100.json: damaged.* Run `dvc repro evaluate@mnist_mlp_100`"):
        gather(project, tmp_path)


def test_the_readme_holds_the_official_table():
    readme = (ROOT / "README.md").read_text()
    table = pd.read_csv(ROOT / "results/official.csv")
    assert filled(readme, table) == readme, "run `make readme`"


def test_a_readme_without_marks_is_refused():
    with pytest.raises(DataError, match="marks"):
        filled(f"{BEGIN} and no end", pd.DataFrame())
    assert END not in BEGIN
