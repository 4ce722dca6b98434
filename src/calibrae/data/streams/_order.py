"""Order of a stream: shuffled within windows, in lanes that several processes can share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from ..._noise import mixed_seed
from .._source import Array

BUFFER = 8192  # examples among which the order is mixed
MOST_LANES = 64
HELD = 1 << 29  # bytes of blocks that are held while their examples are in use


@final
@dataclass(frozen=True)
class Lanes:
    """Readers side by side, each of which supplies its part of every batch.

    The order of all examples is that of the blocks, mixed anew for each epoch. It is cut into as many equal stretches as there are lanes, and each
    lane mixes its stretch within windows. Batches do not depend on the number of processes, and a process that takes its part of each
    batch reads the blocks of its own lanes alone.

    Attributes:
        count: number of lanes, which divides the batch size.
        window: examples among which a lane mixes its order; a multiple of its part of a batch.
    """

    count: int
    window: int

    @classmethod
    def suited(cls, batch_size: int, block_rows: float, block_bytes: int) -> Lanes:
        """As many lanes as can hold their blocks in memory; a smaller window where one lane alone cannot.

        Args:
            batch_size: examples a batch.
            block_rows: mean number of examples of a block.
            block_bytes: size of a block in memory.

        Examples:
            >>> Lanes.suited(96, 1000, 1 << 20), Lanes.suited(96, 1000, 1 << 26).count
            (Lanes(count=32, window=255), 1)
        """
        for count in (1 << power for power in range(MOST_LANES.bit_length() - 1, -1, -1)):
            part = batch_size // count
            if batch_size % count or not part:
                continue
            window = max(1, BUFFER // count // part) * part
            if count * (window / block_rows + 2) * block_bytes <= HELD:
                return cls(count, window)
        fits = int(max(1.0, HELD / max(1, block_bytes) - 2) * block_rows)
        return cls(1, max(1, min(fits, BUFFER) // batch_size) * batch_size)

    def batches(self, counts: Array, batch_size: int, seed: int, done: int) -> Iterator[Array]:
        """Positions of the examples of each batch of an epoch, from a batch on.

        Args:
            counts: number of examples of each block, in the order of the positions.
            batch_size: examples a batch; a smaller last batch is left out.
            seed: seed of the epoch.
            done: batches that were taken before, which cost nothing to pass over.
        """
        blocks = np.random.default_rng(mixed_seed(seed, 0)).permutation(len(counts))
        firsts = np.cumsum(counts) - counts
        ends = np.cumsum(counts[blocks])
        total = int(ends[-1])
        length, part = total // self.count, batch_size // self.count
        held: dict[int, tuple[int, Array]] = {}

        def mixed(lane: int, window: int) -> Array:
            if held.get(lane, (-1,))[0] != window:
                start = lane * length + window * self.window
                stop = min(start + self.window, (lane + 1) * length)
                rng = np.random.default_rng(mixed_seed(seed, 1, lane, window))
                held[lane] = window, start + rng.permutation(stop - start)
            return held[lane][1]

        for step in range(done, total // batch_size):
            window, offset = divmod(step * part, self.window)
            places = np.concatenate([mixed(lane, window)[offset : offset + part] for lane in range(self.count)])
            owners = np.searchsorted(ends, places, side="right")
            yield firsts[blocks[owners]] + places - (ends[owners] - counts[blocks[owners]])
