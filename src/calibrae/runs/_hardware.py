"""The machine that a run was trained on, and the memory that it took."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from .._cores import cores

GIB = float(1 << 30)
CPUINFO, STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")


def hardware(device: torch.device, processes: int) -> dict[str, Any]:
    """Device, processor, cores, memory, threads and processes.

    Args:
        device: device of the model.
        processes: number of processes that trained it.
    """
    import psutil

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def peak_memory(device: torch.device) -> dict[str, float]:
    """Most memory that this process has held since it began, and on a CUDA device most that its tensors took, GiB."""
    found = {"peak_memory_gib": round(_resident() / GIB, 3)}
    if device.type == "cuda":
        found["peak_device_memory_gib"] = round(torch.cuda.max_memory_allocated(device) / GIB, 3)
    return found


def _processor() -> str:
    with suppress(OSError):
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _resident() -> int:
    """Most bytes held; on Linux not by `getrusage`, which begins with the peak of the process that started this one."""
    with suppress(OSError, ValueError, StopIteration):
        lines = STATUS.read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
