"""Process setup: device, threads, determinism, and how a stage ends."""

import json
import os
import subprocess
import sys

import pytest
import torch

from labbook.config.train import read_runtime
from labbook.errors import DeviceError, ParamsError
from labbook.stage import run
from labbook.training import runtime
from labbook.training.runtime import check_bf16, choose_device, configure, in_bf16

UNAVAILABLE = f"cuda:{max(7, torch.cuda.device_count())}"


def test_cpu_is_always_available():
    assert choose_device("cpu") == torch.device("cpu")


def test_auto_selects_an_available_accelerator():
    if torch.cuda.is_available():
        expected = torch.device("cuda:0")
    else:
        expected = torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    assert choose_device("auto") == expected


@pytest.mark.parametrize("device", [UNAVAILABLE, *([] if torch.backends.mps.is_available() else ["mps"])])
def test_unavailable_device_is_rejected_with_the_available_ones(device):
    with pytest.raises(DeviceError) as caught:
        choose_device(device)
    problem, _, rest = str(caught.value).partition("This machine has: ")
    assert problem == f"device: {device} not found. "
    names, _, advice = rest.partition(". ")
    assert names.split(", ")[-1] == "cpu"
    assert len(names.split(", ")) == 1 + torch.cuda.device_count() + torch.backends.mps.is_available()
    assert advice == "Set `device: auto` in params.yaml."


def test_training_does_not_import_the_compiler(prepared):
    """The import takes a second, and nothing is compiled."""
    script = (
        "import runpy, sys; sys.argv = ['train', 'mnist_mlp_100']; sys.path.append('stages'); "
        "runpy.run_path('stages/train.py', run_name='__main__'); "
    )
    script += "sys.exit('torch._dynamo' in sys.modules)"
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr


def test_cuda_selects_the_first_gpu():
    if torch.cuda.is_available():
        assert choose_device("cuda") == torch.device("cuda:0")
    else:
        with pytest.raises(DeviceError, match="cuda not found"):
            choose_device("cuda")


def test_train_stage_on_an_unavailable_device_ends_with_one_message(prepared, edit_params, run_stage):
    edit_params(lambda values: values.update(device=UNAVAILABLE))
    completed = run_stage("train", "mnist_mlp_100")
    assert completed.returncode == 1
    assert completed.stderr.startswith(f"error: device: {UNAVAILABLE} not found. This machine has: ")
    assert completed.stderr.count("\n") == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_configuring_sets_the_threads(threads):
    assert configure("cpu", threads, seed=0) == torch.device("cpu")
    assert torch.get_num_threads() == threads


def test_configuring_makes_computations_deterministic():
    draws = []
    for seed in (5, 5, 6):
        configure("cpu", 2, seed)
        draws.append(torch.rand(3).tolist())
    assert draws[0] == draws[1] != draws[2]
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("key", "value"), [("device", "gpu"), ("device", "cuda:x"), ("seed", -1), ("seed", None), ("seed", 1.0)]
)
def test_invalid_value_is_rejected_by_key(key, value):
    values = {"seed": 0, "device": "cpu"}
    assert read_runtime(values).model_dump() == values
    with pytest.raises(ParamsError, match=f"^{key}: "):
        read_runtime(values | {key: value})


def test_importing_the_package_sets_missing_environment_variables():
    """Torch's libraries read both variables when they are loaded."""
    names = ("CUBLAS_WORKSPACE_CONFIG", "GOMP_SPINCOUNT")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    script = f"import labbook, os, json; print(json.dumps([os.environ[name] for name in {names}]))"

    def import_package(**environment):
        completed = subprocess.run(
            [sys.executable, "-c", script], env=clean | environment, capture_output=True, text=True, check=True
        )
        return json.loads(completed.stdout)

    workspace, _ = import_package()
    assert workspace in (":4096:8", ":16:8")  # the two values with which cuBLAS is deterministic
    assert import_package(GOMP_SPINCOUNT="7") == [workspace, "7"]


@pytest.mark.parametrize(
    ("error", "code"), [(DeviceError("no such device"), "error: no such device"), (KeyboardInterrupt(), 130)]
)
def test_stage_ends_without_a_traceback_for_user_errors(error, code):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == code


def test_stage_shows_the_traceback_of_a_bug():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)


def test_bf16_is_rejected_on_a_processor_without_it(monkeypatch):
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: {"avx512_f": True, "avx512_bf16": False})
    key = "experiments.x.train.precision"
    with pytest.raises(DeviceError, match=rf"^{key}: cpu does not support bf16 in hardware, .* Set it to float32"):
        check_bf16(torch.device("cpu"), key)
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: {"avx512_bf16": True})
    check_bf16(torch.device("cpu"), key)


def test_bf16_computes_in_bfloat16_and_returns_float32():
    layer = torch.nn.Linear(64, 8)
    images = torch.rand(4, 64)
    half, full = in_bf16(layer, torch.device("cpu"))(images), layer(images)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=0.02, atol=0.02)
    assert layer(images).dtype == torch.float32, "autocast is off again"
