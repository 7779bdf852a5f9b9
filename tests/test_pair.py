"""Experiments on points, trained from several random starts."""

import json

import pytest
import torch
from toolbox import CPU, toy_settings

from labbook.core.files import write_json
from labbook.core.packed import write_packed
from labbook.core.settings import Runtime, read_training
from labbook.evaluation import plane
from labbook.examine import examine
from labbook.pair import run_starts
from labbook.trained import restore
from labbook.training.experiment import train_experiment

pytestmark = pytest.mark.usefixtures("workdir")  # for the file that says that nothing was trained before
RUNTIME = Runtime(seed=0, device="cpu", threads=1)


def settings(**changes):
    return toy_settings(
        **{
            "dataset": "rings",
            "validation": False,
            "augmentation": {"name": "transforms", "mean": 0.5, "std": 0.25},
            "batch_size": 300,
            "epochs": 40,
            "optimizer": {"name": "sgd", "lr": 1.0},
            "watch": ["gradient_norms", "dead_units"],
        }
        | changes
    )


def test_the_first_start_is_the_experiments_own_and_the_others_differ(rings_packed, tmp_path):
    rows = run_starts("pair/x", settings(restart=2), RUNTIME, rings_packed, 2, key="x")
    assert list(rows) == ["2", "3"]
    own = train_experiment("x", settings(restart=2), RUNTIME, rings_packed, key="x")
    measured = examine(plane, restore(settings(), rings_packed, own.weights, CPU), rings_packed, CPU).metrics
    assert {name: rows["2"][name] for name in ("test_loss", "boundary_turning")} == {
        name: measured[name] for name in ("test_loss", "boundary_turning")
    }
    assert rows["2"]["test_loss"] != rows["3"]["test_loss"]
    watched = own.summary["watched"]
    assert rows["2"]["dead_units"] == watched[-1]["dead_units"]["2"]
    assert rows["2"]["largest_hidden_gradient"] == max(row["gradient_norms"]["1"] for row in watched)
    accuracies = [row.train_accuracy for row in own.rows]
    assert accuracies[rows["2"]["steps_to_90_percent"] - 1] >= 0.9 > max(accuracies[: rows["2"]["steps_to_90_percent"] - 1])


def test_zero_weights_of_relu_are_never_left_and_those_of_sigmoid_are(rings_packed):
    zero = {"name": "mlp", "hidden": [16], "init": "zeros"}
    relu = run_starts("pair/r", settings(model=zero, watch=["gradient_norms"]), RUNTIME, rings_packed, 1, key="x")["0"]
    assert (relu["largest_hidden_gradient"], relu["boundary_pieces"], relu["test_accuracy"]) == (0, 0, 0.5)
    assert (relu["steps_to_90_percent"], relu["dead_units"]) == (None, None)
    sigmoid = settings(model=zero | {"activation": "sigmoid"})
    assert run_starts("pair/s", sigmoid, RUNTIME, rings_packed, 1, key="x")["0"]["largest_hidden_gradient"] > 1e-4


def test_the_model_is_asked_for_any_place(rings_packed):
    outcome = train_experiment("x", settings(epochs=1), RUNTIME, rings_packed, key="x")
    restored = restore(settings(), rings_packed, outcome.weights, CPU)
    found = examine(plane, restored, rings_packed, CPU)
    place = torch.tensor([200, 31], dtype=torch.uint8).reshape(1, 2, 1, 1)
    chance = restored.model(restored.convert(place)).detach().softmax(1)[0, 1]
    assert found.chances[31, 200] == pytest.approx(float(chance), abs=1e-6)


def test_pair_stage_measures_both_experiments(workdir, rings_packed, run_stage):
    write_packed(workdir / "data/processed/rings.safetensors", rings_packed)
    names = ("rings_relu_random", "rings_relu_zero")
    for name in names:
        summary = {"settings": read_training(f"experiments.{name}")[0].on("embedded").model_dump(exclude_none=True)}
        write_json(workdir / f"models/summaries/{name}.json", summary)
    keys = ("--dataset", "rings", "--starts", "2", "--seed", "0", "--device", "cpu", "--threads", "1")
    done = run_stage("pair", "rings_relu", *names, *keys)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((workdir / "metrics/pairs/rings_relu.json").read_text())
    assert list(found) == ["source", *names]
    assert all(list(found[name]) == ["0", "1"] for name in names)
    assert not (workdir / ".checkpoints/rings_relu").exists()
