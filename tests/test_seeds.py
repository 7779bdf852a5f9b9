"""Experiments trained from several seeds, and what their figures say together."""

import functools
import json
import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from toolbox import CPU, toy_settings

from labbook import seeds
from labbook.core.inference import measure, place
from labbook.core.packed import read_packed
from labbook.core.settings import Runtime, read_training
from labbook.params.project import Reported
from labbook.report.verdict import judge_seeds
from labbook.seeds import run_seeds, summarise
from labbook.trained import restore
from labbook.training.experiment import train_experiment

RUNTIMES = [Runtime(seed=seed, device="cpu", threads=1) for seed in (3, 0)]
VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=20)
ENDS = {"low": 0.95, "high": 0.96, "run_low": 0.94, "run_high": 0.97}


@given(values=VALUES)
def test_mean_deviation_and_intervals_are_those_of_students_t(values):
    found = summarise(values)
    assert found["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert found["deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    if deviation:  # scipy has no interval of no width
        of_mean = scipy.stats.t.interval(0.95, len(values) - 1, mean, deviation / math.sqrt(len(values)))
        of_run = scipy.stats.t.interval(0.95, len(values) - 1, mean, deviation * math.sqrt(1 + 1 / len(values)))
        assert (found["low"], found["high"]) == pytest.approx(of_mean, abs=1e-6)
        assert (found["run_low"], found["run_high"]) == pytest.approx(of_run, abs=1e-6)


@given(values=VALUES, shift=st.floats(-1, 1))
def test_intervals_lie_around_the_mean_and_move_with_the_values(values, shift):
    found, moved = summarise(values), summarise([value + shift for value in values])
    assert found["run_low"] <= found["low"] <= found["mean"] <= found["high"] <= found["run_high"]
    assert moved["deviation"] == pytest.approx(found["deviation"], abs=2e-6)
    assert moved["low"] == pytest.approx(found["low"] + shift, abs=2e-6)


def test_an_interval_of_figures_worked_out_by_hand():
    """Of 0 and 1: mean 1/2, deviation √1/2, and t = tan(0.475 π) with one degree of freedom."""
    t = math.tan(0.475 * math.pi)
    assert summarise([0, 1]) == {
        "mean": 0.5,
        "deviation": round(math.sqrt(0.5), 6),
        "low": round(0.5 - t / 2, 6),
        "high": round(0.5 + t / 2, 6),
        "run_low": round(0.5 - t * math.sqrt(0.75), 6),
        "run_high": round(0.5 + t * math.sqrt(0.75), 6),
    }


def test_the_intervals_hold_what_they_are_to_hold_in_95_of_100_draws():
    draws = np.random.default_rng(0).normal(0.9, 0.01, (2000, 6))
    found = [(summarise(list(draw[:5])), draw[5]) for draw in draws]
    assert statistics.fmean(one["low"] <= 0.9 <= one["high"] for one, _ in found) == pytest.approx(0.95, abs=0.015)
    assert statistics.fmean(one["run_low"] <= further <= one["run_high"] for one, further in found) == pytest.approx(
        0.95, abs=0.015
    )


@pytest.mark.parametrize(
    ("reported", "words"),
    [
        (0.95, "inside the interval of the mean"),
        (0.96, "inside the interval of the mean"),
        (0.965, "above the interval of the mean, inside that of one run"),
        (0.94, "below the interval of the mean, inside that of one run"),
        (0.98, "above both intervals"),
        (0.9, "below both intervals"),
    ],
)
def test_the_reported_figure_is_placed_among_the_seeds(reported, words):
    assert judge_seeds(Reported(test_accuracy=reported), ENDS) == words


@pytest.mark.parametrize(
    "reported",
    [
        Reported(),
        Reported(kind="words", quote="fine"),
        Reported(kind="other_data", test_accuracy=0.95),
    ],
)
def test_what_is_no_figure_on_our_data_is_not_placed(reported):
    assert judge_seeds(reported, ENDS) is None


@pytest.mark.usefixtures("workdir")  # for the file that says that nothing was trained before
@pytest.mark.parametrize("keep", ["last", "best_validation_accuracy"])
def test_each_seed_gives_what_a_training_with_it_gives(tiny_packed, keep):
    settings = toy_settings(keep=keep, validation=True, epochs=3, model={"name": "mlp", "hidden": [8], "dropout": 0.3})
    figures, timing = run_seeds("x", settings.model_copy(update={"test_curve": True}), RUNTIMES, tiny_packed, key="x")
    assert list(figures["runs"]) == ["3", "0"]
    for runtime in RUNTIMES:
        outcome = train_experiment("y", settings, runtime, tiny_packed, key="x")
        restored = restore(settings, tiny_packed, outcome.weights, CPU)
        loss, accuracy = measure(restored.model, restored.loss, place(tiny_packed.test, restored.convert, CPU))
        assert figures["runs"][str(runtime.seed)] == {"test_accuracy": round(accuracy, 6), "test_loss": round(loss, 6)}
    losses = [run["test_loss"] for run in figures["runs"].values()]
    assert losses[0] != losses[1]
    assert figures["test_loss"] == summarise(losses)
    assert timing["seconds"] > 0


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.usefixtures("workdir")
def test_seeds_that_were_interrupted_go_on_and_end_with_the_same_figures(tiny_packed, monkeypatch, capsys):
    settings = toy_settings(epochs=3)
    undisturbed, _ = run_seeds("x", settings, RUNTIMES, tiny_packed, key="x")
    monkeypatch.setattr(seeds, "train_experiment", functools.partial(train_experiment, checkpoint_seconds=0))
    with monkeypatch.context() as patch:
        patch.setattr(seeds, "measure", interrupt_at_second_call(measure))
        with pytest.raises(Interrupted):
            run_seeds("y", settings, RUNTIMES, tiny_packed, key="x")
    assert "going on" not in capsys.readouterr().out
    again, _ = run_seeds("y", settings, RUNTIMES, tiny_packed, key="x")
    assert capsys.readouterr().out.count("going on from the checkpoint at step") == 2, "no seed is trained anew"
    assert again == undisturbed


def interrupt_at_second_call(function):
    calls = iter(range(10))

    def interrupted(*arguments):
        if next(calls):
            raise Interrupted
        return function(*arguments)

    return interrupted


def test_seeds_stage_agrees_with_the_train_stage_on_the_projects_own_seed(prepared, run_stage):
    done = run_stage("seeds", "mnist_mlp_100")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((prepared / "metrics/seeds/mnist_mlp_100.json").read_text())
    assert list(found) == ["source", "test_accuracy", "test_loss", "runs"]
    assert list(found["runs"]) == ["0", "1", "2", "3", "4"]
    settings, runtime = read_training("experiments.mnist_mlp_100")
    assert runtime.seed == 0
    packed = read_packed(prepared / "data/processed/mnist.safetensors")
    own = restore(settings, packed, train_experiment("x", settings, runtime, packed, key="x").weights, CPU)
    loss, accuracy = measure(own.model, own.loss, place(packed.test, own.convert, CPU))
    assert found["runs"]["0"] == {"test_accuracy": round(accuracy, 6), "test_loss": round(loss, 6)}
    assert json.loads((prepared / "metrics/timing/seeds@mnist_mlp_100.json").read_text())["seconds"] > 0
    assert not (prepared / ".checkpoints/seeds@mnist_mlp_100").exists()


def test_seeds_stage_ends_with_one_message_and_no_traceback(prepared, edit_params, run_stage):
    edit_params(lambda values: values["seeds"]["mnist_mlp_100"].update(seeds=[1]))
    done = run_stage("seeds", "mnist_mlp_100")
    assert done.returncode == 1
    assert done.stderr.startswith("error: seeds.mnist_mlp_100.seeds: [1] will not do: ")
    assert not (prepared / "metrics/seeds").exists()
