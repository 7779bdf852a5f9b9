"""Checkpoints: a training killed at any moment resumes and ends with the same bytes as an uninterrupted one."""

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
from toolbox import add_noise, bits, splits, toy_config, toy_model, toy_settings

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


class InterruptingCheckpoint(Checkpoint):
    """A checkpoint that is saved only after one step and then interrupts the training."""

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
    "momentum": ("mlp", toy_config("momentum", select="best_val_loss"), {"dropout": 0.3}),
    "adam and batch norm": ("cnn", toy_config("adam", select="best_val_accuracy"), {"dropout": 0.3, "batch_norm": True}),
    "augmentation": ("mlp", toy_config(augment=add_noise), {"dropout": 0.3}),
    "rows within an epoch": ("mlp", toy_config("adam", validate_every=2, drop_last=True, epochs=2), {"dropout": 0.3}),
    "incomplete last interval": ("mlp", toy_config("adam", validate_every=4, select="best_val_loss"), {"dropout": 0.3}),
    "epoch schedule": ("mlp", toy_config("adam", schedule={"name": "MultiStepLR", "milestones": [1, 2]}), {}),
    "step warm-up": ("mlp", toy_config("momentum", validate_every=2, schedule=WARM_UP), {"dropout": 0.3}),
    "one cycle": ("mlp", toy_config("adam", validate_every=4, schedule={"name": "OneCycleLR"}), {}),
    "watched": ("cnn", toy_config(watch=("gradient_norms", "dead_units")), {"batch_norm": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_training_killed_after_any_step_ends_with_the_same_bits(tiny_packed, tmp_path, capsys, case):
    """Validation labels are shifted, so that the best weights are early ones, which later checkpoints must contain."""
    kind, config, keys = CASES[case]
    train, validation, test = splits(tiny_packed)
    validation = dataclasses.replace(validation, labels=validation.labels.roll(1))

    def run(checkpoint: Checkpoint | None, seed: int = 0):
        model = toy_model(tiny_packed, kind, seed=seed, **keys)
        return fit(model, train, validation, test, config, checkpoint=checkpoint, checkpoint_seconds=0)

    uninterrupted = run(None)
    assert (config.select == "last") == (uninterrupted.selected_row == len(uninterrupted.rows) - 1)
    assert uninterrupted.steps > len(uninterrupted.rows), "some checkpoints are written between two rows"
    for step in range(1, uninterrupted.steps):
        file = tmp_path / f"{step}.pt"
        with pytest.raises(Interrupted):
            run(InterruptingCheckpoint(file, step))
        capsys.readouterr()
        resumed = run(Checkpoint(file), seed=9)  # the weights of the new model are not used
        assert f"{RESUMED}{step}\n" in capsys.readouterr().out
        assert bits(resumed.weights) == bits(uninterrupted.weights)
        assert (resumed.rows, resumed.watched) == (uninterrupted.rows, uninterrupted.watched)
        assert (resumed.selected_row, resumed.steps) == (uninterrupted.selected_row, uninterrupted.steps)


def test_training_resumes_in_the_middle_of_a_warm_up(tiny_packed, tmp_path):
    """The rates are those of the formula: from 0.1 × 0.05 to 0.05 in seven steps, then half a cosine over eight."""
    train, _, _ = splits(tiny_packed)
    config = toy_config("momentum", validate_every=1, schedule=WARM_UP)
    expected = [0.05 * (0.1 + 0.9 * step / 7) for step in range(7)]
    expected += [0.025 * (1 + np.cos(np.pi * step / 8)) for step in range(8)]
    checkpoint = Checkpoint(tmp_path / "x.pt")
    with pytest.raises(Interrupted):
        fit(
            toy_model(tiny_packed),
            train,
            None,
            None,
            config,
            checkpoint=checkpoint,
            checkpoint_seconds=0,
            progress=interrupt_at(3),
        )
    assert checkpoint.load()["step"] == 3
    rows = fit(toy_model(tiny_packed), train, None, None, config, checkpoint=checkpoint).rows
    assert [row.lr for row in rows] == pytest.approx(expected)


def test_training_interrupted_at_every_row_in_turn_ends_with_the_same_bits(tiny_packed, tmp_path):
    kind, config, keys = CASES["adam and batch norm"]
    train, validation, _ = splits(tiny_packed)
    uninterrupted = fit(toy_model(tiny_packed, kind, **keys), train, validation, None, config)
    checkpoint = Checkpoint(tmp_path / "x.pt")
    for _ in range(len(uninterrupted.rows) - 1):
        model = toy_model(tiny_packed, kind, **keys)
        with pytest.raises(Interrupted):
            fit(model, train, validation, None, config, checkpoint=checkpoint, checkpoint_seconds=0, progress=interrupt_at(1))
    last = fit(toy_model(tiny_packed, kind, **keys), train, validation, None, config, checkpoint=checkpoint)
    assert bits(last.weights) == bits(uninterrupted.weights)
    assert last.rows == uninterrupted.rows


def test_training_that_stopped_early_does_not_continue(tiny_packed, tmp_path):
    train, validation, _ = splits(tiny_packed)
    config = dataclasses.replace(CASES["momentum"][1], should_stop=lambda losses: len(losses) == 2)
    checkpoint = Checkpoint(tmp_path / "x.pt")
    first = fit(toy_model(tiny_packed), train, validation, None, config, checkpoint=checkpoint)
    assert (len(first.rows), first.steps) == (2, 10)
    again = fit(toy_model(tiny_packed, seed=1), train, validation, None, config, checkpoint=checkpoint)
    assert bits(again.weights) == bits(first.weights)
    assert (again.rows, again.steps) == (first.rows, first.steps)


def test_checkpoint_frequency_changes_no_result(tiny_packed, tmp_path):
    train, validation, _ = splits(tiny_packed)
    runs = []
    for checkpoint, seconds in ((None, 0), (Checkpoint(tmp_path / "often"), 0), (Checkpoint(tmp_path / "rarely"), 1000)):
        model = toy_model(tiny_packed, dropout=0.3)
        config = toy_config("adam", augment=add_noise)
        runs.append(fit(model, train, validation, None, config, checkpoint=checkpoint, checkpoint_seconds=seconds))
    assert bits(runs[0].weights) == bits(runs[1].weights) == bits(runs[2].weights)
    assert runs[0].rows == runs[1].rows == runs[2].rows


@pytest.mark.parametrize(("seconds", "steps"), [(0, [*range(1, 16)]), (4, [4, 8, 12, 15]), (1000, [15])])
def test_checkpoint_is_written_at_every_interval_and_at_the_end(tiny_packed, tmp_path, monkeypatch, seconds, steps):
    """Checkpoints do not depend on rows of the history; each step takes one simulated second."""
    saved, steps_taken = [], []

    def augment(images, generator):
        steps_taken.append(1)
        return images

    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: len(steps_taken)))
    monkeypatch.setattr(Checkpoint, "save", lambda self, state: saved.append(state["step"]))
    train, _, _ = splits(tiny_packed)
    checkpoint = Checkpoint(tmp_path / "x")
    config = toy_config(augment=augment)
    trained = fit(toy_model(tiny_packed), train, None, None, config, checkpoint=checkpoint, checkpoint_seconds=seconds)
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

        config = toy_config(epochs=3)
        return fit(
            toy_model(tiny_packed), train, None, None, config, checkpoint=checkpoint, checkpoint_seconds=0, progress=show
        )

    for epoch in (2, 3):
        with pytest.raises(Interrupted):
            run(epoch)
    assert run(None).seconds >= 0.6


# The file


def test_saved_state_is_loaded(tmp_path):
    checkpoint = Checkpoint(tmp_path / "folder" / "x.pt")
    assert checkpoint.load() is None
    checkpoint.save(STATE)
    loaded = checkpoint.load()
    assert bits(loaded.pop("weights")) == bits(STATE["weights"])
    assert loaded == {key: value for key, value in STATE.items() if key != "weights"}
    checkpoint.remove()
    assert checkpoint.load() is None
    checkpoint.remove()


def test_failed_save_keeps_the_previous_state(tmp_path):
    checkpoint = Checkpoint(tmp_path / "x.pt")
    checkpoint.save(STATE)
    with pytest.raises((AttributeError, TypeError)):
        checkpoint.save({"step": lambda: None})  # cannot be serialised
    assert checkpoint.load()["step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def damaged_contents(good: bytes):
    yield "empty", b""
    yield "shorter than the checksum", good[:20]
    yield "only the checksum", good[:32]
    yield "truncated", good[: len(good) // 2]
    yield "one byte short", good[:-1]
    yield "one additional byte", good + b"\x00"
    for position in (0, 31, 32, len(good) // 2, len(good) - 1):
        yield f"byte {position} changed", good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :]
    junk = b"not a state"
    yield "invalid content with a matching checksum", hashlib.sha256(junk).digest() + junk


def test_damaged_checkpoint_is_reported_and_training_starts_again(tiny_packed, tmp_path, capsys):
    train, _, _ = splits(tiny_packed)
    config = toy_config("momentum", epochs=2)
    uninterrupted = fit(toy_model(tiny_packed, dropout=0.3), train, None, None, config)
    checkpoint = Checkpoint(tmp_path / "x.pt")
    fit(toy_model(tiny_packed, dropout=0.3), train, None, None, config, checkpoint=checkpoint)
    good = checkpoint.path.read_bytes()
    for damage, data in damaged_contents(good):
        checkpoint.path.write_bytes(data)
        capsys.readouterr()
        again = fit(toy_model(tiny_packed, dropout=0.3), train, None, None, config, checkpoint=checkpoint)
        output = capsys.readouterr().out
        assert f"checkpoint {checkpoint.path} is damaged (" in output, damage
        assert output.endswith("training starts again from the beginning\n"), damage
        assert bits(again.weights) == bits(uninterrupted.weights), damage
        assert again.rows == uninterrupted.rows, damage


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


def test_fingerprint_depends_on_value_type_and_order_of_its_parts():
    digests = [fingerprint(*parts) for parts in ((1, "a"), (1, "b"), ("1", "a"), (1, "a", ""), ("a", 1), ())]
    assert len(set(digests)) == len(digests)
    assert fingerprint(1, "a") == digests[0]


def test_code_digest_depends_on_the_meaning_of_loaded_modules_only(tmp_path, monkeypatch):
    source = Path(mlp.__file__).read_text(encoding="utf-8")
    versions = {
        "same": source,
        "comment": "# A comment.\n" + source.replace('"""', '"""Another word. ', 1).replace("layers: list", "layers  :  list"),
        "behaviour": source.replace("nn.Flatten()", "nn.Flatten(2)"),
    }
    assert len(set(versions.values())) == 3
    digests = {}
    for name, text in versions.items():
        file = tmp_path / f"{name}.py"
        file.write_text(text, encoding="utf-8")
        monkeypatch.setitem(sys.modules, "labbook.models.mlp", SimpleNamespace(__file__=str(file)))
        digests[name] = code_digest()
    assert digests["same"] == digests["comment"] != digests["behaviour"]
    monkeypatch.setitem(sys.modules, "labbook.models.another", SimpleNamespace(__file__=str(tmp_path / "same.py")))
    assert code_digest() != digests["behaviour"], "a module counts once it is loaded"


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
    """A training killed before its outputs are written is not repeated; discarded checkpoints are not used again."""
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


def supports_bf16() -> bool:
    try:
        check_bf16(torch.device("cpu"), "precision")
    except DeviceError:
        return False
    return True


def interrupt(run, monkeypatch) -> Path:
    """Interrupt an experiment at its last row, step 15; return the checkpoint of the previous step."""
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
    if "precision" in changes and not supports_bf16():
        pytest.skip("no bf16 in this processor")
    run = functools.partial(experiment, **changes)
    uninterrupted = run()
    discard(CHECKPOINTS / "x")
    interrupt(run, monkeypatch)
    resumed = run()
    assert f"{RESUMED}14" in capsys.readouterr().out
    assert bits(resumed.weights) == bits(uninterrupted.weights)
    assert (resumed.rows, resumed.summary) == (uninterrupted.rows, uninterrupted.summary)


CHANGES = {
    "settings": {"batch_size": 18},
    "seed": {"seed": 1},
    "threads": {"threads": 2},
    "initial weights": {"pretrained": PretrainedWeights(Path("x"), {}, None, "other")},
    "torch": lambda patch: patch.setattr(torch, "__version__", "2.99.0"),
    "numpy": lambda patch: patch.setattr(np, "__version__", "2.99.0"),
    "code": lambda patch: patch.setattr(experiment_module, "code_digest", lambda: "other"),
    "device": lambda patch: patch.setattr(experiment_module, "configure", use_other_device),
}


def use_other_device(*arguments):
    """Simulate a device of another type; the tensors stay on the CPU."""

    class OtherDevice:
        type = "other"

    return OtherDevice()


@pytest.mark.parametrize("change", CHANGES)
def test_checkpoint_of_a_different_training_is_not_used(experiment, monkeypatch, tiny_packed, change):
    """Only the fingerprints are compared here; the tests above train."""
    found = []
    monkeypatch.setattr(experiment_module, "locked_checkpoint", lambda folder, digest: found.append(digest) or stop())
    monkeypatch.setattr(experiment_module, "to_device", lambda split, convert, device: split)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *arguments, **keys: self)
    changed = CHANGES[change]
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
    uninterrupted = experiment(other)
    discard(CHECKPOINTS / "x")
    file = interrupt(experiment, monkeypatch)
    capsys.readouterr()
    again = experiment(other)
    assert "resuming" not in capsys.readouterr().out
    assert not file.exists()
    assert bits(again.weights) == bits(uninterrupted.weights)


def test_fingerprint_excludes_the_number_of_seeds(experiment, capsys):
    experiment(seeds=2)
    experiment(seeds=3)
    assert f"{RESUMED}15" in capsys.readouterr().out


# The stage


@pytest.fixture
def long_experiment(prepared, edit_params):
    """A training of a few seconds from two seeds, with dropout, Adam and selection by validation."""

    def add(values):
        train = values["experiments"]["mnist_mlp_100"]["train"] | {"epochs": 30, "seeds": 2, "threads": 1}
        train["model"] = {"name": "mlp", "hidden": [64, 32], "dropout": 0.2}
        train["optimizer"] = {"name": "Adam", "lr": 0.001}
        del train["constraint"]
        values["experiments"][NAME] = values["experiments"]["mnist_mlp_100"] | {"train": train}

    edit_params(add)
    return prepared


def train_and_kill(reached) -> str:
    """Train in a separate process, kill it by SIGKILL once `reached()` is true, and return its output."""
    process = Fork("stages/train.py", NAME, "--checkpoint-seconds", "0.03")
    deadline = time.monotonic() + 100
    while process.is_running() and not reached() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    ended = process.wait()
    assert "Traceback" not in ended.stderr
    return ended.stdout


def uninterrupted_results(run_stage) -> dict[str, bytes]:
    """Train without interruption, remove the results and return their bytes."""
    assert run_stage("train", NAME).returncode == 0
    found = {file: Path(file).read_bytes() for file in RESULTS}
    shutil.rmtree("models")
    shutil.rmtree("plots")
    return found


def test_stage_killed_at_several_moments_ends_with_the_same_bytes(long_experiment, run_stage):
    """It is killed in the first seed, in the second seed while a checkpoint is written, and between two outputs."""
    uninterrupted = uninterrupted_results(run_stage)
    first, second = (CHECKPOINTS / NAME / str(seed) for seed in SEEDS)
    written: set[int] = set()

    def checkpoints(folder, count):
        with contextlib.suppress(FileNotFoundError):
            written.update(file.stat().st_mtime_ns for file in folder.glob("*.pt"))
        return len(written) >= count

    train_and_kill(lambda: checkpoints(first, 1))
    written.clear()
    output = train_and_kill(lambda: checkpoints(second, 3) and (any(second.glob("*.part")) or checkpoints(second, 8)))
    assert RESUMED in output
    assert not Path(RESULTS[0]).exists()
    finished = next(first.glob("*.pt")).read_bytes()
    output = train_and_kill(lambda: any(Path("models/trained").glob("*")))
    assert output.count(RESUMED) == 2
    assert next(first.glob("*.pt")).read_bytes() == finished, "the first seed was not trained again"

    last = Fork("stages/train.py", NAME).wait()
    assert (last.returncode, last.stderr) == (0, "")
    assert last.stdout.count(RESUMED) == 2
    assert {file: Path(file).read_bytes() for file in RESULTS} == uninterrupted
    assert not (CHECKPOINTS / NAME).exists()


def test_parallel_seeds_end_with_their_stage_and_resume(long_experiment, run_stage, monkeypatch):
    uninterrupted = uninterrupted_results(run_stage)
    monkeypatch.setenv("LABBOOK_AT_ONCE", "2")
    train_and_kill(lambda: all(any((CHECKPOINTS / NAME / str(seed)).glob("*.pt")) for seed in SEEDS))
    last = Fork("stages/train.py", NAME).wait()  # a surviving process of the first run would still lock the checkpoints
    assert (last.returncode, last.stderr) == (0, "")
    assert last.stdout.count(RESUMED) == 2
    assert {file: Path(file).read_bytes() for file in RESULTS} == uninterrupted


def test_second_process_of_an_experiment_ends_with_one_message(long_experiment):
    with locked_checkpoint(CHECKPOINTS / NAME / "0", "of this process"):
        second = Fork("stages/train.py", NAME).wait()
    assert second.returncode == 1
    folder = CHECKPOINTS / NAME / "0"
    assert second.stderr == f"error: {folder}: another process is training this experiment. Wait for it to end, or stop it.\n"
    assert not Path("models").exists()
