"""Memory maps that do not grow: pages that were read are given back."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import numpy as np

IN_MEMORY = 1 << 28  # bytes: an array up to this size is read whole, as rows of a map cost several times more
RELEASE_AFTER = 1 << 24  # bytes read in order between two releases
RELEASE_ROWS = 128  # rows read here and there between two releases: each may map a huge page, 2 MiB


class Sized(Protocol):
    """Anything that knows its size in bytes, as arrays and tensors do."""

    @property
    def nbytes(self) -> int:
        """Size."""


Block = TypeVar("Block", bound=Sized)


def in_memory_if_small(mapped: Any) -> Any:
    """The array read whole, or the map itself where it is too large for that.

    Examples:
        >>> in_memory_if_small(np.zeros(3))
        array([0., 0., 0.])
    """
    return np.array(mapped) if isinstance(mapped, np.memmap) and mapped.nbytes <= IN_MEMORY else mapped


def take(array: Any, rows: Any) -> Any:
    """A copy of some rows, in the order given; of a memory map, at most `RELEASE_ROWS` of them are mapped at a time.

    Args:
        array: `[N, ...]`.
        rows: positions, an integer array.

    Examples:
        >>> take(np.arange(4) ** 2, np.array([3, 0]))
        array([9, 0])
    """
    if not isinstance(array, np.memmap):
        # `take` needs half the time of an index; of a transposed array it would copy all rows first
        is_plain = isinstance(array, np.ndarray) and array.flags.c_contiguous
        return array.take(rows, axis=0) if is_plain else array[rows]
    out = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
    for start in range(0, len(rows), RELEASE_ROWS):
        piece = slice(start, start + RELEASE_ROWS)
        out[piece] = array[rows[piece]]
        release(array)
    return out


def release(array: Any) -> None:
    """Give back the pages of a read-only memory map, which a process otherwise keeps as long as there is memory.

    They stay in the system's file cache, so reading them again is cheap. Any other array is left alone.

    Args:
        array: an array or a view of one.
    """
    if not isinstance(array, np.memmap) or array.mode != "r":
        return
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    unneeded = getattr(mmap, "MADV_DONTNEED", None)  # not on Windows, which trims maps itself
    if isinstance(base, mmap.mmap) and unneeded is not None:
        base.madvise(unneeded)


def releasing(array: Any, blocks: Iterator[Block]) -> Iterator[Block]:
    """Pass blocks on, read from an array in order, with its pages released as they pass.

    Examples:
        >>> list(releasing(np.zeros(2), iter([np.zeros(2)])))
        [array([0., 0.])]
    """
    read = 0
    for block in blocks:
        yield block
        read += block.nbytes
        if read >= RELEASE_AFTER:
            read = 0
            release(array)
