"""Columns of any type, from Arrow: words, dates, numbers, and missing cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import DataError
from .._schema import Column, Schema
from .._source import Array, Part, Raw, Request, counted, listed
from ..tables._cells import Cells, cells_of
from ..tables._types import require_known
from ._arrow import kind_words, units_of


def needs_types(schema: Any, request: Request, left_out: Sequence[str] = ()) -> bool:
    """Tell whether a table must be read column by column, each of its own type: not all are numbers, or types were asked for.

    Args:
        schema: Arrow schema.
        request: options of the reading, and the schema of a trained model.
        left_out: columns that are not modelled.
    """
    if request.options.types is not None or request.options.missing:
        return True
    trained = request.trained
    if trained is not None:
        return trained.is_mixed
    return any(
        kind_words(field.type) not in ("", "lists", "bytes", "structs") or str(field.type) == "bool"
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
        request: options of the reading, and the schema of a trained model.
        left_out: columns that are not modelled.
        decimal: decimal point of numbers in text.
        fingerprint: hash of the content.

    Raises:
        DataError: for columns of lists, bytes or structs.
    """
    first = next(iter(tables.values()))
    asked = request.options.types or {}
    declared = (*request.options.missing, *(() if request.trained is None else request.trained.missing))
    require_known(asked, first.column_names)
    gone = {column for column, kind in asked.items() if kind == "leave-out"}
    names = [column for column in first.column_names if column not in left_out and column not in gone]
    if not names:
        raise DataError(f"{name}: no column is left to model. Leave fewer out.")
    require_same_columns({str(part): table.column_names for part, table in tables.items()}, request)
    trained = {} if request.trained is None else _trained(request.trained, names)
    counts = [len(table) for table in tables.values()]
    columns: list[Array] = []
    words, dates, dtypes, notes = {}, {}, {}, []
    for column in names:
        joined = _joined([table.column(column) for table in tables.values()])
        own = trained.get(column)
        is_worded = own is not None and any(isinstance(word, str) for word in own.categories)
        form = own.form if own is not None else ""
        cells: Cells = cells_of(column, joined, declared, decimal, form, words=is_worded)
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
        name, parts, fingerprint, tuple(names), units_of(first.schema), words, dates, dtypes, notes=tuple(notes),
        tables=dict(tables), decimal=decimal,
    )  # fmt: skip


def _trained(schema: Schema, names: Sequence[str]) -> dict[str, Column]:
    """The model's column for each name: by name, or by place where the columns of training had none."""
    if not schema.is_named and not set(schema.columns) <= set(names):
        return dict(zip(names, schema.fields, strict=False)) if len(names) == len(schema.fields) else {}
    return {column.name: column for column in schema.fields}


def require_same_columns(given: Mapping[str, Sequence[str]], request: Request) -> None:
    """Raise `DataError` unless all files or parts of a table have the columns of the first; for a trained model its own are enough."""
    trained = request.trained
    (first, names), *others = given.items()
    if trained is not None and trained.is_named:
        names = [name for name in names if name in trained.columns]
    for other, here in others:
        different = sorted(set(names) - set(here)) if trained is not None else sorted(set(names) ^ set(here))
        if different:
            raise DataError(
                f"{other} must have the columns of {first}, {listed(list(names))}; they differ in {listed(different)}."
            )


def joined_tables(tables: Mapping[str, Any], request: Request) -> Any:
    """One Arrow table of those of several files; a column that has other types in some of them is text.

    Raises:
        DataError: if they have other columns.
    """
    import pyarrow as pa

    require_same_columns({name: table.column_names for name, table in tables.items()}, request)
    first = next(iter(tables.values()))
    kept = [name for name in first.column_names if all(name in table.column_names for table in tables.values())]
    return pa.table({name: _joined([table.column(name) for table in tables.values()]) for name in kept})


def _joined(columns: Sequence[Any]) -> Any:
    """Chunks of one column from several tables, of the type that holds all of them, else as text."""
    import pyarrow as pa

    kinds = {column.type for column in columns}
    kind = columns[0].type
    if len(kinds) > 1:
        try:
            both = [pa.schema([pa.field("", one)]) for one in kinds]
            kind = pa.unify_schemas(both, promote_options="permissive").field(0).type
            columns = [column.cast(kind) for column in columns]
        except pa.ArrowException:
            kind = pa.string()
            columns = [column.cast(kind) for column in columns]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], kind)
