"""Examples in shards as an array `[N, *data]` of which only what is asked for is read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np

from .._source import Array
from ._keys import Hashes, HashSplit, hashes_of
from ._order import HELD, Lanes
from ._readers import read_ahead, readers_for

SAMPLE = 65_536  # training examples from which statistics, the final scale and the baseline are taken
RUN = 256  # consecutive examples of such a sample, so that few blocks are read for many examples
FEWEST_RUNS = 16


class Shard(Protocol):
    """A file of examples in blocks, which are read as one."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def sizes(self) -> Sequence[int]:
        """Number of examples of each block."""

    @property
    def is_decoded(self) -> bool:
        """Whether examples are decoded one by one when they are taken, which takes long."""

    def digests(self, block: int) -> Hashes:
        """Number of 64 bits that stands for the key of each example of a block."""

    def load(self, block: int) -> Any:
        """All that a block's examples are made of."""

    def weight(self, block: int) -> int:
        """Bytes that a loaded block takes in memory."""

    def take(self, content: Any, block: int, rows: Array) -> Array:
        """Some examples of a loaded block, `[len(rows), *data]`."""


@final
class Stream:
    """Examples of one split in the shards of a data set; reads like an array, and knows an order in which few blocks are read.

    Args:
        shards: all of them.
        split: how the examples are split by hash.
        which: number of the split that belongs to it; see `HashSplit.of`.
        seed: seed of the hash.
        shape: shape of one example.
        dtype: type of its numbers.
        sample: examples that a pass over all of them takes instead; `None` for all.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        split: HashSplit,
        which: int,
        seed: int,
        shape: tuple[int, ...],
        dtype: Any,
        sample: int | None = None,
    ) -> None:
        self.shards, self.split, self.which, self.seed = list(shards), split, which, seed
        self.sample, self._room, self.told = sample, HELD, set[str]()
        self._owner = np.repeat(np.arange(len(shards)), [len(shard.sizes) for shard in shards])
        starts = np.cumsum([0, *(len(shard.sizes) for shard in shards)])
        self._number = np.arange(len(self._owner)) - starts[self._owner]
        self.counts = np.array([len(self._rows(block)) for block in range(len(self._owner))], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.counts)])
        self.shape = (int(self._starts[-1]), *shape)
        self.dtype = np.dtype(dtype)
        self._loaded: OrderedDict[int, tuple[Any, Array]] = OrderedDict()

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Array:
        positions = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        out = np.empty((len(positions), *self.shape[1:]), dtype=self.dtype)
        blocks = np.searchsorted(self._starts, positions, side="right") - 1
        for block in map(int, np.unique(blocks)):
            mine = blocks == block
            content, rows_here = self._content(block)
            wanted = rows_here[positions[mine] - self._starts[block]]
            out[mine] = self.shards[self._owner[block]].take(content, int(self._number[block]), wanted)
        return out

    def ahead(
        self, batches: Iterable[Array], processes: int | None = None, *, has_card: bool | None = None
    ) -> Iterator[Array]:
        """Examples of each batch of positions, in order, read by other processes where decoding takes long.

        Args:
            batches: positions; the first batch is the largest.
            processes: processes that share each batch of `batches`, of which these are the parts of one; `None` for a pass in order.
            has_card: whether the examples go to a CUDA device; by default, whether there is one.
        """
        remaining = iter(batches)
        first = next(remaining, None)
        if first is None:
            return iter(())
        readers = readers_for(is_decoded=any(shard.is_decoded for shard in self.shards), has_card=has_card)
        if readers and self._heaviest:
            lanes = 1 if processes is None else self.lanes(len(first) * processes).count // processes
            readers = 1 << min(readers, max(1, lanes)).bit_length() - 1
        if readers:
            self.forget()
        return read_ahead(self, chain([first], remaining), len(first), readers)

    def share(self, readers: int) -> None:
        """Hold no more than the share of one reader: the blocks of its own lanes."""
        self._room = HELD // readers

    def batches(self, batch_size: int, seed: int, done: int) -> Iterator[Array]:
        """Positions of the examples of each batch of an epoch, mixed within windows, from a batch on."""
        return self.lanes(batch_size).batches(self.counts, batch_size, seed, done)

    def lanes(self, batch_size: int) -> Lanes:
        """Readers side by side that supply a batch."""
        rows = max(1.0, len(self) / max(1, len(self.counts)))
        return Lanes.suited(batch_size, rows, self._heaviest)

    @property
    def _heaviest(self) -> int:
        """Bytes of the largest of the shards' first blocks in memory; 0 where nothing is held, as each example is read by itself."""
        return max(shard.weight(0) for shard in self.shards if len(shard.sizes))

    def spread(self, limit: int) -> Array:
        """Positions of so many examples, in runs that are evenly spaced from the first to the last."""
        runs = -(-limit // RUN) if limit > RUN * FEWEST_RUNS else min(limit, FEWEST_RUNS)
        number = np.arange(runs + 1)
        before = number * limit // runs
        lengths, starts = np.diff(before), (before + number * (len(self) - limit) // runs)[:-1]
        return np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths, strict=True)])

    def forget(self) -> None:
        """Give back the memory of the blocks that are held."""
        self._loaded.clear()

    def _rows(self, block: int) -> Array:
        """Rows of a block that belong to these splits."""
        shard = self.shards[self._owner[block]]
        found = self.split.of(hashes_of(shard.digests(int(self._number[block])), self.seed))
        return np.flatnonzero(found == self.which)

    def _content(self, block: int) -> tuple[Any, Array]:
        """A block and its rows of these splits, held for as long as there is room."""
        if block in self._loaded:
            self._loaded.move_to_end(block)
            return self._loaded[block]
        shard, number = self.shards[self._owner[block]], int(self._number[block])
        room = self._room - shard.weight(number)
        while self._loaded and sum(self._weight(known) for known in self._loaded) > room:
            self._loaded.popitem(last=False)
        self._loaded[block] = shard.load(number), self._rows(block)
        return self._loaded[block]

    def _weight(self, block: int) -> int:
        weight: int = self.shards[self._owner[block]].weight(int(self._number[block]))
        return weight
