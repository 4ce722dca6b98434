"""How long things take on a machine that does other work too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    known = torch.get_device_module(device)
    known.synchronize() if device.type == "mps" else known.synchronize(device)


def seconds_in_turns(
    actions: Sequence[Callable[[], object]], device: torch.device, turns: int, budget: float = 0.0
) -> list[list[float]]:
    """Seconds of every run of each action, in turns, so that other work on the machine hurts them alike.

    Args:
        actions: what is timed.
        device: that they tell what to do.
        turns: how many at least.
        budget: seconds; until they are over, there are more turns.
    """
    found: list[list[float]] = [[] for _ in actions]
    started = time.perf_counter()
    while len(found[0]) < turns or time.perf_counter() - started < budget:
        for action, seconds in zip(actions, found, strict=True):
            synchronise(device)
            before = time.perf_counter()
            action()
            synchronise(device)
            seconds.append(time.perf_counter() - before)
    return found
