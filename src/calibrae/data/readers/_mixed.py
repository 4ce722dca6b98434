"""Columns of any type, from Arrow: words, dates, numbers, and missing cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import DataError
from .._source import Array, Part, Raw, Request, counted, listed
from ..tables._cells import Cells, cells_of
from ..tables._types import require_known
from ._arrow import kind_words, units_of


def needs_types(schema: Any, request: Request, left_out: Sequence[str] = ()) -> bool:
    """Tell whether a table must be read column by column, each of its own type: not all are numbers, or types were asked for.

    Args:
        schema: Arrow schema.
        request: what was asked for.
        left_out: columns that are not modelled.
    """
    if request.options.columns is not None or request.options.missing:
        return True
    trained = request.trained
    if trained is not None:
        return trained.is_mixed
    return any(
        kind_words(field.type) not in ("", "lists", "bytes", "structs")
        for field in schema
        if field.name not in left_out
    )


def trained_to_miss(request: Request) -> bool:
    """Tell whether cells may be missing: in a table to train on, or in one for a model of mixed columns."""
    return request.trained is None or request.trained.is_mixed


def read_mixed(
    name: str,
    tables: Mapping[Part, Any],
    request: Request,
    left_out: Sequence[str] = (),
    decimal: str = ".",
    fingerprint: str = "",
) -> Raw:
    """A table of mixed columns, as its reader found it.

    Args:
        name: name of the data.
        tables: Arrow table of each part, all with the same columns.
        request: what was asked for.
        left_out: columns that are not modelled.
        decimal: decimal point of numbers in text.
        fingerprint: hash of the content.

    Raises:
        DataError: for columns of lists, bytes or structs.
    """
    import pyarrow as pa

    first = next(iter(tables.values()))
    asked = request.options.columns or {}
    require_known(asked, first.column_names)
    gone = {column for column, kind in asked.items() if kind == "leave-out"}
    names = [column for column in first.column_names if column not in left_out and column not in gone]
    if not names:
        raise DataError(f"{name}: no column is left to model. Leave fewer out.")
    counts = [len(table) for table in tables.values()]
    columns: list[Array] = []
    words, dates, dtypes, notes = {}, {}, {}, []
    for column in names:
        joined = pa.chunked_array(
            [chunk for table in tables.values() for chunk in table.column(column).chunks],
            first.schema.field(column).type,
        )
        cells: Cells = cells_of(column, joined, request.options.missing, decimal)
        columns.append(cells.values)
        dtypes[column] = cells.dtype
        if cells.words is not None:
            words[column] = cells.words
        if cells.date:
            dates[column] = cells.date
        if cells.note:
            notes.append(f"{column}: {cells.note}")
    if gone:
        notes.append(f"{counted(len(gone), 'column')} left out as asked: {listed(sorted(gone))}")
    values = np.stack(columns, axis=1) if columns else np.empty((sum(counts), 0))
    edges = np.cumsum([0, *counts])
    parts: dict[Part, Array] = {part: values[edges[i] : edges[i + 1]] for i, part in enumerate(tables)}
    return Raw(
        name, parts, fingerprint, tuple(names), units_of(first.schema), words, dates, dtypes, notes=tuple(notes)
    )  # fmt: skip
