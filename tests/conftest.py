"""Fixtures: a small project in a temporary folder, toy datasets, and the same process state for every test."""

import labbook  # noqa: F401  # before torch, whose threads read the environment that it sets

# isort: split

import contextlib
import io
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from toolbox import Mirror

from labbook.config.reading import read
from labbook.data.datasets import mnist, rings
from labbook.data.download import DATA_ROOT
from labbook.data.packed import PackedDataset, Split, stratified_split, write_packed
from labbook.training.experiment import write_weights

ROOT = Path(__file__).parent.parent
KEPT = {
    "datasets": ("mnist", "tiny_imagenet", "rings"),
    "derived": ("scenes",),
    "experiments": ("mnist_mlp_100", "mnist_cnn", "mnist_resnet_sgd", "rings_relu_random", "rings_relu_zero"),
    "sweeps": ("mnist_cnn_dropout",),
    "explain": ("mnist_cnn",),
}
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast ones need libyaml
FastDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

settings.register_profile("labbook", deadline=None, max_examples=50)  # a shared machine is slow now and then
settings.load_profile("labbook")


@pytest.fixture(autouse=True)
def _process_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(DATA_ROOT, raising=False)
    torch.set_num_threads(1)  # small tensors do not gain from a second one, and other tests use the other core
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cudnn.benchmark = False


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository, which tests only read."""
    return ROOT


@pytest.fixture(scope="session")
def small_params() -> str:
    """The repository's own params.yaml with few experiments, seeds and epochs, on the CPU."""
    values = read(ROOT / "params.yaml")
    values |= {"device": "cpu", "data": {"source": "embedded"}}
    for group, names in KEPT.items():
        values[group] = {name: values[group][name] for name in names}
    for defaults in values["defaults"].values():
        defaults |= {"seeds": 1, "embedded": {}}
    for block in (*values["experiments"].values(), *values["sweeps"].values()):
        block["train"] |= {"epochs": 2, "embedded": {}}
    # Tests rely on these settings, whatever those of the repository are.
    schedule = {"name": "MultiStepLR", "milestones": [1], "gamma": 0.1}
    values["experiments"]["mnist_mlp_100"]["train"] |= {"select": "best_val_accuracy", "schedule": schedule, "threads": 2}
    return yaml.safe_dump(values, sort_keys=False)


@pytest.fixture
def workdir(tmp_path: Path, small_params: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the stage scripts and a small params.yaml."""
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "params.yaml").write_text(small_params, encoding="utf-8")
    write_weights(tmp_path / "data/pretrained/none.safetensors", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def edit_params(workdir: Path) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Return a function that changes `params.yaml` of the work folder."""

    def edit(change: Callable[[dict[str, Any]], object]) -> None:
        file = workdir / "params.yaml"
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=FastLoader)
        change(values)
        file.write_text(yaml.dump(values, Dumper=FastDumper, sort_keys=False), encoding="utf-8")

    return edit


@pytest.fixture(scope="session")
def mnist_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded digits, fetched and prepared once."""
    folder = tmp_path_factory.mktemp("mnist")
    mnist.fetch("embedded", folder / "raw")
    file = folder / "mnist.safetensors"
    write_packed(file, mnist.prepare(folder / "raw", "embedded", validation_fraction=0.1, seed=0))
    return file


@pytest.fixture
def prepared(workdir: Path, mnist_file: Path) -> Path:
    """The work folder, with the embedded digits prepared."""
    (workdir / "data/processed").mkdir()
    shutil.copy(mnist_file, workdir / "data/processed/mnist.safetensors")
    return workdir


@pytest.fixture
def start_stage() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a stage script in its own process, as DVC does."""

    def start(stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, f"stages/{stage}.py", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return start


@pytest.fixture
def run_stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a stage script in this process; only errors without a message are raised."""

    def run(stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [f"stages/{stage}.py", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setattr(sys, "path", [*sys.path, str(Path("stages").resolve())])  # where stages find `_here`
        stdout, stderr, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                runpy.run_path(command[0], run_name="__main__")
            except SystemExit as end:  # with a message
                print(end.code, file=sys.stderr)
                code = 1
        return subprocess.CompletedProcess(command, code, stdout.getvalue(), stderr.getvalue())

    return run


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root."""
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.setenv(DATA_ROOT, str(folder))
    return folder


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Mirror]]:
    """Return a function that starts a mirror; its address is that of the folder that holds the file."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.ExitStack() as at_end:

        def start(*arguments: Any, **keys: Any) -> Mirror:
            mirror = Mirror(*arguments, **keys)

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    mirror.answer(self)

                def log_message(self, *arguments: object) -> None:
                    pass

            server = at_end.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            at_end.callback(thread.join)
            at_end.callback(server.shutdown)
            mirror.address = f"http://127.0.0.1:{server.server_port}/files"
            return mirror

        yield start


@pytest.fixture(scope="session")
def rings_packed(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """The disc and the ring, fetched and prepared once."""
    folder = tmp_path_factory.mktemp("rings")
    rings.fetch("embedded", folder)
    return rings.prepare(folder, "embedded", validation_fraction=0.1, seed=0)


@pytest.fixture(scope="session")
def tiny_packed() -> PackedDataset:
    """Three classes of noisy 6×6 images: two rows are brighter, others in each class."""
    generator = np.random.default_rng(0)

    def draw(count: int) -> Split:
        labels = np.arange(count, dtype=np.int64) % 3
        images = generator.integers(0, 120, (count, 1, 6, 6))
        for row in range(2):
            images[np.arange(count), 0, 2 * labels + row] += 80
        return Split(images.astype(np.uint8), labels)

    train, test = draw(90), draw(45)
    return PackedDataset(
        "toy", "embedded", ("top", "middle", "bottom"), train, stratified_split(train.labels, 0.2, 0), test, "toy"
    )
