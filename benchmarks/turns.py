"""Run contenders in turns, each in a separate process, so that temporary slowdowns of the machine affect all of them."""

import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader

from labbook.io import write_text
from labbook.training import torch_step
from labbook.training.backend import Backend
from labbook.training.components import build_schedule
from labbook.training.distributed import SINGLE_PROCESS, Processes
from labbook.training.engine import TrainConfig, fit
from labbook.training.inference import DeviceDataset

__all__ = ["LR", "Turns", "engine_epoch", "machine", "median", "ratio", "take_turns", "usual_epoch", "write_page"]

LR = 0.01
Turns = list[dict[str, float]]  # seconds by contender, one dictionary per round


def take_turns(script: str, contenders: Sequence[str], rounds: int, *arguments: str) -> Turns:
    """Run `script --contender NAME` for each contender in every round, in rotating order, and read the printed seconds."""
    order, turns = list(contenders), []
    for _ in range(rounds):
        turns.append({contender: _in_process(script, "--contender", contender, *arguments) for contender in order})
        order.append(order.pop(0))
    return turns


def _in_process(*command: str) -> float:
    return float(subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True).stdout)


def usual_epoch(model: nn.Module, optimizer: optim.Optimizer, loader: "DataLoader[tuple[Tensor, Tensor]]") -> None:
    """Train for one epoch as in tutorials: metrics are read after every batch."""
    criterion, total, correct = nn.CrossEntropyLoss(), 0.0, 0
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        logits = model(images)
        loss = criterion(logits, labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
        correct += (logits.argmax(1) == labels).sum().item()


def engine_epoch(
    model: nn.Module,
    batch: int,
    train: DeviceDataset,
    backend: Backend = torch_step.build,
    processes: Processes = SINGLE_PROCESS,
) -> None:
    """Train for one epoch with the engine and plain SGD."""
    plan = TrainConfig(
        backend=backend,
        loss=functional.cross_entropy,
        optimizer=lambda parameters: optim.SGD(parameters, lr=LR, fused=True),
        schedule=lambda optimizer, steps, epochs: build_schedule(None, optimizer, steps, epochs, "schedule"),
        augment=None,
        should_stop=lambda losses: False,
        batch_size=batch,
        drop_last=False,
        epochs=1,
        validate_every=None,
        select="last",
        seed=0,
    )
    fit(model.to(memory_format=torch.channels_last), train, None, None, plan, processes=processes)


def median(turns: Turns, contender: str) -> float:
    """Return the median seconds of a contender."""
    return statistics.median(turn[contender] for turn in turns)


def ratio(turns: Turns, above: str, below: str) -> float:
    """Return the median over rounds of the ratio of two contenders."""
    return statistics.median(turn[above] / turn[below] for turn in turns)


def write_page(path: Path, title: str, command: str, note: str, rows: Sequence[dict[str, str]]) -> None:
    """Write a table with the command, the machine and the versions that produced it."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *(list(row.values()) for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    write_text(path, f"# {title}\n\n`{command}`: {note} {machine()}\n\n{table}\n")


def machine() -> str:
    """Describe processor, threads and versions."""
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    cpu = models[0].split(":", 1)[1].strip() if models else platform.machine()
    return f"{cpu}, threads: {torch.get_num_threads()}, torch {torch.__version__}, Python {platform.python_version()}."
