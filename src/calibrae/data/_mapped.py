"""Memory maps that do not grow: pages that were read are given back."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import numpy as np

RELEASE_AFTER = 1 << 24  # bytes read between two releases; the system maps several times as much around them


class Sized(Protocol):
    """Anything that knows its size in bytes, as arrays and tensors do."""

    @property
    def nbytes(self) -> int:
        """Size."""


Block = TypeVar("Block", bound=Sized)


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


def releasing(arrays: list[Any], blocks: Iterator[Block]) -> Iterator[Block]:
    """The same blocks, copies of rows of the arrays, with the arrays' pages released as they pass.

    Example:
        >>> list(releasing([], iter([np.zeros(2)])))
        [array([0., 0.])]
    """
    read = 0
    for block in blocks:
        yield block
        read += block.nbytes
        if read >= RELEASE_AFTER:
            read = 0
            for array in arrays:
                release(array)
