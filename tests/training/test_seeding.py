"""Torch's global generators are seeded on the processor and on the accelerator that is there, and nowhere else."""

import traceback
from types import SimpleNamespace

import pytest
import torch

from calibrae._noise import seed_torch


def test_the_processors_generator_is_that_of_torch():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = torch.rand(5)
        seed_torch(7)
        assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize("name", ["manual_seed_all", "manual_seed"])
def test_the_accelerator_that_is_there_is_seeded_and_no_other_leaves_a_traceback(monkeypatch, name):
    seeds = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    monkeypatch.setattr(torch, "get_device_module", lambda _: SimpleNamespace(**{name: seeds.append}))
    monkeypatch.setattr(traceback, "format_stack", lambda *_: pytest.fail("it takes milliseconds"))
    with torch.random.fork_rng(devices=[]):
        seed_torch(11)
        assert torch.initial_seed() == 11
    assert seeds == [11]
