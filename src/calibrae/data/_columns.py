"""Columns of a table: whole numbers, few values at equal distances, or continuous."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ._lattice import FINEST, MOST_VALUES, Lattice, distinct, find_lattice
from ._layout import EXACT
from ._scan import chunks, sampled
from ._schema import Column
from ._source import Array, counted, listed

WHOLE = 1 << 40  # range up to which float64 values that are whole are taken for integers
ATOM = 0.1  # share of the rows that hold one and the same value
REPEATED = 2  # rows a distinct value, on average, from which few values are taken for a lattice
LABEL_COLUMNS = frozenset({"label", "labels", "target", "class", "y"})


@dataclass
class _Profile:
    """Range of each column, and whether it holds whole numbers, from one pass."""

    low: Array
    high: Array
    whole: Array

    @classmethod
    def of(cls, arrays: Sequence[Array]) -> _Profile:
        width = arrays[0].shape[1]
        found = cls(np.full(width, np.inf), np.full(width, -np.inf), np.ones(width, dtype=bool))
        for array in arrays:
            for _, chunk in chunks(array):
                found.low = np.minimum(found.low, chunk.min(0))
                found.high = np.maximum(found.high, chunk.max(0))
                if chunk.dtype.kind == "f":
                    found.whole &= (chunk == np.rint(chunk)).all(0)
        return found


def read_columns(
    arrays: Sequence[Array], names: Sequence[str], units: Mapping[str, str], resolution: float
) -> tuple[Column, ...]:
    """Tell the kind of each column.

    Args:
        arrays: parts of the table, `[N, D]` each.
        names: names of the columns.
        units: unit of a column by its name.
        resolution: relative spacing of the floats as they came.
    """
    profile, dtype = _Profile.of(arrays), str(arrays[0].dtype)
    seen = np.concatenate([sampled(array) for array in arrays])
    candidates: dict[int, Lattice] = {}
    for i in np.flatnonzero(~profile.whole):
        few = distinct(seen[:, i], min(MOST_VALUES, len(seen) // REPEATED))
        lattice = None if few is None else find_lattice(few, resolution)
        if lattice is not None:
            candidates[int(i)] = lattice
    found = _holding(candidates, arrays, resolution)

    def column(i: int, name: str) -> Column:
        low, high, unit = float(profile.low[i]), float(profile.high[i]), units.get(name, "")
        if profile.whole[i] and high - low < FINEST and max(abs(low), abs(high)) <= EXACT:
            return Column(name, "whole", low, 1.0, int(high - low) + 1, unit, dtype)
        if (
            profile.whole[i] and high - low < WHOLE and max(abs(low), abs(high)) <= EXACT
        ):  # a step of 1 is too fine to matter
            return Column(name, "whole", low, unit=unit, dtype=dtype)
        if i in found:
            step, start = found[i].step, found[i].low
            start -= round((start - low) / step) * step
            return Column(name, "lattice", start, step, round((high - start) / step) + 1, unit, dtype)
        return Column(name, unit=unit, dtype=dtype)

    return tuple(column(i, name) for i, name in enumerate(names))


def _holding(candidates: dict[int, Lattice], arrays: Sequence[Array], resolution: float) -> dict[int, Lattice]:
    """The lattices that hold every value of their column."""
    left = dict(candidates)
    for array in arrays:
        for _, chunk in chunks(array) if left else ():
            left = {i: lattice for i, lattice in left.items() if not lattice.between(chunk[:, i], resolution).any()}
    return left


def say_columns(arrays: Sequence[Array], fields: Sequence[Column], *, conditioned: bool) -> Iterator[str]:
    """Notes on what the columns were taken for.

    Args:
        arrays: parts of the table.
        fields: the columns.
        conditioned: whether a condition was named.
    """
    whole = [f.name for f in fields if f.kind == "whole" and f.step]
    wide = [f.name for f in fields if f.kind == "whole" and not f.step]
    lattices = [f"{f.name} in steps of {f.step:.4g}" for f in fields if f.kind == "lattice"]
    if whole:
        yield f"whole numbers in {counted(len(whole), 'column')} of {len(fields)} ({listed(whole)}): dequantised with a step of 1"
    if wide:
        yield f"whole numbers over a wide range in {counted(len(wide), 'column')} of {len(fields)} ({listed(wide)}): taken as continuous"
    if lattices:
        yield (
            f"few values at equal distances in {counted(len(lattices), 'column')} of {len(fields)} ({listed(lattices)}): "
            "dequantised with that step"
        )
    seen = np.concatenate([sampled(array) for array in arrays])
    atoms = [said for i, f in enumerate(fields) if not f.step for said in _atom(seen[:, i], f.name)]
    if atoms:
        yield (
            f"a value that many rows share exactly, in {counted(len(atoms), 'column')} of {len(fields)} ({listed(atoms)}): a density "
            "has no bound there, so compare such ELBOs with care"
        )
    labels = [f.name for f in fields if f.name.lower() in LABEL_COLUMNS]
    if labels and not conditioned:
        yield f"the column {labels[0]!r} is modelled like the others; --condition {labels[0]} conditions on it instead"


def _atom(column: Array, name: str) -> Iterator[str]:
    values, counts = np.unique(column, return_counts=True)
    if len(values) > 1 and counts.max() > max(2, ATOM * len(column)):
        yield f"{name} is {values[counts.argmax()]:.6g} in {counts.max() / len(column):.0%}"
