"""What a launcher says of this process, in the environment."""

from __future__ import annotations

import os

PROCESSES_HERE = ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE")  # set by torchrun, and by SLURM where it was asked for
LAUNCHED = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"})  # what torchrun sets


def is_first() -> bool:
    """Tell whether this is the first of the processes that a launcher has started, or the only one: it alone prints and writes files."""
    if set(os.environ) >= LAUNCHED:
        return os.environ["RANK"] == "0"
    return os.environ.get("SLURM_STEP_NUM_TASKS", "1") == "1" or os.environ.get("SLURM_PROCID", "0") == "0"


def processes_here() -> int:
    """Number of processes that a launcher has started on this machine; 1 where none says so."""
    found = (os.environ.get(name, "") for name in PROCESSES_HERE)
    return next((int(value) for value in found if value.isdecimal() and int(value)), 1)
