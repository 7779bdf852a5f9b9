"""From the settings of an experiment to the weights, history and summary of each of its seeds."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from toolbox import CPU, UNIT, bits, toy_model, toy_settings
from torch.nn import functional

from labbook.config.train import Runtime, TrainSettings
from labbook.data.packed import PackedDataset, Split
from labbook.errors import DeviceError, TrainingError
from labbook.training import experiment as experiment_module
from labbook.training import runtime
from labbook.training.experiment import SeedResult, list_seeds, summarize, train_experiment, train_seeds, write_weights
from labbook.training.inference import evaluate, to_device
from labbook.training.sweep import run_sweep
from labbook.training.timing import make_timing, write_timing

RUNTIME = Runtime(seed=0, device="cpu")
RESULTS = ("models/trained/mnist_mlp_100", "plots/history/mnist_mlp_100.tsv")


def train_toy(packed: PackedDataset, folder: Path, seed: int = 0, **changes) -> SeedResult:
    seeded = RUNTIME.model_copy(update={"seed": seed})
    return train_experiment("x", toy_settings(**changes), seeded, packed, key="experiments.x.train", checkpoints=folder)


# Data and settings


def with_other_images(packed: PackedDataset, part: str) -> PackedDataset:
    """Replace the images of the test set, the validation split or the training split."""
    if part == "test":
        return dataclasses.replace(packed, test=Split(255 - packed.test.images, packed.test.labels))
    rows = np.zeros(len(packed.train), dtype=bool)
    rows[packed.validation] = True
    images = packed.train.images.copy()
    images[rows if part == "validation" else ~rows] ^= 255
    return dataclasses.replace(packed, train=Split(images, packed.train.labels), digest=part)


@pytest.mark.parametrize(("part", "same"), [("test", True), ("validation", True), ("train", False)])
def test_experiment_trains_only_on_the_training_split(tiny_packed, tmp_path, part, same):
    weights = bits(train_toy(tiny_packed, tmp_path / "x", test_curve=True).weights)
    other = with_other_images(tiny_packed, part)
    assert (bits(train_toy(other, tmp_path / "y", test_curve=True).weights) == weights) is same


def test_experiment_without_validation_also_trains_on_the_validation_split(tiny_packed, tmp_path):
    weights = bits(train_toy(tiny_packed, tmp_path / "x", validation=False).weights)
    other = with_other_images(tiny_packed, "validation")
    assert bits(train_toy(other, tmp_path / "y", validation=False).weights) != weights


SETTINGS = {
    "optimizer": {"optimizer": {"name": "Adam", "lr": 0.01}},
    "loss": {"loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.2}},
    "schedule": {"schedule": {"name": "CosineAnnealingLR"}},
    "preprocess": {"preprocess": {"mean": 0.5, "std": 0.25}},
    "augment": {"augment": {"flip": 0.5}},
    "batch size": {"batch_size": 18},
    "drop last": {"drop_last": True},
    "order": {"order": "by_class"},
    "seed": {"seed": 1},
    "initialisation": {"model": {"name": "mlp", "hidden": [16], "init": "normal", "init_std": 0.1}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_that_affects_weights_reaches_the_training(tiny_packed, tmp_path, name):
    default = train_toy(tiny_packed, tmp_path / "x")
    other = train_toy(tiny_packed, tmp_path / "y", **SETTINGS[name])
    assert bits(other.weights) != bits(default.weights)


def test_precision_reaches_the_training_if_the_device_supports_it(tiny_packed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "_cpu_flags", dict)
        message = r"^experiments\.x\.train\.precision: cpu does not support bf16"
        with pytest.raises(DeviceError, match=message):
            train_toy(tiny_packed, tmp_path, precision="bf16")
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: {"avx512_bf16": True})
    default = train_toy(tiny_packed, tmp_path / "x")
    assert bits(train_toy(tiny_packed, tmp_path / "y", precision="bf16").weights) != bits(default.weights)


def test_torch_uses_the_experiments_number_of_threads(tiny_packed, tmp_path, monkeypatch):
    set_threads = []
    monkeypatch.setattr(torch, "set_num_threads", set_threads.append)
    for threads in (1, 3):
        train_toy(tiny_packed, tmp_path / f"{threads}", threads=threads)
    assert set_threads == [1, 3]


def test_plain_training_loop_with_the_same_seed_gives_the_same_bits(tiny_packed, tmp_path):
    """Weights are drawn right after the seed is set, and nothing else is drawn from that generator before dropout."""
    train, _ = tiny_packed.train_val_split()
    images, labels = UNIT(torch.from_numpy(train.images)), torch.from_numpy(train.labels)
    model = toy_model(tiny_packed, seed=7, dropout=0.25)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    for epoch in (1, 2, 3):
        seed = int(np.random.SeedSequence((7, epoch)).generate_state(1, np.uint64)[0])
        for rows in torch.randperm(72, generator=torch.Generator().manual_seed(seed)).split(16):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    result = train_toy(tiny_packed, tmp_path, seed=7, model={"name": "mlp", "hidden": [16], "dropout": 0.25})
    assert bits(result.weights) == bits(model.state_dict())


# The summary


@pytest.mark.parametrize("select", ["best_val_loss", "last"])
def test_training_accuracy_is_that_of_the_selected_weights_in_evaluation_mode_on_the_whole_split(tiny_packed, tmp_path, select):
    """With dropout and batch norm, it is not the running mean of training."""
    model = {"name": "cnn", "channels": [4, 4], "pools": 1, "dropout": 0.4, "batch_norm": True}
    changes = {"model": model, "optimizer": {"name": "SGD", "lr": 0.02}, "epochs": 4, "select": select}
    result = train_toy(tiny_packed, tmp_path, **changes)
    selected = result.rows[result.summary["kept"]["row"]]

    model = toy_model(tiny_packed, "cnn", seed=9, dropout=0.4, batch_norm=True)
    model.load_state_dict(result.weights)
    train, _ = tiny_packed.train_val_split()
    with torch.no_grad():
        logits = model.eval()(UNIT(torch.from_numpy(train.images)))
    labels = torch.from_numpy(train.labels)
    accuracy = int((logits.argmax(1) == labels).sum()) / 72
    assert result.summary["train_accuracy"] == round(accuracy, 6)
    assert result.summary["train_loss"] == pytest.approx(functional.cross_entropy(logits, labels).item(), abs=2e-6)
    assert abs(selected.train_loss - result.summary["train_loss"]) > 0.01
    assert selected.train_accuracy != accuracy


def test_summary_of_a_training_that_stops_early(tiny_packed, tmp_path):
    """The learning rate is so high that an early row is the best."""
    changes = {"epochs": 30, "early_stopping": {"patience": 2}, "select": "best_val_loss", "test_curve": True}
    result = train_toy(tiny_packed, tmp_path, seed=3, optimizer={"name": "SGD", "lr": 3.0}, **changes)
    summary, rows = result.summary, result.rows
    losses = [row.val_loss for row in rows]
    best = losses.index(min(losses))
    assert best == len(rows) - 3
    assert list(summary) == [
        "seed", "steps", "epochs_trained", "stopped_early", "kept",
        "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    ]  # fmt: skip
    assert (summary["seed"], summary["steps"], summary["epochs_trained"]) == (3, 5 * len(rows), len(rows))
    assert summary["stopped_early"] is True
    assert summary["kept"] == {"row": best, "epoch": best + 1, "step": 5 * (best + 1)}
    assert (summary["val_loss"], summary["val_accuracy"]) == (round(min(losses), 6), round(rows[best].val_accuracy, 6))
    assert result.timing["seed"] == 3
    assert result.timing["seconds"] > 0
    assert result.test is None


def test_summary_counts_the_steps_after_the_last_row(tiny_packed, tmp_path):
    """A row every 7 of 25 steps: 7, 14 and 21; the last four steps belong to the fifth epoch."""
    changes = {"epochs": 5, "validate_every": 7, "select": "best_val_loss"}
    summary = train_toy(tiny_packed, tmp_path, **changes).summary
    assert (summary["steps"], summary["epochs_trained"], summary["stopped_early"]) == (25, 5, False)
    assert summary["kept"] == {"row": 2, "epoch": 5, "step": 21}
    longer = {"epochs": 5, "validate_every": 14, "select": "best_val_loss"}
    assert train_toy(tiny_packed, tmp_path, **longer).summary["epochs_trained"] == 5, (
        "although the last row is in the third epoch"
    )


def test_incomplete_epoch_is_counted(tiny_packed, tmp_path):
    """Training stops after two rows of three steps, which include one of the five steps of the second epoch."""
    changes = {"validate_every": 3, "early_stopping": {"patience": 1}, "optimizer": {"name": "SGD", "lr": 9.0}}
    summary = train_toy(tiny_packed, tmp_path, **changes).summary
    assert (summary["steps"], summary["epochs_trained"], summary["stopped_early"]) == (6, 2, True)


def test_summary_without_validation_has_no_validation_metrics(tiny_packed, tmp_path):
    summary = train_toy(tiny_packed, tmp_path, validation=False).summary
    assert (summary["val_loss"], summary["val_accuracy"]) == (None, None)


def test_summary_contains_the_watched_quantities_of_every_row(tiny_packed, tmp_path):
    summary = train_toy(tiny_packed, tmp_path, watch=["gradient_norms", "dead_units"]).summary
    assert [list(row) for row in summary["watched"]] == [["gradient_norms", "dead_units"]] * 3


def test_requested_test_metrics_are_those_of_the_selected_weights(tiny_packed, tmp_path):
    settings = toy_settings(select="best_val_accuracy")
    result = train_experiment("x", settings, RUNTIME, tiny_packed, key="x", checkpoints=tmp_path, evaluate_test=True)
    model = toy_model(tiny_packed, seed=5)
    model.load_state_dict(result.weights)
    loss, accuracy = evaluate(model, functional.cross_entropy, to_device(tiny_packed.test, UNIT, CPU))
    assert result.test == {"test_loss": round(loss, 6), "test_accuracy": round(accuracy, 6)}
    assert {row.test_loss for row in result.rows} == {None}, "the history has no test curve"


def test_summary_of_an_experiment_contains_what_evaluation_needs(tiny_packed, tmp_path):
    settings = toy_settings(seeds=2, model={"name": "mlp", "hidden": [16]})
    results = [train_toy(tiny_packed, tmp_path, seed) for seed in (0, 1)]
    summary = summarize("x", settings, tiny_packed, results)
    assert (summary["experiment"], summary["dataset"], summary["source"], summary["digest"]) == ("x", "toy", "embedded", "toy")
    assert (summary["classes"], summary["image_shape"]) == (("top", "middle", "bottom"), (1, 6, 6))
    assert summary["samples"] == {"train": 72, "val": 18, "test": 45}
    assert summary["parameters"] == 36 * 16 + 16 + 16 * 3 + 3
    assert (summary["device"], summary["torch"]) == ("cpu", torch.__version__.partition("+")[0])
    assert TrainSettings.model_validate(summary["settings"]) == settings
    assert summary["seeds"] == [result.summary for result in results]
    whole = summarize("x", toy_settings(), tiny_packed, results) | {"settings": toy_settings(validation=False).model_dump()}
    assert whole["samples"]["val"] == 18
    assert summarize("x", toy_settings(validation=False), tiny_packed, results)["samples"] == {
        "train": 90,
        "val": 0,
        "test": 45,
    }


# Seeds


def test_seeds_are_consecutive_from_the_projects_seed():
    assert list_seeds(toy_settings(seeds=3), Runtime(seed=5, device="cpu")) == [5, 6, 7]
    assert list_seeds(toy_settings(), Runtime(seed=5, device="cpu")) == [5]
    assert list_seeds(toy_settings(seeds=2), Runtime(seed=2**32 - 1, device="cpu")) == [2**32 - 1, 0]


def test_each_seed_has_the_bytes_of_a_separate_training(tiny_packed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = {"name": "mlp", "hidden": [16], "dropout": 0.3}
    changes = {"model": model, "select": "best_val_loss", "augment": {"flip": 0.5}}
    several = train_seeds("x", toy_settings(seeds=3, **changes), Runtime(seed=4, device="cpu"), tiny_packed, key="x")
    assert [result.summary["seed"] for result in several] == [4, 5, 6]
    for seed, result in zip((4, 5, 6), several, strict=True):
        single = train_toy(tiny_packed, tmp_path / "single", seed, **changes)
        assert bits(result.weights) == bits(single.weights)
        assert (result.rows, result.summary) == (single.rows, single.summary)
    assert len({tuple(bits(result.weights).values()) for result in several}) == 3


class Interrupted(Exception):
    """Simulates a kill."""


def interrupt_after(calls: int, function):
    """Wrap a function to raise after a number of calls."""
    counter = iter(range(10**6))

    def interrupted(*arguments, **keys):
        if next(counter) >= calls:
            raise Interrupted
        return function(*arguments, **keys)

    return interrupted


def test_interrupted_seeds_resume_without_training_a_finished_one_again(tiny_packed, tmp_path, monkeypatch, capsys):
    """By default a checkpoint is written every ten seconds, and always at the end of a training."""
    monkeypatch.chdir(tmp_path)
    settings = toy_settings(seeds=2, select="best_val_loss")
    uninterrupted = train_seeds("x", settings, RUNTIME, tiny_packed, key="x")
    with monkeypatch.context() as patch:
        patch.setattr(experiment_module, "fit", interrupt_after(1, experiment_module.fit))
        with pytest.raises(Interrupted):
            train_seeds("y", settings, RUNTIME, tiny_packed, key="x")
    capsys.readouterr()
    resumed = train_seeds("y", settings, RUNTIME, tiny_packed, key="x")
    output = capsys.readouterr().out
    assert output.count("resuming from the checkpoint") == 1
    assert "resuming from the checkpoint at step 15" in output, "the end of the first seed"
    for result, expected in zip(resumed, uninterrupted, strict=True):
        assert bits(result.weights) == bits(expected.weights)
        assert (result.rows, result.summary) == (expected.rows, expected.summary)


def test_finished_seeds_are_reused_when_their_number_increases(tiny_packed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train_seeds("x", toy_settings(seeds=2), RUNTIME, tiny_packed, key="x")
    capsys.readouterr()
    results = train_seeds("x", toy_settings(seeds=3), RUNTIME, tiny_packed, key="x")
    assert capsys.readouterr().out.count("resuming from the checkpoint at step 15") == 2
    assert bits(results[2].weights) == bits(train_toy(tiny_packed, tmp_path / "single", 2).weights)


# The stage


@pytest.fixture
def three_seeds(prepared, edit_params):
    edit_params(lambda values: values["experiments"]["mnist_mlp_100"]["train"].update(seeds=3))
    return prepared


def start_train(at_once: int = 1) -> None:
    """Run the stage in a separate process, as DVC does."""
    command = [sys.executable, "stages/train.py", "mnist_mlp_100"]
    environment = os.environ | {"LABBOOK_AT_ONCE": str(at_once)}
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")


def read_outputs(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, except for settings, data and scripts."""
    inputs = {"params.yaml", "data", "stages"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] not in inputs]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_stage_writes_the_same_files_in_parallel_or_not_except_for_timing(three_seeds):
    """Each training uses two threads, which a forked process must be able to start."""
    assert "threads: 2" in (three_seeds / "params.yaml").read_text()
    runs = []
    for at_once in (1, 1, 2):
        start_train(at_once)
        runs.append(read_outputs(three_seeds))
    assert set(runs[0]) == {
        *(f"models/trained/mnist_mlp_100/seed-{seed}.safetensors" for seed in range(3)),
        "models/trained/mnist_mlp_100/summary.json",
        "plots/history/mnist_mlp_100.tsv",
        "timing/mnist_mlp_100.json",
    }
    timings = [run.pop("timing/mnist_mlp_100.json") for run in runs]
    assert runs[0] == runs[1] == runs[2]
    assert all(timing != timings[0] for timing in timings[1:])
    summary = json.loads(runs[0]["models/trained/mnist_mlp_100/summary.json"])
    assert [seed["seed"] for seed in summary["seeds"]] == [0, 1, 2]
    assert summary["settings"]["seeds"] == 3
    history = runs[0]["plots/history/mnist_mlp_100.tsv"].decode().splitlines()
    assert [line.split("\t")[0] for line in history] == ["seed", "0", "0", "1", "1", "2", "2"]


def test_timing_file_contains_seconds_date_and_machine(prepared, run_stage):
    assert run_stage("train", "mnist_mlp_100").returncode == 0
    timing = json.loads(Path("timing/mnist_mlp_100.json").read_text())
    assert list(timing) == [
        "source", "seconds", "seconds_per_training", "seconds_per_epoch", "finished", "processor", "cores", "python",
    ]  # fmt: skip
    assert timing["source"] == "embedded"
    assert timing["seconds"] == pytest.approx(sum(timing["seconds_per_training"]))
    assert timing["python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(("epochs", "each"), [(2.0, 7.0), (1.4, 10.0)])
def test_seconds_per_epoch_count_an_incomplete_epoch_as_a_fraction(epochs, each):
    timing = make_timing(14.0, epochs, "A GPU")
    assert (timing["seconds"], timing["seconds_per_epoch"], timing["processor"]) == (14.0, each, "A GPU")


def test_seconds_per_epoch_are_those_of_the_steps_that_were_taken(tiny_packed, tmp_path, monkeypatch):
    """Training stops after two rows of two steps: four of the five steps of an epoch."""
    monkeypatch.setattr(experiment_module, "make_timing", lambda seconds, epochs, gpu: {"epochs": epochs})
    changes = {"validate_every": 2, "early_stopping": {"patience": 1}, "optimizer": {"name": "SGD", "lr": 9.0}}
    result = train_toy(tiny_packed, tmp_path, **changes)
    assert result.summary["steps"] == 4
    assert result.timing["epochs"] == 4 / 5


def test_timing_of_several_trainings_is_their_sum_on_the_last_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = {"seconds": 1.5, "seconds_per_epoch": 0.5, "finished": "1", "processor": "a", "cores": 2, "python": "3.11"}
    two = {"seconds": 2.25, "seconds_per_epoch": 0.75, "finished": "2", "processor": "b", "cores": 4, "python": "3.12"}
    write_timing("x", "official", [one, two])
    assert json.loads(Path("timing/x.json").read_text()) == {
        "source": "official", "seconds": 3.75, "seconds_per_training": [1.5, 2.25],
        "seconds_per_epoch": 0.75, "finished": "2", "processor": "b", "cores": 4, "python": "3.12",
    }  # fmt: skip


def test_weights_of_the_stage_are_those_of_the_library(three_seeds, run_stage):
    assert run_stage("train", "mnist_mlp_100").returncode == 0
    from labbook.config.train import read_training
    from labbook.data.packed import read_packed

    settings, runtime = read_training("mnist_mlp_100", "embedded")
    packed = read_packed(Path("data/processed/mnist.safetensors"))
    for seed in range(3):
        result = train_experiment(
            "x", settings, runtime.model_copy(update={"seed": seed}), packed, key="x", checkpoints=Path("other")
        )
        weights = safetensors.torch.load_file(f"models/trained/mnist_mlp_100/seed-{seed}.safetensors")
        assert bits(weights) == bits(result.weights)


def test_weights_files_differ_only_by_weights_and_source(tmp_path):
    weights = {"b": torch.arange(4.0), "a": torch.ones(2, 2)}
    for name, source in (("one", None), ("two", "embedded"), ("three", "embedded")):
        write_weights(tmp_path / name, dict(sorted(weights.items(), reverse=name == "three")), source)
    one, two, three = ((tmp_path / name).read_bytes() for name in ("one", "two", "three"))
    assert two == three != one
    assert bits(safetensors.torch.load(one)) == bits(safetensors.torch.load(two)) == bits(weights)


# Sweeps


def test_every_value_of_a_sweep_is_trained_from_the_same_seed_and_evaluated(tiny_packed, prepared):
    variants = [(rate, toy_settings(optimizer={"name": "SGD", "lr": rate})) for rate in (0.01, 0.3)]
    runtime = Runtime(seed=2, device="cpu")
    rows, timings = run_sweep("s", variants, runtime, tiny_packed)
    assert [row["value"] for row in rows] == [0.01, 0.3]
    for row, (_, settings) in zip(rows, variants, strict=True):
        result = train_experiment("x", settings, runtime, tiny_packed, key="x", checkpoints=Path("other"), evaluate_test=True)
        metrics = {name: result.summary[name] for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")}
        assert list(row) == [
            "source", "value", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy",
        ]  # fmt: skip
        assert row == {"source": "embedded", "value": row["value"]} | metrics | result.test
    assert len(timings) == 2


def test_error_of_a_sweep_names_its_key(tiny_packed, prepared):
    wrong = [(1.0, toy_settings(world_size=2)), (2.0, toy_settings())]
    with pytest.raises(TrainingError, match=r"^sweeps\.s\.train\.world_size: needs 2 processes, found 1"):
        run_sweep("s", wrong, RUNTIME, tiny_packed)


def test_sweep_stage_writes_one_row_per_value(prepared, run_stage, edit_params):
    def shorten(values):
        values["sweeps"]["mnist_cnn_dropout"]["vary"]["count"] = 2
        values["sweeps"]["mnist_cnn_dropout"]["train"]["epochs"] = 1

    edit_params(shorten)
    assert run_stage("train", "mnist_cnn").returncode == 0
    completed = run_stage("sweep", "mnist_cnn_dropout", "mnist_cnn")
    assert (completed.returncode, completed.stderr) == (0, "")
    lines = Path("plots/sweeps/mnist_cnn_dropout.tsv").read_text().splitlines()
    assert lines[0] == "source\tvalue\ttrain_loss\ttrain_accuracy\tval_loss\tval_accuracy\ttest_loss\ttest_accuracy"
    assert [line.split("\t")[:2] for line in lines[1:]] == [["embedded", "0.0"], ["embedded", "1.0"]]
    assert Path("timing/mnist_cnn_dropout.json").is_file()
    assert not Path(".checkpoints/mnist_cnn_dropout").exists()
