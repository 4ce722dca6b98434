"""Splits by hash: a key decides to which split its example belongs, whatever else there is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

Hashes: TypeAlias = npt.NDArray[np.uint64]
TRAIN, VALIDATION, TEST = 0, 1, 2
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def digests_of(names: Sequence[str]) -> Hashes:
    """A number of 64 bits for each name.

    Examples:
        >>> digests_of(["a", "b"]).shape
        (2,)
    """
    found = (hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(found), dtype="<u8").astype(np.uint64)


def digests_of_rows(name: str, first: int, count: int) -> Hashes:
    """A number of 64 bits for each row of a file, from its name and the number of the row.

    Examples:
        >>> bool((digests_of_rows("a", 2, 2) == digests_of_rows("a", 0, 4)[2:]).all())
        True
    """
    rows = np.arange(first, first + count, dtype=np.uint64)
    found: Hashes = digests_of([name]) + rows * GOLDEN
    return found


def hashes_of(digests: Hashes, seed: int) -> Hashes:
    """Hashes that are uniform on all numbers of 64 bits, others for each seed (SplitMix64, Steele et al. 2014)."""
    mixed = digests ^ digests_of([f"split {seed}"])
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: Hashes = mixed ^ (mixed >> np.uint64(31))
    return found


@final
@dataclass(frozen=True)
class HashSplit:
    """Shares of all hashes that are held out: the least for the test split, the greatest for validation.

    An example stays where it is when others are added or taken away. Shares that the size of the data limits are powers of two, so they stay
    as they are until the data have doubled; then half of what was held out is trained on, and nothing moves between validation and test.

    Attributes:
        validation: share of the examples for validation.
        test: share of the examples for the test.

    Examples:
        >>> HashSplit(0.25, 0.5).of(np.array([0, 2**63, 2**64 - 1], dtype=np.uint64)).tolist()
        [2, 0, 1]
    """

    validation: float
    test: float

    def of(self, hashes: Hashes) -> npt.NDArray[np.int8]:
        """Split of each example: 0 training, 1 validation, 2 test."""
        place = hashes.astype(np.float64) / 2.0**64
        found = np.zeros(len(hashes), dtype=np.int8)
        found[place >= 1.0 - self.validation] = VALIDATION
        found[place < self.test] = TEST
        return found


def share(fraction: float, most: int, count: int) -> float:
    """Share of `count` examples that is held out: the fraction, or, where that is more than `most` examples, a power of two.

    Examples:
        >>> share(0.1, 5000, 1000), share(0.1, 5000, 100_000)
        (0.1, 0.03125)
    """
    return fraction if fraction * count <= most else 2.0 ** math.floor(math.log2(most / count))
