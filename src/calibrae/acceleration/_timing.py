"""Timing on a machine that does other work too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    known = torch.get_device_module(device)
    known.synchronize() if device.type == "mps" else known.synchronize(device)


def time_interleaved(
    actions: Sequence[Callable[[], object]], device: torch.device, turns: int, budget: float = 0.0
) -> list[list[float]]:
    """Time actions in turns, so that other work on the machine slows them alike.

    Args:
        actions: functions to time.
        device: device to synchronise around each call.
        turns: smallest number of turns.
        budget: seconds until which further turns are taken.

    Returns:
        Seconds of every run of each action.
    """
    seconds_of: list[list[float]] = [[] for _ in actions]
    started = time.perf_counter()
    while len(seconds_of[0]) < turns or time.perf_counter() - started < budget:
        for action, seconds in zip(actions, seconds_of, strict=True):
            synchronise(device)
            before = time.perf_counter()
            action()
            synchronise(device)
            seconds.append(time.perf_counter() - before)
    return seconds_of
