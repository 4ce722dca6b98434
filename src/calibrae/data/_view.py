"""Rows of stored arrays, without copies of what is not asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from .._types import ALONE, World
from ..errors import ArgumentError
from ._mapped import releasing, take
from ._source import Array


@final
class Joined:
    """Several arrays as one, end to end; each may be memory-mapped.

    Args:
        parts: arrays `[N_i, *data]` of one shape but for `N_i`.
    """

    def __init__(self, parts: Sequence[Array]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)])
        self.shape = (int(self.starts[-1]), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Array:
        positions = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        owners = np.searchsorted(self.starts, positions, side="right") - 1
        out = np.empty((len(positions), *self.shape[1:]), dtype=np.result_type(*self.parts))
        for owner in np.unique(owners):
            mine = owners == owner
            out[mine] = take(self.parts[owner], positions[mine] - self.starts[owner])
        return out


@final
@dataclass(frozen=True)
class View:
    """Some rows of a stored array.

    Attributes:
        array: `[N, *data]`, perhaps memory-mapped.
        index: rows to take, or `None` for all in order.
    """

    array: Array | Joined
    index: Array | None = None

    def __len__(self) -> int:
        return len(self.array) if self.index is None else len(self.index)

    def gather(self, positions: Array) -> Tensor:
        """The stored values at some positions of the view."""
        rows = positions if self.index is None else self.index[positions]
        return _to_tensor(self.array[rows] if isinstance(self.array, Joined) else take(self.array, rows))

    def slice(self, start: int, stop: int) -> Tensor:
        """The stored values from one position to another."""
        if self.index is not None:
            return self.gather(np.arange(start, stop))
        return _to_tensor(np.array(self.array[start:stop]))

    def sliced(self, rows: int, world: World = ALONE) -> Iterator[Tensor]:
        """All stored values in order, so many rows at once, of which each process gets its share; memory stays bounded."""

        def part(start: int) -> Tensor:
            mine = world.part(min(rows, len(self) - start))
            return self.slice(start + mine.start, start + mine.stop)

        return releasing(self.array, map(part, range(0, len(self), rows)))

    def spaced(self, limit: int | None) -> View:
        """So many rows, evenly spaced from the first to the last; all of them if there are no more.

        Raises:
            ArgumentError: if the limit is not positive.
        """
        if limit is not None and limit < 1:
            raise ArgumentError(f"`limit` must be positive; got {limit}. Leave it out for all examples.")
        if limit is None or limit >= len(self):
            return self
        positions = np.linspace(0, len(self) - 1, limit).round().astype(np.int64)
        return View(self.array, positions if self.index is None else self.index[positions])


def _to_tensor(values: Array) -> Tensor:
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:
        values = values.astype(np.int64)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.ascontiguousarray(values))
