"""Streams of random numbers: independent, and restored on any device."""

import numpy as np
import pytest
import torch
from toolbox import CPU

from labbook.training.streams import augmentation_generator, derived_seed, load_random_state, random_state, shuffled_rows


def numbers(generator: torch.Generator) -> set[float]:
    return set(torch.rand(1000, generator=generator, dtype=torch.float64).tolist())


def test_streams_are_independent():
    seeds = {derived_seed(seed, stream) for seed in range(50) for stream in range(50)}
    assert len(seeds) == 2500
    assert all(2**32 <= derived < 2**64 for derived in seeds), "no derived seed is a plain seed, from which weights are drawn"
    # NumPy guarantees that SeedSequence is stable across machines and versions.
    assert derived_seed(0, 1) == int(np.random.SeedSequence((0, 1)).generate_state(1, np.uint64)[0])


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_augmentation_shares_no_number_with_weights_orders_or_other_seeds(seed):
    augmentation = numbers(augmentation_generator(seed, CPU))
    plain = [torch.Generator().manual_seed(other) for other in range(10)]
    orders = [torch.Generator().manual_seed(derived_seed(seed, epoch)) for epoch in range(1, 10)]
    others = [augmentation_generator(other, CPU) for other in range(10) if other != seed]
    assert len(augmentation) == 1000
    assert not any(augmentation & numbers(generator) for generator in (*plain, *orders, *others))
    assert augmentation == numbers(augmentation_generator(seed, CPU))


def test_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    torch.manual_seed(3)
    first = shuffled_rows(50, seed=2, epoch=4)
    torch.manual_seed(4)
    assert torch.equal(shuffled_rows(50, seed=2, epoch=4), first)
    assert sorted(first.tolist()) == list(range(50))
    assert not torch.equal(shuffled_rows(50, seed=2, epoch=5), first)
    assert not torch.equal(shuffled_rows(50, seed=3, epoch=4), first)


def test_random_state_is_restored():
    state = random_state(CPU)
    drawn = torch.rand(5)
    load_random_state(state, CPU)
    assert torch.equal(torch.rand(5), drawn)


def test_random_state_is_that_of_the_trainings_own_gpu(monkeypatch):
    """A checkpoint from one of eight GPUs can be resumed on a machine with a single GPU."""
    restored = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: f"state of {device}")
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append((state, str(device))))
    state = random_state(torch.device("cuda:5"))
    assert state["cuda"] == "state of cuda:5"
    load_random_state(state, torch.device("cuda:0"))
    assert restored == [("state of cuda:5", "cuda:0")]
