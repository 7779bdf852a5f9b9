"""Compare training several small models at once with training them one after another.

    python benchmarks/seeds.py [--rounds 9]       # writes benchmarks/seeds.md

Three contenders take turns; each trains the same number of models for one epoch:
alone    one after another with `labbook.training.engine.fit`, as the train stage does
batched  as one batched model: matrix products of all models in one call (`baddbmm`), convolutions with one group per model
vmap     as one model built by `torch.func`, which supports any model
CPU seconds on one thread are measured, because other work on the machine affects them less than wall-clock seconds. Images are
random.
"""

import argparse
import inspect
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from engine import CASES
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional
from turns import LR, engine_epoch, median, ratio, write_page

from labbook.data.packed import Split
from labbook.training.inference import DeviceDataset, RunningMetrics, to_device
from labbook.training.runtime import configure

SAMPLES, MODELS = 6_000, 5
CONTENDERS = ("alone", "batched", "vmap")


def train_at_once(
    forward: Callable[[Tensor], Tensor], parameters: Sequence[Tensor], images: Tensor, labels: Tensor, batch: int
) -> None:
    """Train for one epoch, with separate batches for each model: `forward` maps (K, N, C, H, W) to logits (K, N, classes)."""
    optimizer = torch.optim.SGD(parameters, lr=LR, fused=True)
    update = inspect.unwrap(type(optimizer).step)
    tally = RunningMetrics()
    orders = torch.stack([torch.randperm(SAMPLES) for _ in range(MODELS)])
    for rows in torch.split(orders, batch, dim=1):
        for parameter in parameters:
            parameter.grad = None
        logits = forward(images.index_select(0, rows.flatten()).unflatten(0, rows.shape)).flatten(0, 1)
        loss = functional.cross_entropy(logits, labels[rows].flatten())
        (MODELS * loss).backward()
        with torch.no_grad():
            update(optimizer)
        tally.add(loss, logits, labels[rows].flatten())
    tally.read()


def batched(models: Sequence[nn.Sequential]) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """Stack models with the same layers, and return their joint forward pass and parameters."""
    layers: list[tuple[nn.Module, list[Tensor]]] = []
    for twins in zip(*models, strict=True):
        stacked = [torch.stack(tensors).detach() for tensors in zip(*(twin.parameters() for twin in twins), strict=True)]
        if isinstance(twins[0], nn.Conv2d):
            stacked = [stacked[0].flatten(0, 1).to(memory_format=torch.channels_last), stacked[1].flatten()]
        layers.append((twins[0], [tensor.requires_grad_() for tensor in stacked]))

    def forward(images: Tensor) -> Tensor:
        maps = images  # (K, N, C, H, W); in a convolution (N, K × C, H, W), a group per model; after Flatten (K, N, features)
        for layer, weights in layers:
            if isinstance(layer, nn.Conv2d):
                if maps is images:
                    maps = images.movedim(1, 0).flatten(1, 2).to(memory_format=torch.channels_last)
                maps = functional.conv2d(maps, *weights, padding=layer.padding, groups=MODELS)
            elif isinstance(layer, nn.Flatten):
                maps = images.flatten(2) if maps is images else maps.unflatten(1, (MODELS, -1)).flatten(2).movedim(0, 1)
            elif isinstance(layer, nn.Linear):
                weight, bias = weights
                maps = torch.baddbmm(bias.unsqueeze(1), maps, weight.transpose(1, 2))
            else:
                maps = layer(maps)
        return maps

    return forward, [tensor for _, weights in layers for tensor in weights]


def vmapped(models: Sequence[nn.Module]) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """Stack models with `torch.func`, and return their joint forward pass and parameters."""
    weights, _ = stack_module_state(list(models))

    def forward_one(weights: dict[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(models[0], weights, images)
        return logits

    forward = torch.vmap(forward_one)
    return lambda images: forward(weights, images), list(weights.values())


def take_turn(contender: str, case: str, inputs: DeviceDataset) -> float:
    """Train new models, and return the CPU seconds."""
    build, batch = CASES[case]
    models = [build() for _ in range(MODELS)]
    started = time.process_time()
    if contender == "alone":
        for model in models:
            engine_epoch(model, batch, inputs)
    else:
        forward, parameters = {"batched": batched, "vmap": vmapped}[contender](models)
        train_at_once(forward, parameters, inputs.pixels.permute(0, 3, 1, 2), inputs.labels, batch)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    device = configure("cpu", threads=1, seed=0)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (SAMPLES, 1, 28, 28), dtype=np.uint8)
    split = Split(images, generator.integers(0, 10, SAMPLES))
    inputs = to_device(split, lambda images: images.to(torch.float32) / 255, device)
    rows = []
    for case in CASES:
        turns = [{contender: take_turn(contender, case, inputs) for contender in CONTENDERS} for _ in range(rounds + 1)]
        del turns[0]  # warm-up
        row = {"models": f"{MODELS} × {case}"} | {
            f"{contender}, s": f"{median(turns, contender):.3f}" for contender in CONTENDERS
        }
        rows.append(row | {f"alone over {other}": f"{ratio(turns, 'alone', other):.2f}×" for other in CONTENDERS[1:]})
        print(*rows[-1].values(), flush=True)
    write_page(
        Path("benchmarks/seeds.md"),
        f"Several small models in one process: one epoch of {SAMPLES:,} images of 28×28",
        f"python benchmarks/seeds.py --rounds {rounds}",
        f"CPU seconds, medians of {rounds} rounds; contenders take turns, and ratios are medians over rounds. "
        "Not measured on a GPU.",
        rows,
    )


if __name__ == "__main__":
    main()
