"""Cores that this process may use."""

from __future__ import annotations

import os
import re


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_each() -> int:
    """Number of cores for this process, beside the others that torchrun or SLURM has started on this machine.

    torchrun leaves all cores to all of its processes. SLURM says how many a task has, or binds it to them, or tells the number of tasks.
    """
    asked = _number("SLURM_CPUS_PER_TASK")
    here = min(cores(), asked) if asked else cores()
    if _number("LOCAL_WORLD_SIZE"):
        return max(1, here // _number("LOCAL_WORLD_SIZE"))
    if asked or here < (os.cpu_count() or 1):
        return here
    return max(1, here // max(1, _number("SLURM_STEP_TASKS_PER_NODE") or _number("SLURM_NTASKS_PER_NODE")))


def _number(name: str) -> int:
    """Number that a variable of the environment begins with, as in `8(x2)`; 0 without one."""
    found = re.match(r"\d+", os.environ.get(name, ""))
    return int(found[0]) if found else 0
