"""What a launcher says of this process, in the environment."""

from __future__ import annotations

import os

LAUNCHED = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"})  # what torchrun sets


def is_first() -> bool:
    """Tell whether this is the first of the processes that a launcher has started, or the only one: it alone prints and writes files."""
    if set(os.environ) >= LAUNCHED:
        return os.environ["RANK"] == "0"
    return os.environ.get("SLURM_STEP_NUM_TASKS", "1") == "1" or os.environ.get("SLURM_PROCID", "0") == "0"


def is_alone() -> bool:
    """Tell whether no launcher has started other processes beside this one."""
    if set(os.environ) >= LAUNCHED:
        return os.environ["WORLD_SIZE"] == "1"
    return os.environ.get("SLURM_STEP_NUM_TASKS", "1") == "1"
