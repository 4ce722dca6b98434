"""New rows for a model of mixed columns: coded as its training rows were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import ArgumentError, DataError
from .._schema import Column, Schema
from .._source import Array, Part, Raw, counted, listed
from ._cells import number_of_date
from ._types import codes_of


def coded(raw: Raw, schema: Schema, notes: list[str]) -> Raw:
    """Rows with the codes of the schema. Values that training did not have become missing cells, and a note counts them.

    Raises:
        DataError: for words where training had numbers or dates, or dates of another form.
    """
    if raw.columns and schema.is_named:
        order = [raw.columns.index(name) for name in schema.columns]
    else:
        order = list(range(len(schema.fields)))
        width = next(iter(raw.parts.values())).shape[1]
        if width == len(schema.fields) + len(schema.left_out):
            order = [column.place for column in schema.fields]
    unknown: dict[str, int] = {}
    parts: dict[Part, Array] = {}
    for part, array in raw.parts.items():
        found = [
            _column(raw, column, np.asarray(array[:, i], dtype=np.float64), unknown)
            for i, column in zip(order, schema.fields, strict=True)
        ]
        parts[part] = np.stack(found, axis=1)
    if unknown:
        total = sum(unknown.values())
        said = [f"{name} ({count})" for name, count in unknown.items()]
        notes.append(
            f"{counted(total, 'cell')} with values that training did not have taken as missing: {listed(said)}"
        )
    return replace(raw, parts=parts, columns=schema.columns if raw.columns else (), words={}, dates={})


def _column(raw: Raw, column: Column, values: Array, unknown: dict[str, int]) -> Array:
    words = raw.words.get(column.name)
    if np.isnan(values).all():
        return values
    if column.type not in ("categorical", "binary") and words is not None:
        raise DataError(
            f"{raw.name}: the column {column.name!r} held {'dates' if column.form else 'numbers'} in training; got words, such as "
            f"{listed([str(word) for word in words], 3)}. Convert them."
        )
    if raw.dates.get(column.name, "") != column.form and not (column.form and not raw.dates.get(column.name)):
        raise DataError(
            f"{raw.name}: dates in the column {column.name!r} must be written as in training, {column.form or 'as numbers'}; got "
            f"{raw.dates[column.name]}."
        )
    found = codes_of(column, values, words)
    if column.type == "ordinal":
        found = _on_levels(column, found)
    lost = int((np.isnan(found) & ~np.isnan(values)).sum())
    if lost:
        unknown[column.name] = unknown.get(column.name, 0) + lost
    return found


def _on_levels(column: Column, values: Array) -> Array:
    """Values, with NaN for those that are no level of the column."""
    assert column.levels is not None
    level = (values - column.low) / column.step
    near = np.rint(level)
    is_level = (np.abs(level - near) < 1e-6) & (near >= 0) & (near < column.levels)
    return np.where(is_level | np.isnan(values), values, np.nan)


def stored_cell(schema: Schema | None, name: str, value: Any) -> tuple[int, float]:
    """Position of a column, and the stored number of a value in the table's own terms.

    Raises:
        ArgumentError: for a column or a value that the model does not know.
    """
    assert schema is not None
    known = list(schema.columns)
    if name not in known:
        raise ArgumentError(f"the model has no column {name!r}; it has {listed(known, 10)}.")
    i = known.index(name)
    column = schema.fields[i]
    if column.type in ("categorical", "binary"):
        code = float(codes_of(column, np.zeros(1), (value,))[0])
        if np.isnan(code):
            raise ArgumentError(
                f"{name!r} must be one of {listed(list(map(str, column.categories)), 10)}; got {value!r}."
            )
        return i, code
    try:
        number = number_of_date(str(value), column.form) if column.form and isinstance(value, str) else float(value)
    except ValueError:
        raise ArgumentError(
            f"{name!r} must be {'a date as ' + column.form if column.form else 'a number'}; got {value!r}."
        ) from None
    if column.type == "ordinal" and np.isnan(_on_levels(column, np.array([number]))[0]):
        raise ArgumentError(f"{name!r} must be one of the levels of training; got {value!r}.")
    return i, number
