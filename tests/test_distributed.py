"""Data-parallel training in real processes, with Gloo on the CPU, compared with training in one process."""

import contextlib
import dataclasses
import json
import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from forks import Fork, forks
from pydantic import ValidationError
from toolbox import add_noise, bits, splits, toy_config, toy_model, toy_settings
from torch import distributed, nn
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from labbook.config.train import Runtime
from labbook.errors import DeviceError, TrainingError
from labbook.models import resnet18, unet
from labbook.training import distributed as distributed_module
from labbook.training.checkpoint import CHECKPOINTS, Checkpoint
from labbook.training.distributed import ERROR_FILE, SINGLE_PROCESS, Processes, join_processes
from labbook.training.engine import fit
from labbook.training.experiment import train_experiment, train_seeds
from labbook.training.launch import _describe_cause
from labbook.training.streams import derived_seed

WATCH = ("gradient_norms", "dead_units")
# 72 training samples: shards of a batch of 18 differ by one sample, and the last of four shards of 3 samples is empty.
CASES = {
    "one step": ("mlp", toy_config(epochs=1, batch_size=72)),
    "shards of two sizes": ("mlp", toy_config("momentum", batch_size=18, select="best_val_loss", watch=WATCH)),
    "an empty shard": ("cnn", toy_config("adam", batch_size=23, validate_every=4)),
    "augmentation": ("mlp", toy_config("adam", batch_size=20, drop_last=True, augment=add_noise)),
    "sorted, stopped early": ("cnn", toy_config(batch_size=18, order="by_class", should_stop=lambda losses: len(losses) == 2)),
    "pixel labels": ("convolutions", toy_config("momentum", batch_size=23)),
}
# Cases that differ from training in one process.
RANDOM = {
    "dropout": ("random cnn", toy_config("adam", batch_size=23, augment=add_noise, select="best_val_accuracy")),
    "bf16": ("unet", toy_config("adam", batch_size=23, precision="bf16")),
}


class Interrupted(Exception):
    """Simulates a kill of all processes."""


def build(packed, kind):
    """Return a model and its splits, with one label per image or one label per pixel."""
    if kind in ("mlp", "cnn"):
        return toy_model(packed, kind), splits(packed)
    if kind == "random cnn":
        return toy_model(packed, "cnn", dropout=0.3, batch_norm=True), splits(packed)
    torch.manual_seed(0)
    if kind == "unet":
        model = unet.build(unet.Settings(name="unet", channels=[4]), packed.image_shape, 3)
        model.down.requires_grad_(False)
    else:
        model = nn.Sequential(nn.Conv2d(1, 4, kernel_size=3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, kernel_size=1))
    bright = [dataclasses.replace(split, labels=(split.pixels[..., 0] > 0.5).byte()) for split in splits(packed)]
    return model.to(memory_format=torch.channels_last), bright


def train(packed, kind, config, processes):
    """Train in float64, in which the order of sums hardly matters, and return all results."""
    torch.set_num_threads(1)
    model, inputs = build(packed, kind)
    model, inputs = model.double(), [dataclasses.replace(split, pixels=split.pixels.double()) for split in inputs]
    trained = fit(model, *inputs, config, processes=processes)
    return {
        "weights": trained.weights,
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
        "rows": [dataclasses.asdict(row) for row in trained.rows],
        "watched": trained.watched,
        "selected_row": trained.selected_row,
    }


def train_random(packed, kind, config, processes, folder):
    """Train without interruption, and with an interruption at the second row; return both results.

    A checkpoint is written every third step, and the second row is due at the eighth step: training resumes between two rows,
    where running statistics and metrics differ between the processes.
    """
    file = Checkpoint(folder / f"{kind}-{processes.world_size}.pt")
    distributed_module.STEPS_BETWEEN_DECISIONS = 3

    def run(**keys):
        model, inputs = build(packed, kind)
        trained = fit(model, *inputs, config, processes=processes, **keys)
        return {"weights": trained.weights, "rows": [dataclasses.asdict(row) for row in trained.rows]}

    def interrupt(done, row):
        if row.epoch == 2:
            raise Interrupted

    uninterrupted, checkpoint = run(), None if processes.rank else file
    with contextlib.suppress(Interrupted):
        run(checkpoint=checkpoint, checkpoint_seconds=0, progress=interrupt)
    assert processes.rank or file.load()["step"] == 6
    return uninterrupted, run(checkpoint=checkpoint)


def train_settings(packed, processes, folder, seed=0, lr=0.1):
    """Train an experiment from one seed, as its stage does."""
    settings = toy_settings(world_size=processes.world_size, optimizer={"name": "SGD", "lr": lr})
    keys = {"key": "x", "checkpoints": folder / f"x{seed}", "processes": processes}
    return train_experiment("x", settings, Runtime(seed=seed, device="cpu"), packed, **keys)


def train_two_seeds(packed, processes, folder):
    """Train an experiment from two seeds in the same processes, after a kill between them."""
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    for seeds in (1, 2):
        settings = toy_settings(world_size=processes.world_size, seeds=seeds)
        seed_results = train_seeds("y", settings, Runtime(seed=0, device="cpu"), packed, key="y", processes=processes)
    return seed_results


def average_statistics(processes):
    """Average running statistics that are 0, 2, 4, … in the processes; one of the two layers is frozen."""
    model = nn.Sequential(nn.BatchNorm1d(1), nn.BatchNorm1d(1))
    model[1].eval()
    for layer in model:
        layer.running_mean.fill_(2 * processes.rank)
        layer.num_batches_tracked.fill_(7)
    processes.average_statistics(model)
    return [(layer.running_mean.item(), layer.num_batches_tracked.item()) for layer in model]


def run_process(packed, folder):
    """Run one of several processes that train together; save all results to a file."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    os.environ[ERROR_FILE] = f"{folder}/{count}-{rank}.json"
    with join_processes() as processes:
        results = {case: train(packed, *CASES[case], processes) for case in CASES}
        for case in RANDOM:
            results[case], results[f"{case}, resumed"] = train_random(packed, *RANDOM[case], processes, folder)
        results["statistics"] = average_statistics(processes)
        results["experiment"] = [train_settings(packed, processes, folder, seed) for seed in (0, 1)]
        results["seeds"] = train_two_seeds(packed, processes, folder / f"{count}")
        with contextlib.suppress(TrainingError):
            results["disagreement"] = processes.check_fingerprint("other" if rank else "same")
        with contextlib.suppress(TrainingError):
            results["other settings"] = train_settings(packed, processes, folder, lr=0.1 if rank else 0.2)
        torch.save(results, folder / f"{count}-{rank}.pt")
        if rank == 1:
            raise TrainingError("reported once")


@contextlib.contextmanager
def run_ranks(count, target, *arguments):
    """Start `count` forked processes with the environment that torchrun sets; yield them by rank."""
    store = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    running = []
    for rank in range(count):
        environment = {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{count}"}
        environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": f"{store.port}", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        one = forks().Process(target=run_rank, args=(environment, target, *arguments))
        one.start()
        running.append(one)
    yield running
    for one in running:
        one.join(100)


def run_rank(environment, target, *arguments):
    os.environ |= environment
    target(*arguments)


@pytest.fixture(scope="module")
def results(tiny_packed, tmp_path_factory):
    """The results of each process of two and of four, by number of processes, and their folder."""
    folder = tmp_path_factory.mktemp("results")
    with run_ranks(2, run_process, tiny_packed, folder) as two, run_ranks(4, run_process, tiny_packed, folder) as four:
        pass
    assert [one.exitcode for one in two + four] == [0, 1, 0, 1, 0, 0]
    return {
        count: [torch.load(folder / f"{count}-{rank}.pt", weights_only=False) for rank in range(count)] for count in (2, 4)
    }, folder


@pytest.fixture(scope="module")
def single_process(tiny_packed):
    """The results of training in one process, by case."""
    return {case: train(tiny_packed, *CASES[case], SINGLE_PROCESS) for case in CASES}


def is_close(found, expected):
    """Return whether two nested structures of numbers are equal except for rounding."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(is_close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(is_close, found, expected))
    if isinstance(expected, torch.Tensor):
        return torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    return found == (expected if expected is None else pytest.approx(expected, rel=1e-5, abs=1e-9))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [2, 4])
def test_gradients_weights_and_history_are_those_of_one_process(results, single_process, count, case):
    expected = single_process[case]
    assert all(gradient.abs().sum() > 0 for gradient in expected["gradients"].values())
    for one in results[0][count]:
        for name, value in expected.items():
            assert is_close(one[case][name], value), name


@pytest.mark.parametrize("count", [2, 4])
def test_all_processes_end_with_the_same_bits(results, count):
    """This includes dropout, batch norm and running statistics."""
    first, *others = results[0][count]
    assert all(tensor.isfinite().all() for case in RANDOM for tensor in first[case]["weights"].values())
    for other in others:
        for case in (*CASES, *RANDOM):
            assert bits(other[case]["weights"]) == bits(first[case]["weights"])
            assert other[case]["rows"] == first[case]["rows"]


@pytest.mark.parametrize("case", RANDOM)
@pytest.mark.parametrize("count", [2, 4])
def test_interrupted_processes_end_with_the_same_bits(results, count, case):
    """This includes dropout, which each process draws separately."""
    for one in results[0][count]:
        assert bits(one[f"{case}, resumed"]["weights"]) == bits(one[case]["weights"])
        assert one[f"{case}, resumed"]["rows"] == one[case]["rows"]


@pytest.mark.parametrize("count", [2, 4])
def test_running_statistics_are_averaged_over_processes_except_for_frozen_layers(results, count):
    for rank, one in enumerate(results[0][count]):
        assert one["statistics"] == [(count - 1, 7), (2 * rank, 7)]


@pytest.mark.parametrize("count", [2, 4])
def test_experiment_gives_the_metrics_of_one_process(results, tiny_packed, tmp_path, count):
    expected = train_settings(tiny_packed, SINGLE_PROCESS, tmp_path)
    for one in results[0][count]:
        found = one["experiment"][0]
        assert found.summary.keys() == expected.summary.keys()
        for key, value in expected.summary.items():
            close_enough = pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
            assert found.summary[key] == close_enough, key
        for name, tensor in expected.weights.items():
            assert torch.allclose(found.weights[name], tensor, atol=1e-5)


@pytest.mark.parametrize("count", [2, 4])
def test_seeds_are_trained_one_after_the_other_by_the_same_processes(results, count):
    """The first seed was trained before the kill; each seed has the bits of a separate training."""
    first, *others = results[0][count]
    assert [result.summary["seed"] for result in first["seeds"]] == [0, 1]
    for result, single in zip(first["seeds"], first["experiment"], strict=True):
        assert bits(result.weights) == bits(single.weights)
        assert (result.rows, result.summary) == (single.rows, single.summary)
    assert bits(first["seeds"][0].weights) != bits(first["seeds"][1].weights)
    for other in others:
        assert [result.summary for result in other["seeds"]] == [result.summary for result in first["seeds"]]


@pytest.mark.parametrize("what", ["disagreement", "other settings"])
def test_processes_with_different_settings_data_or_code_are_rejected(results, what):
    assert not any(what in one for count in (2, 4) for one in results[0][count])


def test_error_of_one_process_is_written_for_its_launcher(results):
    reported = {file.name: json.loads(file.read_text())["message"] for file in results[1].glob("*.json")}
    assert reported == {"2-1.json": "reported once", "4-1.json": "reported once"}


def make_failure(folder, exitcode, message=None):
    file = folder / f"{exitcode}-{message is None}.json"
    if message:
        file.write_text(json.dumps({"message": message, "timestamp": 0}))
    return ProcessFailure(0, 123, exitcode, str(file))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((1, "Traceback: the other is gone"), (-signal.SIGKILL, None), "process 1 of 2 ended by SIGKILL, and the others were"),
        ((-signal.SIGTERM, None), (1, "x.pt: the disk is full."), "x.pt: the disk is full."),
        (
            (1, "Traceback: a mistake"),
            (-signal.SIGTERM, None),
            "process 0 of 2 failed, and the others were stopped.\nTraceback: a",
        ),
        ((3, None), (-signal.SIGTERM, None), "process 0 of 2 ended by exit code 3, and the others were stopped. Run the same"),
        ((-signal.SIGKILL, None), (1, "a process has not responded for long"), "a process has not responded for long"),
    ],
    ids=["killed", "user error", "bug", "exit", "timeout, then killed"],
)
def test_cause_is_reported_and_not_its_consequences(tmp_path, first, second, expected):
    failures = {rank: make_failure(tmp_path, *failure) for rank, failure in enumerate((first, second))}
    assert _describe_cause(failures, 2).startswith(expected)


@pytest.mark.parametrize(
    "message",
    ["[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 2000ms for recv", "wait timeout after 2000ms, keys: /x"],
)
def test_timeout_is_reported(message):
    assert distributed_module._error_message(RuntimeError(message)).startswith(
        "a process has not responded for 0:10:00: it hangs"
    )


@pytest.fixture
def rank_1_of_3(monkeypatch):
    for name, value in {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    return Processes(rank=1, world_size=3)


@pytest.mark.parametrize("requested", ["auto", "cuda"])
def test_fewer_gpus_than_processes_are_rejected(monkeypatch, rank_1_of_3, requested):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = rf"^device: {requested} needs one GPU per process, .* has 2 for 3 processes\. Set the .* world_size to at most 2"
    with pytest.raises(DeviceError, match=message):
        rank_1_of_3.device(requested)


def test_each_process_has_a_separate_gpu(monkeypatch, rank_1_of_3):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert rank_1_of_3.device("cuda") == "cuda:1"
    assert chosen == [1]
    assert rank_1_of_3.device("cpu") == "cpu"
    with pytest.raises(DeviceError, match=r"^device: cuda:2 names one device for several processes"):
        rank_1_of_3.device("cuda:2")
    assert SINGLE_PROCESS.device("cuda:2") == "cuda:2"


def test_split_of_fewer_samples_than_processes_is_rejected(tiny_packed):
    with pytest.raises(TrainingError, match=r"^world_size: 50 processes cannot share a split of 45 samples"):
        Processes(rank=0, world_size=50).shard_dataset(splits(tiny_packed)[2])


def test_each_process_draws_dropout_independently():
    def draw(rank, seed):
        Processes(rank, 2).seed(seed)
        return torch.rand(4).tolist()

    def draw_from_stream(stream):
        torch.manual_seed(derived_seed(0, stream))
        return torch.rand(4).tolist()

    draws = [draw(rank, seed) for rank in (0, 1) for seed in (0, 5)]
    assert all(draws.count(numbers) == 1 for numbers in draws)
    assert draw(1, 5) == draws[3]
    assert not any(draw_from_stream(stream) in draws for stream in range(3)), (
        "the numbers differ from those of orders and augmentation"
    )


def test_synchronised_batch_norm_keeps_frozen_layers_frozen():
    settings = resnet18.Settings(name="resnet18", trainable=["layer4"])
    model = resnet18.build(settings, (3, 32, 32), 10)
    names = list(model.state_dict())
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert list(model.state_dict()) == names
    model.train()
    training = {name for name, module in model.named_modules() if isinstance(module, nn.SyncBatchNorm) and module.training}
    assert training
    assert all(name.startswith("layer4") for name in training)


def test_wrong_number_of_processes_is_rejected(tiny_packed, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    message = r"^x\.world_size: needs 4 processes, found 1\. `python stages/train.py` starts them on one machine; torchrun "
    with join_processes() as processes, pytest.raises(TrainingError, match=message):
        train_experiment(
            "x", toy_settings(world_size=4), Runtime(seed=0, device="cpu"), tiny_packed,
            key="x", checkpoints=tmp_path, processes=processes,
        )  # fmt: skip


def test_settings_incompatible_with_several_processes_are_rejected():
    with pytest.raises(ValidationError, match="backend: numpy supports only world_size: 1"):
        toy_settings(backend="numpy", world_size=2)
    with pytest.raises(ValidationError, match="world_size: 17 processes cannot share a batch of 16 samples"):
        toy_settings(world_size=17)


SHORT_TIMEOUT = """
from datetime import timedelta
from pathlib import Path
from labbook.training import distributed

distributed.TIMEOUT = timedelta(seconds=5)
exec(Path("stages/train.py").read_text())
"""
NAME = "two_processes"
RESULTS = (
    *(f"models/trained/{NAME}/{file}" for file in ("seed-0.safetensors", "seed-1.safetensors", "summary.json")),
    f"plots/history/{NAME}.tsv",
)
RESUMED = "resuming from the checkpoint at step "


@pytest.fixture
def start_stage(prepared, edit_params):
    """Return a function that starts a stage in two processes, with dropout and an uneven last batch; kill it after the test."""
    running = []

    def add(values):
        train = values["experiments"]["mnist_mlp_100"]["train"] | {
            "epochs": 20,
            "batch_size": 64,
            "world_size": 2,
            "seeds": 2,
        }
        train["model"] = {"name": "mlp", "hidden": [64, 32], "dropout": 0.2}
        del train["constraint"]
        values["experiments"][NAME] = values["experiments"]["mnist_mlp_100"] | {"train": train}

    def start(script="stages/train.py"):
        running.append(Fork(script, NAME, "--checkpoint-seconds", "0"))
        return running[-1]

    edit_params(add)
    yield start
    for launcher in running:
        launcher.kill()  # its processes end with it


def train_stage(folder):
    """Run one of the processes that the stage starts."""
    os.chdir(folder)
    sys.argv = ["stages/train.py", NAME]
    sys.path.insert(0, str(Path("stages").resolve()))
    runpy.run_path(sys.argv[0], run_name="__main__")


def list_workers() -> dict[str, int]:
    """Return the process ids of the workers in the current folder by rank, without launchers."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cwd").readlink() == Path.cwd():
                environment = (folder / "environ").read_bytes().split(b"\0")
                found |= {entry[5:].decode(): int(folder.name) for entry in environment if entry.startswith(b"RANK=")}
    return found


def wait_for_a_checkpoint(launcher) -> None:
    """Wait until the training has written a checkpoint."""
    start_time, deadline = time.time_ns(), time.monotonic() + 100
    while launcher.is_running() and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if any(file.stat().st_mtime_ns > start_time for file in (CHECKPOINTS / NAME).glob("*/*.pt")):
                return
        time.sleep(0.001)


def wait_until_others_end(rank) -> None:
    deadline = time.monotonic() + 60
    while list_workers().keys() != {rank}:
        assert time.monotonic() < deadline, "the other processes are still running"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes under /proc")
def test_training_with_interruptions_ends_with_the_same_bytes(start_stage):
    with run_ranks(2, train_stage, Path.cwd()):
        pass
    uninterrupted = {file: Path(file).read_bytes() for file in RESULTS}
    shutil.rmtree("models")
    shutil.rmtree("plots")

    launcher = start_stage()
    wait_for_a_checkpoint(launcher)
    assert sorted(list_workers()) == ["0", "1"]
    launcher.send_signal(signal.SIGTERM)
    ended = launcher.wait()
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, "")
    assert not list_workers()

    Path("stages/impatient.py").write_text(SHORT_TIMEOUT)
    launcher = start_stage("stages/impatient.py")
    wait_for_a_checkpoint(launcher)
    stopped = list_workers()["1"]
    os.kill(stopped, signal.SIGSTOP)
    wait_until_others_end("1")
    os.kill(stopped, signal.SIGCONT)  # otherwise torchrun, which sent SIGTERM, waits for 30 seconds and kills it
    ended = launcher.wait()
    assert ended.returncode == 1
    assert ended.stdout.startswith(RESUMED)
    assert ended.stderr == (
        "error: a process has not responded for 0:00:05: it hangs, or its machine is unreachable. "
        "Run the same command again to resume from the last checkpoint.\n"
    )
    assert not list_workers()

    launcher = start_stage()
    wait_for_a_checkpoint(launcher)
    os.kill(list_workers()["1"], signal.SIGKILL)
    ended = launcher.wait()
    assert ended.returncode == 1
    assert ended.stdout.startswith(RESUMED)
    assert ended.stderr == (
        "error: process 1 of 2 ended by SIGKILL, and the others were stopped. "
        "Run the same command again to resume from the last checkpoint.\n"
    )
    assert not list_workers()
    assert not any(Path(file).exists() for file in RESULTS)

    launcher = start_stage()
    ended = launcher.wait()
    assert ended.returncode == 0
    assert RESUMED in ended.stdout
    assert {file: Path(file).read_bytes() for file in RESULTS} == uninterrupted
    assert not (CHECKPOINTS / NAME).exists()
