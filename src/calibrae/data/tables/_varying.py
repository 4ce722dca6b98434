"""Columns that do not vary in the training split, known only once it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .._schema import Column
from .._source import Array, Part, Source, counted, listed
from ._mixed import fingerprint_of


def varying(source: Source, train: Array) -> Source:
    """The source without columns of one value (or none) in the training rows, which a note names; itself if all vary, or none does.

    A word of a single row is such a case: if chance puts the row into another split, training never sees the word.

    Args:
        source: a table of mixed columns.
        train: stored numbers of the training rows, `[N, D]`.
    """
    fields = source.schema.fields
    constant = [i for i in range(len(fields)) if _is_constant(train[:, i])]
    if not constant or len(constant) == len(fields):
        return source
    kept = [i for i in range(len(fields)) if i not in constant]
    out = tuple(_left_out(fields[i], train[:, i]) for i in constant)
    schema = replace(
        source.schema,
        shape=(len(kept),),
        fields=tuple(fields[i] for i in kept),
        left_out=(*source.schema.left_out, *out),
    )
    parts: Mapping[Part, Array] = {part: np.ascontiguousarray(array[:, kept]) for part, array in source.parts.items()}
    said = listed([column.name for column in out])
    note = f"{counted(len(out), 'column')} of one value in the training split left out: {said}"
    return replace(source, parts=parts, schema=schema, fingerprint=fingerprint_of(parts), notes=(*source.notes, note))


def _is_constant(values: Array) -> bool:
    there = values[~np.isnan(values)]
    return len(there) < 2 or bool(there.min() == there.max())


def _left_out(column: Column, values: Array) -> Column:
    there = values[~np.isnan(values)]
    value = float(there[0]) if len(there) else None
    stands = () if value is None else (column.categories[int(value)] if column.categories else value,)
    return replace(column, type="constant", why="one value in the training split", categories=stands)
