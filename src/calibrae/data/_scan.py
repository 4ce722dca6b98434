"""Passes over arrays that may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import DataError
from ._mapped import releasing
from ._source import Array

CHUNK_BYTES = 1 << 24
MOST_SAMPLED = 1 << 16  # rows that a first look takes


def chunks(array: Array) -> Iterator[tuple[int, Array]]:
    """Blocks of rows in order, each with the position of its first."""
    rows = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    blocks = (np.asarray(array[start : start + rows]) for start in range(0, len(array), rows))
    return zip(range(0, len(array), rows), releasing(array, blocks), strict=True)


def value_range(array: Array) -> tuple[float, float]:
    """Smallest and largest value, in one pass."""
    lows, highs = zip(*((float(chunk.min()), float(chunk.max())) for _, chunk in chunks(array)), strict=True)
    return min(lows), max(highs)


def sampled(array: Array, most: int = MOST_SAMPLED) -> Array:
    """Rows evenly spaced, all of them if there are few."""
    if len(array) <= most:
        return np.asarray(array)
    return np.asarray(array[:: -(-len(array) // most)])


def has_missing(array: Array) -> bool:
    """Tell whether a value is NaN."""
    return array.dtype.kind == "f" and any(bool(np.isnan(chunk).any()) for _, chunk in chunks(array))


def require_finite(name: str, array: Array, columns: Sequence[str], *, missing: bool = False) -> None:
    """Raise `DataError` where a value is infinite, or NaN unless cells may be missing, saying where the first one is."""
    if array.dtype.kind != "f":
        return
    bad, first = 0, None
    for start, chunk in chunks(array):
        wrong = np.isinf(chunk) if missing else ~np.isfinite(chunk)
        if wrong.any():
            bad += int(wrong.any(axis=tuple(range(1, chunk.ndim))).sum())
            if first is None:
                where = np.argwhere(wrong)[0]
                first = (start + int(where[0]), *map(int, where[1:]))
    if first is not None:
        place = f"column {columns[first[1]]!r}" if columns and array.ndim == 2 else f"element {first[1:]}"
        raise DataError(
            f"{name}: all values must be finite; got {'infinity' if missing else 'NaN or infinity'} in {bad} of {len(array)} examples, first in example "
            f"{first[0]} (counted from 0), {place}. Drop or fill them."
        )
