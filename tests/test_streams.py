"""Streams of random numbers: independent of each other, and restored on whatever devices there are."""

import numpy as np
import pytest
import torch
from toolbox import CPU

from labbook.training.streams import augmentation_generator, derived_seed, load_random_state, random_state, shuffled_rows


def numbers(generator: torch.Generator) -> set[float]:
    return set(torch.rand(1000, generator=generator, dtype=torch.float64).tolist())


def test_streams_are_independent():
    found = {derived_seed(seed, stream) for seed in range(50) for stream in range(50)}
    assert len(found) == 2500
    assert all(2**32 <= one < 2**64 for one in found), "none is a plain seed, which weights are drawn from"
    # The same on every machine and in every version: NumPy promises its SeedSequence to be stable.
    assert derived_seed(0, 1) == int(np.random.SeedSequence((0, 1)).generate_state(1, np.uint64)[0])


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_augmentation_shares_no_number_with_weights_orders_or_other_seeds(seed):
    own = numbers(augmentation_generator(seed, CPU))
    plain = [torch.Generator().manual_seed(other) for other in range(10)]
    orders = [torch.Generator().manual_seed(derived_seed(seed, epoch)) for epoch in range(1, 10)]
    others = [augmentation_generator(other, CPU) for other in range(10) if other != seed]
    assert len(own) == 1000
    assert not any(own & numbers(generator) for generator in (*plain, *orders, *others))
    assert own == numbers(augmentation_generator(seed, CPU))


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
    """A checkpoint of a machine with eight GPUs resumes on one with a single GPU, and on another GPU than before."""
    restored = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: f"state of {device}")
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append((state, str(device))))
    state = random_state(torch.device("cuda:5"))
    assert state["cuda"] == "state of cuda:5"
    load_random_state(state, torch.device("cuda:0"))
    assert restored == [("state of cuda:5", "cuda:0")]
