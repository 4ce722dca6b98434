"""Results that are costly, kept on disk as they come, so that interrupted work goes on where it was."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import final

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ._cache_arrays import cache_file, read_arrays, write_arrays

WRITE_EVERY = 10.0  # seconds


@final
class RowCache:
    """Blocks of rows by number, written to the cache every ten seconds and at the end; work of less than that is not kept.

    Args:
        identity: everything that the rows depend on; its `repr` is the key.

    Examples:
        >>> with RowCache(("an example",)) as kept:
        ...     kept.put(0, torch.ones(2, 1))
        ...     kept.get(0).shape
        torch.Size([2, 1])
    """

    def __init__(self, identity: tuple[object, ...]) -> None:
        self.file = cache_file(identity, ".rows.npz")
        self._rows: dict[int, np.ndarray] = self._stored()
        self._started = self._written = time.monotonic()
        self._is_new = False

    def __enter__(self) -> RowCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_new and time.monotonic() - self._started > WRITE_EVERY:
            self._write()

    def __len__(self) -> int:
        return len(self._rows)

    def _stored(self) -> dict[int, np.ndarray]:
        return {int(name): rows for name, rows in (read_arrays(self.file) or {}).items()}

    def get(self, block: int) -> Tensor | None:
        """The rows of a block, or `None`."""
        found = self._rows.get(block)
        return None if found is None else torch.from_numpy(found)

    def put(self, block: int, rows: Tensor) -> None:
        """Keep the rows of a block."""
        if block in self._rows:
            return
        self._rows[block] = rows.numpy()
        self._is_new = True
        if time.monotonic() - self._written > WRITE_EVERY:
            self._write()

    def _write(self) -> None:
        with suppress(DataError):  # a full or read-only cache costs time, not the result
            write_arrays(self.file, {str(block): rows for block, rows in self._rows.items()})
        self._written, self._is_new = time.monotonic(), False
