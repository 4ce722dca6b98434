"""How fast this machine multiplies matrices: what a share of the machine is a share of."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch

SIDES = {"cpu": 1024, "cuda": 8192}
SECONDS = 2.0
CPU = torch.device("cpu")


def peak(dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> float:
    """GFLOP/s of a large matrix product."""
    side = SIDES[device.type]
    a = torch.randn(side, side, device=device).to(dtype)
    a @ a
    wait(device)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        a @ a
        wait(device)
        count += 1
    return 2 * side**3 * count / (time.perf_counter() - started) / 1e9


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def name_of(device: torch.device) -> str:
    """Of the processor or the graphics card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
