"""Training on a GPU; skipped where there is none."""

import numpy as np
import pytest
import torch
from toolbox import CPU, bits

from labbook.config.train import Runtime, read_training
from labbook.data.packed import PackedDataset, Split
from labbook.training.experiment import train_experiment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SIDES = {"tiny_imagenet": 64}  # pixels; 32 for other datasets


@pytest.fixture
def train(repository, monkeypatch, tmp_path):
    """Return a function that trains an experiment of the repository for a few steps on random images."""
    monkeypatch.chdir(repository)

    def run(name, device, *, steps, **changes):
        settings, _ = read_training(name, "official")
        overrides = {
            "epochs": 1,
            "validation": False,
            "select": "last",
            "early_stopping": None,
            "validate_every": None,
            "threads": 2,
        }
        settings = settings.model_copy(update=overrides | changes)
        packed = random_packed(settings.inputs.dataset, steps * settings.batch_size)
        return train_experiment(name, settings, Runtime(seed=0, device=device), packed, key=name, checkpoints=tmp_path / device)

    return run


def random_packed(dataset, count):
    generator, side = np.random.default_rng(0), SIDES.get(dataset, 32)
    classes = 20 if dataset == "scenes" else 10
    shape = (count, side, side) if dataset == "scenes" else (count,)
    labels = generator.integers(0, classes, shape).astype(np.uint8 if len(shape) > 1 else np.int64)
    split = Split(generator.integers(0, 256, (count, 3, side, side), dtype=np.uint8), labels)
    return PackedDataset(dataset, "official", tuple(map(str, range(classes))), split, np.arange(1), split)


def test_first_loss_of_the_wide_network_is_that_of_the_cpu(train):
    losses = [
        train("cifar10_wide", device, steps=1, precision="float32", test_curve=False).rows[0].train_loss
        for device in (str(CPU), "cuda")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", ["cifar10_wide", "cifar10_deep_residual", "cifar10_cnn_best", "tiny_wide", "scenes_unet"])
def test_repeated_training_gives_the_same_bits(train, name, precision):
    first, second = (train(name, "cuda", steps=3, precision=precision) for _ in range(2))
    assert bits(first.weights) == bits(second.weights)
    assert first.rows == second.rows
