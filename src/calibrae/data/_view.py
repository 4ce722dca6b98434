"""Rows of stored arrays, without copies of what is not asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

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

    def gathered(
        self, batches: Iterable[Array], processes: int | None = None, *, has_card: bool | None = None
    ) -> Iterator[Tensor]:
        """The stored values at each batch of positions in turn; of shards perhaps read ahead, see `Stream.ahead`."""
        ahead = getattr(self.array, "ahead", None)  # of shards, which others read meanwhile
        if ahead is None:
            return map(self.gather, batches)
        places = (rows if self.index is None else self.index[rows] for rows in batches)
        return map(_to_tensor, ahead(places, processes, has_card=has_card))

    def slice(self, start: int, stop: int) -> Tensor:
        """The stored values from one position to another."""
        if self.index is not None:
            return self.gather(np.arange(start, stop))
        return _to_tensor(np.array(self.array[start:stop]))

    def sliced(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
        """The stored values from one position to another in order, so many rows at once; memory stays bounded."""
        end = len(self) if stop is None else stop
        places = ((first, min(first + rows, end)) for first in range(start, end, rows))
        if hasattr(self.array, "ahead"):
            return self.gathered(np.arange(*place) for place in places)
        return releasing(self.array, (self.slice(*place) for place in places))

    def batches(self, batch_size: int, seed: int, done: int) -> Iterator[Array]:
        """Positions of the examples of each whole batch of an epoch in random order, from a batch on.

        Args:
            batch_size: examples a batch.
            seed: seed of the epoch.
            done: batches that were taken before.
        """
        own = getattr(self.array, "batches", None)  # of shards, whose order spares reading
        if own is not None:
            yield from own(batch_size, seed, done)
            return
        order = np.random.default_rng(seed).permutation(len(self))
        yield from in_batches(order[done * batch_size : len(self) // batch_size * batch_size], batch_size)

    @property
    def sample(self) -> int | None:
        """Examples that stand for all of them in a pass over a training set that no machine holds; `None` for all."""
        return getattr(self.array, "sample", None)

    def positions(self, limit: int | None) -> Array:
        """Positions of so many rows, evenly spaced from the first to the last; of all if there are no more.

        Raises:
            ArgumentError: if the limit is not positive.
        """
        if limit is not None and limit < 1:
            raise ArgumentError(f"`limit` must be positive; got {limit}. Leave it out for all examples.")
        if limit is None or limit >= len(self):
            return np.arange(len(self))
        spread = getattr(self.array, "spread", None)  # of shards, in runs, so that few blocks are read
        return np.linspace(0, len(self) - 1, limit).round().astype(np.int64) if spread is None else spread(limit)

    def spaced(self, limit: int | None) -> View:
        """The rows at `positions`."""
        if limit is None or 0 < len(self) <= limit:
            return self
        positions = self.positions(limit)
        return View(self.array, positions if self.index is None else self.index[positions])


def in_batches(order: Array, batch_size: int) -> Iterator[Array]:
    """Cut an order into batches, the last of which may be smaller.

    Examples:
        >>> [batch.tolist() for batch in in_batches(np.arange(5), 2)]
        [[0, 1], [2, 3], [4]]
    """
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def _to_tensor(values: Array) -> Tensor:
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:
        values = values.astype(np.int64)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.ascontiguousarray(values))
