import contextlib
import dataclasses
import functools
import hashlib
import signal
import time
from pathlib import Path

import pytest
import torch
from forks import Fork
from toolbox import Noise, bits, splits, toy_model, toy_plan

from labbook.core.errors import DeviceError, TrainingError
from labbook.core.packed import read_packed, write_packed
from labbook.core.parts import Part
from labbook.core.runtime import check_bf16
from labbook.core.settings import read_training
from labbook.training import experiment as experiment_module
from labbook.training.checkpoint import CHECKPOINTS, Checkpoint, code_digest, discard, fingerprint, hold
from labbook.training.engine import fit

NAME = "killed"
RESULTS = (
    f"models/weights/{NAME}.safetensors",
    f"models/summaries/{NAME}.json",
    f"plots/history/{NAME}.tsv",
)
STATE = {"weights": {"a": torch.arange(6.0)}, "step": 3, "rows": [{"epoch": 1, "val_loss": None}], "stopped": False}


class Interrupted(Exception):
    """Stands for a kill inside one process."""


def interrupt_at(moment: int):
    """Give a `show` that raises when it is called for the `moment`-th time, counted from 0."""
    calls = iter(range(10**6))

    def show(done, row):
        if next(calls) == moment:
            raise Interrupted

    return show


CASES = {
    "momentum": ("mlp", toy_plan("momentum", keep="best_validation_loss"), {"dropout": 0.3}),
    "adam and batch norm": ("cnn", toy_plan("adam", keep="best_validation_accuracy"), {"dropout": 0.3, "batch_norm": True}),
    "augmentation": ("mlp", toy_plan(augmentation=Noise()), {"dropout": 0.3}),
    "rows inside an epoch": ("mlp", toy_plan("adam", validate_every=2, drop_last=True, epochs=2), {"dropout": 0.3}),
}


@pytest.mark.parametrize("case", CASES)
def test_training_interrupted_at_any_row_ends_with_the_same_bits(tiny_packed, tmp_path, capsys, case):
    """Validation labels are mixed up, so that the best weights are early ones, which later checkpoints must carry."""
    kind, plan, keys = CASES[case]
    train, validation, test = splits(tiny_packed)
    validation = dataclasses.replace(validation, labels=validation.labels.roll(1))

    def run(file: Path, **more):
        model = toy_model(tiny_packed, kind, **keys)
        return fit(model, train, validation, test, plan, checkpoint=Checkpoint(file), checkpoint_seconds=0, **more)

    undisturbed = run(tmp_path / "undisturbed.pt")
    assert (plan.keep == "last") == (undisturbed.kept == len(undisturbed.rows) - 1)
    for row in range(1, len(undisturbed.rows)):
        file = tmp_path / f"{row}.pt"
        with pytest.raises(Interrupted):
            run(file, show=interrupt_at(row))
        capsys.readouterr()
        resumed = run(file)
        assert f"going on from the checkpoint at step {undisturbed.rows[row - 1].step}\n" in capsys.readouterr().out
        assert bits(resumed.weights) == bits(undisturbed.weights)
        assert resumed.rows == undisturbed.rows
        assert resumed.kept == undisturbed.kept


def test_training_interrupted_at_every_row_in_turn_ends_with_the_same_bits(tiny_packed, tmp_path):
    kind, plan, keys = CASES["adam and batch norm"]
    train, validation, _ = splits(tiny_packed)
    undisturbed = fit(toy_model(tiny_packed, kind, **keys), train, validation, None, plan)
    checkpoint = Checkpoint(tmp_path / "x.pt")
    for _ in range(len(undisturbed.rows) - 1):
        model = toy_model(tiny_packed, kind, **keys)
        with pytest.raises(Interrupted):
            fit(model, train, validation, None, plan, checkpoint=checkpoint, checkpoint_seconds=0, show=interrupt_at(1))
    last = fit(toy_model(tiny_packed, kind, **keys), train, validation, None, plan, checkpoint=checkpoint)
    assert bits(last.weights) == bits(undisturbed.weights)
    assert last.rows == undisturbed.rows


def test_training_that_had_stopped_early_does_not_go_on(tiny_packed, tmp_path):
    train, validation, _ = splits(tiny_packed)
    plan = dataclasses.replace(CASES["momentum"][1], stopping=lambda losses: len(losses) == 2)
    checkpoint = Checkpoint(tmp_path / "x.pt")
    first = fit(toy_model(tiny_packed), train, validation, None, plan, checkpoint=checkpoint, checkpoint_seconds=0)
    assert len(first.rows) == 2
    again = fit(toy_model(tiny_packed, seed=1), train, validation, None, plan, checkpoint=checkpoint)
    assert bits(again.weights) == bits(first.weights)
    assert again.rows == first.rows


def test_checkpoints_change_no_result_however_often_they_are_written(tiny_packed, tmp_path):
    train, validation, _ = splits(tiny_packed)
    runs = []
    for checkpoint, seconds in ((None, 0), (Checkpoint(tmp_path / "often"), 0), (Checkpoint(tmp_path / "rarely"), 1000)):
        model = toy_model(tiny_packed, dropout=0.3)
        plan = toy_plan("adam", augmentation=Noise())
        runs.append(fit(model, train, validation, None, plan, checkpoint=checkpoint, checkpoint_seconds=seconds))
    assert bits(runs[0].weights) == bits(runs[1].weights) == bits(runs[2].weights)
    assert [file.name for file in tmp_path.iterdir()] == ["often"]


def test_seconds_before_every_interruption_are_counted(tiny_packed, tmp_path):
    train, _, _ = splits(tiny_packed)
    checkpoint = Checkpoint(tmp_path / "x.pt")

    def run(interrupted_at):
        def show(done, row):
            time.sleep(0.2)
            if row.epoch == interrupted_at:
                raise Interrupted

        plan = toy_plan(epochs=3)
        return fit(toy_model(tiny_packed), train, None, None, plan, checkpoint=checkpoint, checkpoint_seconds=0, show=show)

    for epoch in (2, 3):
        with pytest.raises(Interrupted):
            run(epoch)
    assert run(None).seconds >= 0.6


def test_state_that_is_saved_is_loaded_again(tmp_path):
    checkpoint = Checkpoint(tmp_path / "folder" / "x.pt")
    assert checkpoint.load() is None
    checkpoint.save(STATE)
    found = checkpoint.load()
    assert bits(found.pop("weights")) == bits(STATE["weights"])
    assert found == {key: value for key, value in STATE.items() if key != "weights"}
    checkpoint.remove()
    assert checkpoint.load() is None
    checkpoint.remove()


def test_save_that_fails_leaves_the_state_before(tmp_path):
    checkpoint = Checkpoint(tmp_path / "x.pt")
    checkpoint.save(STATE)
    with pytest.raises((AttributeError, TypeError)):
        checkpoint.save({"step": lambda: None})  # nothing that can be written
    assert checkpoint.load()["step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def damaged_versions(good: bytes):
    yield "empty", b""
    yield "shorter than the checksum", good[:20]
    yield "the checksum alone", good[:32]
    yield "truncated", good[: len(good) // 2]
    yield "one byte short", good[:-1]
    yield "longer", good + b"\x00"
    for place in (0, 31, 32, len(good) // 2, len(good) - 1):
        yield f"byte {place} flipped", good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :]
    junk = b"no state at all"
    yield "another content with a checksum that fits", hashlib.sha256(junk).digest() + junk


def test_damaged_checkpoint_starts_training_again_and_says_so(tiny_packed, tmp_path, capsys):
    train, _, _ = splits(tiny_packed)
    plan = toy_plan("momentum", epochs=2)
    undisturbed = fit(toy_model(tiny_packed, dropout=0.3), train, None, None, plan)
    checkpoint = Checkpoint(tmp_path / "x.pt")
    fit(toy_model(tiny_packed, dropout=0.3), train, None, None, plan, checkpoint=checkpoint, checkpoint_seconds=0)
    good = checkpoint.path.read_bytes()
    for how, data in damaged_versions(good):
        checkpoint.path.write_bytes(data)
        capsys.readouterr()
        again = fit(toy_model(tiny_packed, dropout=0.3), train, None, None, plan, checkpoint=checkpoint)
        said = capsys.readouterr().out
        assert f"checkpoint {checkpoint.path} is damaged (" in said, how
        assert said.endswith("training starts again from the beginning\n"), how
        assert bits(again.weights) == bits(undisturbed.weights), how
        assert again.rows == undisturbed.rows, how
        assert not checkpoint.path.exists(), how


def test_holding_a_folder_removes_what_other_fingerprints_left(tmp_path):
    folder = tmp_path / "x"
    with hold(folder, "mine") as checkpoint:
        checkpoint.save(STATE)
    for name in ("other.pt", "other.pt.123.part", "mine.pt.123.part"):
        (folder / name).write_bytes(b"left over")
    with hold(folder, "mine") as checkpoint:
        assert checkpoint.load()["step"] == 3
        assert {file.name for file in folder.iterdir()} <= {"lock", "mine.pt"}
    with hold(folder, "another") as checkpoint:
        assert checkpoint.load() is None
    assert not (folder / "mine.pt").exists()


def test_folder_is_held_once_at_a_time(tmp_path):
    with hold(tmp_path / "x", "mine"):
        message = r"x: another process trains this experiment now\. Wait for it, or stop it\."
        with pytest.raises(TrainingError, match=message), hold(tmp_path / "x", "mine"):
            pass
        with hold(tmp_path / "y", "mine"):
            pass
    with hold(tmp_path / "x", "mine"):
        pass


def test_folder_is_free_again_after_an_error(tmp_path):
    with pytest.raises(Interrupted), hold(tmp_path, "mine"):
        raise Interrupted
    with hold(tmp_path, "mine"):
        pass


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "x").write_bytes(b"a file")
    with pytest.raises(TrainingError, match=r"x/y: "), hold(tmp_path / "x" / "y", "mine"):
        pass


def test_fingerprint_tells_any_change():
    marks = [fingerprint(*parts) for parts in ((1, "a"), (1, "b"), ("1", "a"), (1, "a", ""), ("a", 1), ())]
    assert len(set(marks)) == len(marks)
    assert fingerprint(1, "a") == marks[0]
    assert len(code_digest()) == 64


@pytest.fixture
def experiment(workdir, tiny_packed):
    """Train one experiment of the work folder on toy images, with changes of its settings; give its outcome."""
    settings, runtime = read_training("experiments.mnist_mlp_100")
    settings = settings.model_copy(update={"epochs": 3, "embedded": {}, "batch_size": 16})

    def run(packed=tiny_packed, *, seed=0, **changes):
        return experiment_module.train_experiment(
            "x", settings.model_copy(update=changes), runtime.model_copy(update={"seed": seed}), packed,
            key="experiments.x.train", checkpoint_seconds=0,
        )  # fmt: skip

    return run


def test_training_that_is_done_is_not_done_again_until_its_outputs_are_written(experiment, capsys):
    """A kill between the last step and the last output costs nothing; what is discarded then is gone."""
    first = experiment()
    again = experiment()
    assert "going on from the checkpoint at step 15" in capsys.readouterr().out
    assert bits(again.weights) == bits(first.weights)
    assert (again.rows, again.summary) == (first.rows, first.summary)
    discard(CHECKPOINTS / "x")
    assert not (CHECKPOINTS / "x").exists()
    discard(CHECKPOINTS / "x")
    experiment()
    assert "going on" not in capsys.readouterr().out


def has_bf16() -> bool:
    try:
        check_bf16(torch.device("cpu"), "precision")
    except DeviceError:
        return False
    return True


def test_other_start_of_the_same_seed_gives_other_weights_and_the_first_is_the_seeds_own(experiment):
    starts = {number: bits(experiment(restart=number).weights) for number in range(3)}
    assert len({tuple(weights.values()) for weights in starts.values()}) == 3
    discard(CHECKPOINTS / "x")
    assert bits(experiment().weights) == starts[0]
    assert bits(experiment(restart=1).weights) == starts[1]
    assert bits(experiment(restart=1, seed=1).weights) != starts[1]


def interrupted(run, monkeypatch) -> Path:
    """Interrupt an experiment as it reaches its last row; give the checkpoint that it leaves."""
    with monkeypatch.context() as patch:
        patch.setattr(experiment_module, "show_progress", lambda name, steps: contextlib.nullcontext(interrupt_at(2)))
        with pytest.raises(Interrupted):
            run()
    (file,) = (CHECKPOINTS / "x").glob("*.pt")
    return file


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"augmentation": Part(name="transforms", mean=0.5, std=0.5, crop_padding=1, flip=0.5, rotation=20, brightness=0.1)},
        {"precision": "bf16"},
        {"restart": 3},
    ],
    ids=lambda changes: next(iter(changes), "plain"),
)
def test_experiment_goes_on_from_its_own_checkpoint(experiment, monkeypatch, capsys, changes):
    if "precision" in changes and not has_bf16():
        pytest.skip("no bf16 in this processor")
    run = functools.partial(experiment, **changes)
    undisturbed = run()
    discard(CHECKPOINTS / "x")
    interrupted(run, monkeypatch)
    resumed = run()
    assert "going on from the checkpoint at step 10" in capsys.readouterr().out
    assert bits(resumed.weights) == bits(undisturbed.weights)
    assert (resumed.rows, resumed.summary) == (undisturbed.rows, undisturbed.summary)


@pytest.mark.parametrize("change", ["settings", "seed", "data"])
def test_checkpoint_of_other_settings_seed_or_data_is_not_used(experiment, monkeypatch, capsys, tiny_packed, tmp_path, change):
    if change == "data":
        write_packed(tmp_path / "other", dataclasses.replace(tiny_packed, test=tiny_packed.train))
        keys = {"packed": read_packed(tmp_path / "other")}
    else:
        keys = {"seed": 1} if change == "seed" else {"batch_size": 8}
    undisturbed = experiment(**keys)
    discard(CHECKPOINTS / "x")
    file = interrupted(experiment, monkeypatch)
    capsys.readouterr()
    again = experiment(**keys)
    assert "going on" not in capsys.readouterr().out
    assert not file.exists()
    assert bits(again.weights) == bits(undisturbed.weights)


@pytest.fixture
def long_experiment(prepared, edit_params):
    """A training of a few seconds, with dropout, Adam, and a choice on validation data."""

    def add(values):
        train = values["experiments"]["mnist_mlp_100"]["train"] | {"epochs": 30, "embedded": {}}
        train["model"] = {"name": "mlp", "hidden": [64, 32], "dropout": 0.2}
        del train["constraint"]
        values["experiments"][NAME] = values["experiments"]["mnist_mlp_100"] | {"train": train}

    edit_params(add)
    return prepared


def kill_when(reached) -> str:
    """Train in a process, kill it without warning when `reached()`, and give what it said."""
    process = Fork("stages/train.py", NAME, "--checkpoint-seconds", "0")
    deadline = time.monotonic() + 100
    while process.is_at_work() and not reached() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    ended = process.end()
    assert "Traceback" not in ended.stderr
    return ended.stdout


def test_training_killed_at_several_moments_ends_with_the_same_bytes(long_experiment, run_stage, start_stage):
    """After the first checkpoint, while one is written after a resume, and between the outputs."""
    assert run_stage("train", NAME).returncode == 0
    undisturbed = {file: Path(file).read_bytes() for file in RESULTS}
    for file in RESULTS:
        Path(file).unlink()

    folder = CHECKPOINTS / NAME
    written: set[int] = set()

    def checkpoints(count):
        with contextlib.suppress(FileNotFoundError):
            written.update(file.stat().st_mtime_ns for file in folder.glob("*.pt"))
        return len(written) >= count

    kill_when(lambda: checkpoints(1))
    said = kill_when(lambda: checkpoints(3) and (any(folder.glob("*.part")) or checkpoints(8)))
    assert "going on from the checkpoint at step " in said
    assert not Path(RESULTS[0]).exists()
    said = kill_when(Path(RESULTS[0]).exists)
    assert "going on from the checkpoint at step " in said

    last = start_stage("train", NAME)
    assert (last.returncode, last.stderr) == (0, "")
    assert {file: Path(file).read_bytes() for file in RESULTS} == undisturbed
    assert not folder.exists()


def test_second_process_on_the_same_experiment_ends_with_one_message(long_experiment):
    with hold(CHECKPOINTS / NAME, "of this process"):
        second = Fork("stages/train.py", NAME).end()
    assert second.returncode == 1
    message = f"error: {CHECKPOINTS / NAME}: another process trains this experiment now. Wait for it, or stop it.\n"
    assert second.stderr == message
    assert not Path("models").exists()
