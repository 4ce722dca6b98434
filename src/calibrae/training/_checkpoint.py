"""States of training on disk: whole, and enough to go on from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import RunError, first_line
from ..runs import replace_file


@dataclass
class TrainState:
    """Everything that changes while a model trains, but for the weights and the optimisers.

    Attributes:
        epoch: epochs finished.
        step: optimiser steps finished.
        steps_in_epoch: of the epoch that is under way.
        seconds: of training so far.
        best_elbo: best validation score so far.
        best_epoch: its epoch.
        history: a row per epoch.
        sums: running sums of the epoch that is under way.
    """

    epoch: int = 0
    step: int = 0
    steps_in_epoch: int = 0
    seconds: float = 0.0
    best_elbo: float = float("-inf")
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)


def save_checkpoint(path: Path, state: TrainState, parts: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    replace_file(path, lambda temporary: torch.save({"state": asdict(state), **parts}, temporary))


def load_checkpoint(path: Path, device: torch.device) -> tuple[TrainState, dict[str, Any]]:
    """Read a checkpoint; only tensors and plain types, no code.

    Raises:
        RunError: if it is missing or broken.
    """
    if not path.is_file():
        raise RunError(f"{path.parent.parent} has no checkpoint to go on from. Train it anew with --overwrite.")
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file fails in many ways, all of which mean the same to the user
        raise RunError(f"{path} cannot be read: {first_line(error, 200)}. Train anew with --overwrite.") from error
    return TrainState(**stored.pop("state")), stored
