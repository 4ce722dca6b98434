"""TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final


@final
class Tracker:
    """Writes a row of terms per epoch to TensorBoard; does nothing where the package is missing.

    Args:
        folder: for the event files; `None` for none.
        step: step that the run goes on from; later points of a run that was killed are left out.
    """

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, row: Mapping[str, float], step: int) -> None:
        """One point of each curve; `train_x` and `validation_x` become groups."""
        if self._writer is not None:
            for name, value in row.items():
                self._writer.add_scalar(
                    name.replace("_", "/", 1) if name.startswith(("train_", "val")) else name, value, step
                )

    def close(self) -> None:
        """Flush."""
        if self._writer is not None:
            self._writer.close()
