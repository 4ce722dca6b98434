"""How fast this machine multiplies matrices: what a share of the machine is a share of."""

from __future__ import annotations

import time

import torch

SIDE, SECONDS = 1024, 2.0


def peak(dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of a large matrix product."""
    a = torch.randn(SIDE, SIDE).to(dtype)
    a @ a
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        a @ a
        count += 1
    return 2 * SIDE**3 * count / (time.perf_counter() - started) / 1e9
