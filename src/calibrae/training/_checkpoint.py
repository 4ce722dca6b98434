"""States of training on disk: whole, and enough to go on from."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from ..errors import RunError, first_line
from ..models import VAE
from ..runs import RunFolder, replace_file

SPARE = 1 << 20  # bytes: with less the disk is full


@dataclass
class TrainState:
    """Everything that changes during training, but for the weights and the optimisers.

    Attributes:
        epoch: epochs finished.
        step: optimiser steps finished.
        steps_in_epoch: steps taken in the epoch that is under way.
        seconds: training time so far.
        best_score: best validation score so far, the objective's negative.
        best_epoch: its epoch.
        history: a row per epoch.
        sums: running sums of the epoch that is under way.
        round_start: step at which the round of the learning rate began.
        round_end: its last step; 0 in the first round.
        round_epoch: epochs that were finished when it began.
        is_settled: whether no further round is needed.
    """

    epoch: int = 0
    step: int = 0
    steps_in_epoch: int = 0
    seconds: float = 0.0
    best_score: float = float("-inf")
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    round_start: int = 0
    round_end: int = 0
    round_epoch: int = 0
    is_settled: bool = False


def save_checkpoint(path: Path, state: TrainState, parts: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""

    def write(temporary: Path) -> None:
        try:
            torch.save({"state": asdict(state), **parts}, temporary)
        except RuntimeError as error:  # torch's words for a write that failed do not say why
            if shutil.disk_usage(temporary.parent).free < SPARE or "unexpected pos" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise

    replace_file(path, write)


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


@final
class Keeper:
    """Keeps the last and the best state of a run.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    @property
    def last(self) -> Path:
        """File of the last state."""
        return self.folder.checkpoints / "last.pt"

    @property
    def best(self) -> Path:
        """File of the best epoch's weights."""
        return self.folder.checkpoints / "best.pt"

    def save_last(self, state: TrainState, parts: dict[str, Any]) -> None:
        """Write all that is needed to go on."""
        save_checkpoint(self.last, state, parts)

    def save_best(self, model: VAE, state: TrainState) -> None:
        """Write the weights of the best epoch so far."""
        save_checkpoint(self.best, state, {"model": model.state_dict()})

    def load_last(self, device: torch.device) -> tuple[TrainState, dict[str, Any]]:
        """Read the last state; see `load_checkpoint`."""
        return load_checkpoint(self.last, device)

    def load_best(self, device: torch.device) -> dict[str, Any]:
        """Read the weights of the best epoch."""
        weights: dict[str, Any] = load_checkpoint(self.best, device)[1]["model"]
        return weights
