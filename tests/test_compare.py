"""The comparison page: its data, differences over seeds, and McNemar's test of stored predictions."""

import dataclasses
import json

import numpy as np
import pytest
from sample_records import make_record, write_pictures

from labbook.errors import DataError
from labbook.report.compare import compare_data, compare_pairs
from labbook.report.pages import result_rows
from labbook.report.pictures import pictures
from labbook.report.records import Gathered, Record
from labbook.report.site import write_site

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.uint8)
RIGHT = LABELS
ONE_WRONG = np.array([0, 0, 0, 1, 1, 1, 1, 1], np.uint8)
FIVE_WRONG = np.array([1, 1, 1, 0, 0, 0, 1, 1], np.uint8)  # wrong for samples 0, 1, 2, 4 and 5


def make_record_with_predictions(name: str, *predicted: np.ndarray) -> Record:
    record = make_record(name, [0.9], seeds=len(predicted))
    arrays = {"labels": LABELS, "predicted": np.stack(predicted), "confidence": np.full((len(predicted), 8), 60000, np.uint16)}
    return dataclasses.replace(record, predictions=arrays)


def test_compared_metrics(tmp_path):
    record = make_record("mnist_mlp_100", [0.975, 0.978], seeds=2, validation=[0.4, 0.1])
    write_pictures(record, tmp_path)
    gathered = Gathered("official", [record])
    data = compare_data(gathered, result_rows(gathered), {record.name: pictures(gathered, record, tmp_path)})["mnist_mlp_100"]
    assert data["metrics"] == {
        "Test accuracy": 0.9775,
        "Standard deviation over seeds": 0.000707,
        "Seeds": 2,
        "Chance": 0.1135,
        "Reported": "0.9786",
        "Train accuracy": 0.949,
        "Validation accuracy": 0.87,
        "Test loss": 0.13,
        "Calibration error": 0.0128,
        "Mean intersection over union": None,
        "Parameters": 21578,
        "Epochs": 1,
    }
    assert (data["assignment"], data["classes"]) == ("A", {"4": 0.9878, "9": 0.997})
    assert data["settings"]["optimizer.lr"] == "0.02"
    assert list(data["pictures"]) == ["samples"]


def test_mcnemar_counts_samples_that_only_one_first_seed_gets_right():
    first = make_record_with_predictions("mnist_mlp_100", ONE_WRONG, FIVE_WRONG)
    second = make_record_with_predictions("mnist_mlp_200", FIVE_WRONG, RIGHT)
    pairs = compare_pairs([first, second])
    # Six samples differ, and the first model gets five of them right: p = 2 (1 + 6) / 2⁶.
    assert pairs["mnist_mlp_100"]["mnist_mlp_200"]["mcnemar"] == {"first": 5, "second": 1, "p": 0.2188}
    swapped = compare_pairs([second, first])
    assert swapped["mnist_mlp_200"]["mnist_mlp_100"]["mcnemar"] == {"first": 1, "second": 5, "p": 0.2188}
    assert pairs["mnist_mlp_200"] == swapped["mnist_mlp_100"] == {}, "each pair appears once"
    identical = compare_pairs([first, make_record_with_predictions("mnist_cnn", ONE_WRONG, RIGHT)])["mnist_mlp_100"][
        "mnist_cnn"
    ]
    assert identical["mcnemar"] == {"first": 0, "second": 0, "p": 1}


def test_differences_are_measured_over_the_seeds(tmp_path):
    first, second = make_record("mnist_mlp_100", [0.9], seeds=3), make_record("mnist_mlp_200", [0.95], seeds=3)
    pair = compare_pairs([first, second], tmp_path)["mnist_mlp_100"]["mnist_mlp_200"]
    assert pair == {"difference": {"mean": 0.05, "low": 0.05, "high": 0.05, "paired": True}}
    two = make_record("mnist_mlp_200", [0.95], seeds=2)  # 0.95 and 0.949, against 0.9, 0.899 and 0.898
    unpaired = compare_pairs([first, two], tmp_path)["mnist_mlp_100"]["mnist_mlp_200"]["difference"]
    assert (unpaired["mean"], unpaired["paired"]) == (0.0505, False)
    assert unpaired["low"] < 0.0505 < unpaired["high"]


def test_single_runs_without_predictions_have_no_tests(tmp_path):
    pairs = compare_pairs([make_record("mnist_mlp_100", [0.9]), make_record("mnist_mlp_200", [0.95])], tmp_path)
    assert pairs == {"mnist_mlp_100": {"mnist_mlp_200": {}}, "mnist_mlp_200": {}}


def test_experiments_with_different_test_sets_and_segmentation_are_not_tested():
    first, second = (
        make_record_with_predictions("mnist_mlp_100", RIGHT),
        make_record_with_predictions("mnist_mlp_200", ONE_WRONG),
    )
    second.card["digest"] = "d2"
    assert compare_pairs([first, second]) == {"mnist_mlp_100": {}, "mnist_mlp_200": {}}
    counts = {"confusion": np.zeros((1, 8, 2, 2), np.uint16)}
    unets = [dataclasses.replace(make_record(name, [0.8]), predictions=counts) for name in ("scenes_unet", "scenes_unet_sgd")]
    assert compare_pairs(unets)["scenes_unet"]["scenes_unet_sgd"] == {}


def test_predictions_of_the_evaluate_stage_are_read(tmp_path):
    records = [make_record(name, [0.9]) for name in ("mnist_mlp_100", "mnist_mlp_200")]
    for record, predicted in zip(records, (RIGHT, FIVE_WRONG), strict=True):
        folder = tmp_path / "models/cards" / record.name
        folder.mkdir(parents=True)
        np.savez(folder / "predictions.npz", labels=LABELS, predicted=predicted[None])
    pair = compare_pairs(records, tmp_path)["mnist_mlp_100"]["mnist_mlp_200"]
    assert pair == {"mcnemar": {"first": 5, "second": 0, "p": 0.0625}}
    (folder / "predictions.npz").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"mnist_mlp_200/predictions\.npz: damaged.* Run `dvc repro evaluate@mnist_mlp_200`"):
        compare_pairs(records, tmp_path)


def test_page_contains_the_tests_but_no_pictures_from_another_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = [
        make_record_with_predictions(name, RIGHT, ONE_WRONG)
        for name in ("mnist_mlp_100", "mnist_mlp_200", "mnist_resnet_bn_sgd")
    ]
    records = [dataclasses.replace(record, has_pictures=False) for record in records]
    records[1].predictions["predicted"][0] = FIVE_WRONG
    write_site(Gathered("official", records))
    script = (tmp_path / "reports/assets/runs.js").read_text()
    pairs = json.loads(script.partition("window.labbookPairs = ")[2].removesuffix(";\n"))
    assert pairs["mnist_mlp_100"]["mnist_mlp_200"]["mcnemar"] == {"first": 5, "second": 0, "p": 0.0625}
    page = (tmp_path / "reports/experiments/mnist_mlp_100.html").read_text()
    assert "The pictures of this run were drawn on another machine" in page
    assert "<img" not in page + (tmp_path / "reports/assignments/B.html").read_text()
