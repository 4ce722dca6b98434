"""What a launcher says of a process."""

from __future__ import annotations

import pytest

from calibrae._launched import LAUNCHED, is_alone, is_first

TORCHRUN = dict.fromkeys(LAUNCHED, "0")


@pytest.mark.parametrize(
    ("environment", "alone", "first"),
    [
        ({}, True, True),
        ({"WORLD_SIZE": ""}, True, True),  # left over, and not of a launcher
        (TORCHRUN | {"WORLD_SIZE": "1"}, True, True),
        (TORCHRUN | {"WORLD_SIZE": "2"}, False, True),
        (TORCHRUN | {"WORLD_SIZE": "2", "RANK": "1"}, False, False),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, True, True),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, False, True),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, False, False),
    ],
)
def test_a_process_knows_whether_it_is_alone_and_the_first(monkeypatch, environment, alone, first):
    for name in (*LAUNCHED, "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (is_alone(), is_first()) == (alone, first)
