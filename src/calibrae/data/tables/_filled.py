"""A table as it came, with values only where a cell was missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._registry import read
from .._schema import Column, Schema, channel_names
from .._source import Array, DataOptions, Raw, Request
from ._cells import MISSING, cells_of
from ._coded import positions
from ._rows import cells


def table_as_came(schema: Schema, rows: Any) -> tuple[Any, list[int]]:
    """Arrow table of rows as they came, all columns, and the position of each column of the schema in it.

    Columns of numbers in a text file are numbers; dates and words stay as they are written. A declared word for a missing cell, or a
    blank, is no cell.

    Raises:
        DataError: if they cannot be read by the schema.
    """
    import pyarrow as pa

    raw = read(rows, Request(DataOptions(), schema))
    assert isinstance(raw, Raw)
    if raw.tables:
        table = pa.concat_tables([_plain(one) for one in raw.tables.values()], promote_options="permissive")
    else:
        array = np.concatenate([np.asarray(part) for part in raw.parts.values()])
        names = raw.columns or channel_names("table", array.shape[1])
        table = pa.table({name: pa.array(array[:, i], from_pandas=True) for i, name in enumerate(names)})
    read_names = raw.columns or tuple(table.column_names)
    order = [table.column_names.index(read_names[i]) for i in positions(raw, schema)]
    places = dict(zip(order, schema.fields, strict=True))
    columns = [_without_marks(table.column(i), places.get(i), schema.missing) for i in range(table.num_columns)]
    return pa.table(dict(zip(table.column_names, columns, strict=True))), order


def fill(schema: Schema, table: Any, order: Sequence[int], estimates: Array) -> tuple[Any, int]:
    """The table with estimates in its missing cells, and their number.

    Args:
        schema: schema of a mixed table.
        table: from `table_as_came`.
        order: position of each column of the schema in it.
        estimates: numbers and codes, `[N, D]`.
    """
    import pyarrow as pa

    columns, count = list(table.columns), 0
    for i, (place, field) in enumerate(zip(order, schema.fields, strict=True)):
        came = columns[place].combine_chunks()
        if not came.null_count:
            continue
        count += came.null_count
        holes = np.asarray(came.is_null())
        values = cells(field, np.where(holes, estimates[:, i], np.nan))
        columns[place] = _merged(came, holes, values)
    return pa.table(dict(zip(table.column_names, columns, strict=True))), count


def _plain(table: Any) -> Any:
    """The table without dictionaries, whose codes differ from part to part."""
    import pyarrow as pa
    import pyarrow.types as pt

    columns = [
        column.cast(column.type.value_type) if pt.is_dictionary(column.type) else column for column in table.columns
    ]
    return pa.table(dict(zip(table.column_names, columns, strict=True)))


def _without_marks(column: Any, field: Column | None, declared: Sequence[str]) -> Any:
    """A column with null for all that means a missing cell; one of numbers that are text, as numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    if field is None:
        return column
    is_text = pt.is_string(column.type) or pt.is_large_string(column.type)
    is_worded = any(isinstance(word, str) for word in field.categories)
    found = cells_of(field.name, column, declared, form=field.form, words=is_worded)
    if is_text and found.words is None and not found.date:
        is_whole = found.dtype == "int64"
        return pa.chunked_array(
            [pa.array(found.values, from_pandas=True).cast(pa.int64() if is_whole else pa.float64())]
        )
    if is_text:
        marks = pa.array(sorted(MISSING | {word.strip().lower() for word in declared}), column.type)
        missing = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(column)), value_set=marks)
    else:
        missing = pa.array(np.isnan(found.values))
    return pc.if_else(missing, pa.scalar(None, column.type), column)


def _merged(came: Any, holes: Array, values: Sequence[Any]) -> Any:
    """A column whose holes have values, of its own type where that can hold them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.replace_with_mask(
            came, pa.array(holes), pa.array([values[int(i)] for i in holes.nonzero()[0]], came.type)
        )
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # as a word in a column of codes
        own = [values[i] if hole else cell for i, (hole, cell) in enumerate(zip(holes, came.to_pylist(), strict=True))]
    if any(isinstance(value, str) for value in own):
        return pa.array([None if value is None else str(value) for value in own])
    return pa.array([None if value is None else float(value) for value in own])
