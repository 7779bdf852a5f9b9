"""Checkpoints: a training that was killed at any moment resumes and ends with the bytes of an uninterrupted one."""

import contextlib
import dataclasses
import functools
import hashlib
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forks import Fork
from toolbox import add_noise, bits, splits, toy_model, toy_plan, toy_settings

from labbook.config.train import Runtime
from labbook.data.packed import read_packed, write_packed
from labbook.errors import DeviceError, TrainingError
from labbook.models import mlp
from labbook.training import engine
from labbook.training import experiment as experiment_module
from labbook.training.checkpoint import CHECKPOINTS, Checkpoint, code_digest, discard, fingerprint, locked_checkpoint
from labbook.training.engine import fit
from labbook.training.pretrained import PretrainedWeights
from labbook.training.runtime import check_bf16

NAME = "killed"
SEEDS = (0, 1)
WEIGHTS = f"models/trained/{NAME}"
RESULTS = (*(f"{WEIGHTS}/seed-{seed}.safetensors" for seed in SEEDS), f"{WEIGHTS}/summary.json", f"plots/history/{NAME}.tsv")
RESUMED = "resuming from the checkpoint at step "
STATE = {"weights": {"a": torch.arange(6.0)}, "step": 3, "rows": [{"epoch": 1, "val_loss": None}], "stopped": False}


class Interrupted(Exception):
    """Simulates a kill inside one process."""


def interrupt_at(moment: int):
    """Return a progress callback that raises when it is called for the `moment`-th time, counted from 0."""
    calls = iter(range(10**6))

    def show(done, row):
        if next(calls) == moment:
            raise Interrupted

    return show


class KilledAfter(Checkpoint):
    """A checkpoint that is written once, after a step, and kills its training."""

    def __init__(self, path: Path, step: int) -> None:
        super().__init__(path)
        self.step = step

    def save(self, state):
        if state["step"] == self.step:
            super().save(state)
            raise Interrupted


WARM_UP = {
    "name": "SequentialLR",
    "interval": "step",
    "milestones": [7],
    "schedulers": [{"name": "LinearLR", "start_factor": 0.1}, {"name": "CosineAnnealingLR"}],
}
CASES = {
    "momentum": ("mlp", toy_plan("momentum", select="best_val_loss"), {"dropout": 0.3}),
    "adam and batch norm": ("cnn", toy_plan("adam", select="best_val_accuracy"), {"dropout": 0.3, "batch_norm": True}),
    "augmentation": ("mlp", toy_plan(augment=add_noise), {"dropout": 0.3}),
    "rows inside an epoch": ("mlp", toy_plan("adam", validate_every=2, drop_last=True, epochs=2), {"dropout": 0.3}),
    "a short interval at the end": ("mlp", toy_plan("adam", validate_every=4, select="best_val_loss"), {"dropout": 0.3}),
    "schedule by epoch": ("mlp", toy_plan("adam", schedule={"name": "MultiStepLR", "milestones": [1, 2]}), {}),
    "warm-up by step": ("mlp", toy_plan("momentum", validate_every=2, schedule=WARM_UP), {"dropout": 0.3}),
    "one cycle": ("mlp", toy_plan("adam", validate_every=4, schedule={"name": "OneCycleLR"}), {}),
    "watched": ("cnn", toy_plan(watch=("gradient_norms", "dead_units")), {"batch_norm": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_training_killed_after_any_step_ends_with_the_same_bits(tiny_packed, tmp_path, capsys, case):
    """Validation labels are mixed up, so that the best weights are early ones, which later checkpoints must carry."""
    kind, plan, keys = CASES[case]
    train, validation, test = splits(tiny_packed)
    validation = dataclasses.replace(validation, labels=validation.labels.roll(1))

    def run(checkpoint: Checkpoint | None, seed: int = 0):
        model = toy_model(tiny_packed, kind, seed=seed, **keys)
        return fit(model, train, validation, test, plan, checkpoint=checkpoint, checkpoint_seconds=0)

    undisturbed = run(None)
    assert (plan.select == "last") == (undisturbed.kept == len(undisturbed.rows) - 1)
    assert undisturbed.steps > len(undisturbed.rows), "some of the steps are inside a row"
    for step in range(1, undisturbed.steps):
        file = tmp_path / f"{step}.pt"
        with pytest.raises(Interrupted):
            run(KilledAfter(file, step))
        capsys.readouterr()
        resumed = run(Checkpoint(file), seed=9)  # nothing is taken from the newly built model
        assert f"{RESUMED}{step}\n" in capsys.readouterr().out
        assert bits(resumed.weights) == bits(undisturbed.weights)
        assert (resumed.rows, resumed.watched) == (undisturbed.rows, undisturbed.watched)
        assert (resumed.kept, resumed.steps) == (undisturbed.kept, undisturbed.steps)


def test_training_resumes_in_the_middle_of_a_warm_up(tiny_packed, tmp_path):
    """The rates are those of the formula: from 0.1 × 0.05 to 0.05 in seven steps, then half a cosine over eight."""
    train, _, _ = splits(tiny_packed)
    plan = toy_plan("momentum", validate_every=1, schedule=WARM_UP)
    expected = [0.05 * (0.1 + 0.9 * step / 7) for step in range(7)]
    expected += [0.025 * (1 + np.cos(np.pi * step / 8)) for step in range(8)]
    checkpoint = Checkpoint(tmp_path / "x.pt")
    with pytest.raises(Interrupted):
        fit(toy_model(tiny_packed), train, None, None, plan, checkpoint=checkpoint, checkpoint_seconds=0, show=interrupt_at(3))
    assert checkpoint.load()["step"] == 3
    rows = fit(toy_model(tiny_packed), train, None, None, plan, checkpoint=checkpoint).rows
    assert [row.lr for row in rows] == pytest.approx(expected)


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


def test_training_that_stopped_early_does_not_continue(tiny_packed, tmp_path):
    train, validation, _ = splits(tiny_packed)
    plan = dataclasses.replace(CASES["momentum"][1], stop=lambda losses: len(losses) == 2)
    checkpoint = Checkpoint(tmp_path / "x.pt")
    first = fit(toy_model(tiny_packed), train, validation, None, plan, checkpoint=checkpoint)
    assert (len(first.rows), first.steps) == (2, 10)
    again = fit(toy_model(tiny_packed, seed=1), train, validation, None, plan, checkpoint=checkpoint)
    assert bits(again.weights) == bits(first.weights)
    assert (again.rows, again.steps) == (first.rows, first.steps)


def test_checkpoints_change_no_result_however_often_they_are_written(tiny_packed, tmp_path):
    train, validation, _ = splits(tiny_packed)
    runs = []
    for checkpoint, seconds in ((None, 0), (Checkpoint(tmp_path / "often"), 0), (Checkpoint(tmp_path / "rarely"), 1000)):
        model = toy_model(tiny_packed, dropout=0.3)
        plan = toy_plan("adam", augment=add_noise)
        runs.append(fit(model, train, validation, None, plan, checkpoint=checkpoint, checkpoint_seconds=seconds))
    assert bits(runs[0].weights) == bits(runs[1].weights) == bits(runs[2].weights)
    assert runs[0].rows == runs[1].rows == runs[2].rows


@pytest.mark.parametrize(("seconds", "steps"), [(0, [*range(1, 16)]), (4, [4, 8, 12, 15]), (1000, [15])])
def test_checkpoint_is_written_at_every_interval_and_at_the_end(tiny_packed, tmp_path, monkeypatch, seconds, steps):
    """Whether a row of the history is due or not; a step takes a second here."""
    saved, steps_taken = [], []

    def augment(images, generator):
        steps_taken.append(1)
        return images

    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: len(steps_taken)))
    monkeypatch.setattr(Checkpoint, "save", lambda self, state: saved.append(state["step"]))
    train, _, _ = splits(tiny_packed)
    checkpoint = Checkpoint(tmp_path / "x")
    plan = toy_plan(augment=augment)
    trained = fit(toy_model(tiny_packed), train, None, None, plan, checkpoint=checkpoint, checkpoint_seconds=seconds)
    assert saved == steps
    assert trained.seconds == 15


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


# The file


def test_saved_state_is_loaded(tmp_path):
    checkpoint = Checkpoint(tmp_path / "folder" / "x.pt")
    assert checkpoint.load() is None
    checkpoint.save(STATE)
    found = checkpoint.load()
    assert bits(found.pop("weights")) == bits(STATE["weights"])
    assert found == {key: value for key, value in STATE.items() if key != "weights"}
    checkpoint.remove()
    assert checkpoint.load() is None
    checkpoint.remove()


def test_failed_save_keeps_the_previous_state(tmp_path):
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


def test_damaged_checkpoint_is_reported_and_training_starts_again(tiny_packed, tmp_path, capsys):
    train, _, _ = splits(tiny_packed)
    plan = toy_plan("momentum", epochs=2)
    undisturbed = fit(toy_model(tiny_packed, dropout=0.3), train, None, None, plan)
    checkpoint = Checkpoint(tmp_path / "x.pt")
    fit(toy_model(tiny_packed, dropout=0.3), train, None, None, plan, checkpoint=checkpoint)
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


# The folder


def test_locking_a_folder_removes_checkpoints_of_other_fingerprints(tmp_path):
    folder = tmp_path / "x"
    with locked_checkpoint(folder, "mine") as checkpoint:
        checkpoint.save(STATE)
    for name in ("other.pt", "other.pt.123.part", "mine.pt.123.part"):
        (folder / name).write_bytes(b"left over")
    with locked_checkpoint(folder, "mine") as checkpoint:
        assert checkpoint.load()["step"] == 3
        assert {file.name for file in folder.iterdir()} <= {"lock", "mine.pt"}
    with locked_checkpoint(folder, "another") as checkpoint:
        assert checkpoint.load() is None
    assert not (folder / "mine.pt").exists()


def test_folder_cannot_be_locked_twice(tmp_path):
    with locked_checkpoint(tmp_path / "x", "mine"):
        message = r"x: another process is training this experiment\. Wait for it to end, or stop it\."
        with pytest.raises(TrainingError, match=message), locked_checkpoint(tmp_path / "x", "mine"):
            pass
        with locked_checkpoint(tmp_path / "y", "mine"):
            pass
    with locked_checkpoint(tmp_path / "x", "mine"):
        pass


def test_folder_is_unlocked_after_an_error(tmp_path):
    with pytest.raises(Interrupted), locked_checkpoint(tmp_path, "mine"):
        raise Interrupted
    with locked_checkpoint(tmp_path, "mine"):
        pass


def test_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "x").write_bytes(b"a file")
    with pytest.raises(TrainingError, match=r"x/y: "), locked_checkpoint(tmp_path / "x" / "y", "mine"):
        pass


# The fingerprint


def test_fingerprint_depends_on_every_part_its_type_and_their_order():
    found = [fingerprint(*parts) for parts in ((1, "a"), (1, "b"), ("1", "a"), (1, "a", ""), ("a", 1), ())]
    assert len(set(found)) == len(found)
    assert fingerprint(1, "a") == found[0]


def test_code_digest_depends_on_the_meaning_of_loaded_modules_only(tmp_path, monkeypatch):
    source = Path(mlp.__file__).read_text(encoding="utf-8")
    versions = {
        "same": source,
        "looks": "# A comment.\n" + source.replace('"""', '"""Another word. ', 1).replace("layers: list", "layers  :  list"),
        "does": source.replace("nn.Flatten()", "nn.Flatten(2)"),
    }
    assert len(set(versions.values())) == 3
    digests = {}
    for name, text in versions.items():
        file = tmp_path / f"{name}.py"
        file.write_text(text, encoding="utf-8")
        monkeypatch.setitem(sys.modules, "labbook.models.mlp", SimpleNamespace(__file__=str(file)))
        digests[name] = code_digest()
    assert digests["same"] == digests["looks"] != digests["does"]
    monkeypatch.setitem(sys.modules, "labbook.models.another", SimpleNamespace(__file__=str(tmp_path / "same.py")))
    assert code_digest() != digests["does"], "another module counts once it is loaded"


@pytest.mark.parametrize("name", ["labbook.training.progress", "labbook.fingerprint"])
def test_code_digest_excludes_modules_that_cannot_change_a_result(tmp_path, monkeypatch, name):
    before = code_digest()
    (tmp_path / "other.py").write_text("x = 1", encoding="utf-8")
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(__file__=str(tmp_path / "other.py")))
    assert code_digest() == before
    monkeypatch.setitem(sys.modules, f"{name}s", SimpleNamespace(__file__=str(tmp_path / "other.py")))
    assert code_digest() != before


@pytest.fixture
def experiment(tmp_path, monkeypatch, tiny_packed):
    """Train an experiment on toy images, with changes of its settings, in an empty folder; return its outcome."""
    monkeypatch.chdir(tmp_path)

    def run(packed=tiny_packed, *, seed=0, pretrained=None, **changes):
        return experiment_module.train_experiment(
            "x", toy_settings(**({"select": "best_val_loss"} | changes)), Runtime(seed=seed, device="cpu"), packed,
            key="experiments.x.train", pretrained=pretrained, checkpoint_seconds=0,
        )  # fmt: skip

    return run


def test_finished_training_is_not_repeated_until_its_outputs_are_written(experiment, capsys):
    """A kill between the last step and the last output costs nothing; what is discarded then is gone."""
    first = experiment()
    again = experiment()
    assert f"{RESUMED}15" in capsys.readouterr().out
    assert bits(again.weights) == bits(first.weights)
    assert (again.rows, again.summary) == (first.rows, first.summary)
    discard(CHECKPOINTS / "x")
    assert not (CHECKPOINTS / "x").exists()
    discard(CHECKPOINTS / "x")
    experiment()
    assert "resuming" not in capsys.readouterr().out


def has_bf16() -> bool:
    try:
        check_bf16(torch.device("cpu"), "precision")
    except DeviceError:
        return False
    return True


def interrupted(run, monkeypatch) -> Path:
    """Interrupt an experiment as it reaches its last row, at step 15; return the checkpoint of the step before."""
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
        {"preprocess": {"mean": 0.5, "std": 0.5}, "augment": {"crop_padding": 1, "flip": 0.5, "rotation": 20}},
        {"precision": "bf16"},
        {"schedule": {"name": "OneCycleLR"}, "optimizer": {"name": "AdamW", "lr": 0.01}},
        {"backend": "numpy", "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9}},
        {"seed": 3, "watch": ["gradient_norms"]},
    ],
    ids=lambda changes: next(iter(changes), "plain"),
)
def test_experiment_resumes_from_its_own_checkpoint(experiment, monkeypatch, capsys, changes):
    if "precision" in changes and not has_bf16():
        pytest.skip("no bf16 in this processor")
    run = functools.partial(experiment, **changes)
    undisturbed = run()
    discard(CHECKPOINTS / "x")
    interrupted(run, monkeypatch)
    resumed = run()
    assert f"{RESUMED}14" in capsys.readouterr().out
    assert bits(resumed.weights) == bits(undisturbed.weights)
    assert (resumed.rows, resumed.summary) == (undisturbed.rows, undisturbed.summary)


CHANGED = {
    "settings": {"batch_size": 18},
    "seed": {"seed": 1},
    "threads": {"threads": 2},
    "initial weights": {"pretrained": PretrainedWeights(Path("x"), {}, None, "other")},
    "torch": lambda patch: patch.setattr(torch, "__version__", "2.99.0"),
    "numpy": lambda patch: patch.setattr(np, "__version__", "2.99.0"),
    "code": lambda patch: patch.setattr(experiment_module, "code_digest", lambda: "other"),
    "device": lambda patch: patch.setattr(experiment_module, "configure", on_another_device),
}


def on_another_device(*arguments):
    """Simulate a device of another type; the tensors stay on the CPU."""

    class Another:
        type = "other"

    return Another()


@pytest.mark.parametrize("change", CHANGED)
def test_checkpoint_of_a_different_training_is_not_used(experiment, monkeypatch, tiny_packed, change):
    """Fingerprints are compared; what they stand for is trained in the tests above."""
    found = []
    monkeypatch.setattr(experiment_module, "locked_checkpoint", lambda folder, digest: found.append(digest) or stop())
    monkeypatch.setattr(experiment_module, "to_device", lambda split, convert, device: split)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *arguments, **keys: self)
    changed = CHANGED[change]
    for keys in ({}, {}, changed):
        if callable(keys):
            keys(monkeypatch)
        with pytest.raises(Interrupted):
            experiment(**({} if callable(keys) else keys))
    assert found[0] == found[1] != found[2]


def stop():
    raise Interrupted


def test_checkpoint_of_other_data_is_removed(experiment, monkeypatch, capsys, tiny_packed, tmp_path):
    write_packed(tmp_path / "other", dataclasses.replace(tiny_packed, test=tiny_packed.train))
    other = read_packed(tmp_path / "other")
    undisturbed = experiment(other)
    discard(CHECKPOINTS / "x")
    file = interrupted(experiment, monkeypatch)
    capsys.readouterr()
    again = experiment(other)
    assert "resuming" not in capsys.readouterr().out
    assert not file.exists()
    assert bits(again.weights) == bits(undisturbed.weights)


def test_fingerprint_excludes_the_number_of_seeds(experiment, capsys):
    experiment(seeds=2)
    experiment(seeds=3)
    assert f"{RESUMED}15" in capsys.readouterr().out


# The stage


@pytest.fixture
def long_experiment(prepared, edit_params):
    """A training of two seeds and a few seconds, with dropout, Adam, and a selection by validation."""

    def add(values):
        train = values["experiments"]["mnist_mlp_100"]["train"] | {"epochs": 30, "seeds": 2, "threads": 1}
        train["model"] = {"name": "mlp", "hidden": [64, 32], "dropout": 0.2}
        train["optimizer"] = {"name": "Adam", "lr": 0.001}
        del train["constraint"]
        values["experiments"][NAME] = values["experiments"]["mnist_mlp_100"] | {"train": train}

    edit_params(add)
    return prepared


def kill_when(reached) -> str:
    """Train in a process, kill it without warning when `reached()`, and return what it printed."""
    process = Fork("stages/train.py", NAME, "--checkpoint-seconds", "0.03")
    deadline = time.monotonic() + 100
    while process.is_running() and not reached() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    ended = process.wait()
    assert "Traceback" not in ended.stderr
    return ended.stdout


def undisturbed_results(run_stage) -> dict[str, bytes]:
    """Train without interruption, and remove the results again."""
    assert run_stage("train", NAME).returncode == 0
    found = {file: Path(file).read_bytes() for file in RESULTS}
    shutil.rmtree("models")
    shutil.rmtree("plots")
    return found


def test_stage_killed_at_several_moments_ends_with_the_same_bytes(long_experiment, run_stage):
    """In the first seed, in the second, while a checkpoint is written, and between the outputs."""
    undisturbed = undisturbed_results(run_stage)
    first, second = (CHECKPOINTS / NAME / str(seed) for seed in SEEDS)
    written: set[int] = set()

    def checkpoints(folder, count):
        with contextlib.suppress(FileNotFoundError):
            written.update(file.stat().st_mtime_ns for file in folder.glob("*.pt"))
        return len(written) >= count

    kill_when(lambda: checkpoints(first, 1))
    written.clear()
    said = kill_when(lambda: checkpoints(second, 3) and (any(second.glob("*.part")) or checkpoints(second, 8)))
    assert RESUMED in said
    assert not Path(RESULTS[0]).exists()
    finished = next(first.glob("*.pt")).read_bytes()
    said = kill_when(lambda: any(Path("models/trained").glob("*")))
    assert said.count(RESUMED) == 2
    assert next(first.glob("*.pt")).read_bytes() == finished, "the first seed was not trained again"

    last = Fork("stages/train.py", NAME).wait()
    assert (last.returncode, last.stderr) == (0, "")
    assert last.stdout.count(RESUMED) == 2
    assert {file: Path(file).read_bytes() for file in RESULTS} == undisturbed
    assert not (CHECKPOINTS / NAME).exists()


def test_parallel_seeds_end_with_their_stage_and_resume(long_experiment, run_stage, monkeypatch):
    undisturbed = undisturbed_results(run_stage)
    monkeypatch.setenv("LABBOOK_AT_ONCE", "2")
    kill_when(lambda: all(any((CHECKPOINTS / NAME / str(seed)).glob("*.pt")) for seed in SEEDS))
    last = Fork("stages/train.py", NAME).wait()  # no process of the first goes on, or it would hold the checkpoints
    assert (last.returncode, last.stderr) == (0, "")
    assert last.stdout.count(RESUMED) == 2
    assert {file: Path(file).read_bytes() for file in RESULTS} == undisturbed


def test_second_process_on_the_same_experiment_ends_with_one_message(long_experiment):
    with locked_checkpoint(CHECKPOINTS / NAME / "0", "of this process"):
        second = Fork("stages/train.py", NAME).wait()
    assert second.returncode == 1
    where = CHECKPOINTS / NAME / "0"
    assert second.stderr == f"error: {where}: another process is training this experiment. Wait for it to end, or stop it.\n"
    assert not Path("models").exists()
