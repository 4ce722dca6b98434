"""New rows for a model of mixed columns: coded as its training rows were."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...errors import ArgumentError, DataError
from .._schema import Column, Schema
from .._source import Array, Part, Raw, counted, listed
from ._cells import ARROW, DAY, SECOND, has_time, has_zone, is_number, number_of_date, without
from ._types import codes_of, say_unknown


def coded(raw: Raw, schema: Schema, notes: list[str]) -> Raw:
    """Rows with the codes of the schema. Values that training did not have become missing cells, and a note counts them.

    Raises:
        DataError: for words where training had numbers or dates, or dates of another form.
    """
    order = positions(raw, schema)
    unknown: dict[str, int] = {}
    parts: dict[Part, Array] = {}
    for part, array in raw.parts.items():
        found = [
            _column(raw, i, column, without(np.asarray(array[:, i], dtype=np.float64), schema.missing), unknown, notes)
            for i, column in zip(order, schema.fields, strict=True)
        ]
        parts[part] = np.stack(found, axis=1)
    if unknown:
        notes.append(say_unknown(unknown))
    return replace(raw, parts=parts, columns=schema.columns if raw.columns else (), words={}, dates={})


def positions(raw: Raw, schema: Schema) -> list[int]:
    """Positions of the model's columns: by name, or by place where one of the two has no names."""
    if raw.columns and raw.is_named and schema.is_named:
        return [raw.columns.index(name) for name in schema.columns]
    width = next(iter(raw.parts.values())).shape[1]
    if width == len(schema.fields):
        return list(range(width))
    if not schema.is_named and raw.columns and not raw.is_named and set(schema.columns) <= set(raw.columns):
        return [raw.columns.index(name) for name in schema.columns]
    if width == len(schema.fields) + len(schema.left_out):
        return [column.place for column in schema.fields]
    raise DataError(
        f"{raw.name} has {counted(width, 'column')}; the model was trained on {len(schema.fields)}: {listed(schema.columns, 10)}. Pass those."
    )


def _column(raw: Raw, i: int, column: Column, values: Array, unknown: dict[str, int], notes: list[str]) -> Array:
    name = raw.columns[i] if raw.columns else column.name
    words, form = raw.words.get(name), raw.dates.get(name, "")
    if np.isnan(values).all():
        return values
    if column.type not in ("categorical", "binary") and words is not None:
        raise DataError(
            f"{raw.name}: the column {column.name!r} held {'dates' if column.form else 'numbers'} in training; got words: "
            f"{listed(sorted(map(str, words), key=partial(is_number, decimal=raw.decimal)), 3)}. Convert them."
        )
    if column.type in ("categorical", "binary") and form:
        raise DataError(
            f"{raw.name}: the column {column.name!r} held words in training; got dates, as {form}. Convert them."
        )
    if form != column.form and column.type not in ("categorical", "binary"):
        values = _as_trained(raw, column, values, form)
        midnight = " without a time: taken as midnight" if has_time(column.form) and not has_time(form) else ""
        note = f"{column.name}: dates are written as {_shown(form)}, in training as {_shown(column.form)}{midnight}"
        if note not in notes:
            notes.append(note)
    return codes_of(column, values, words, unknown)


def _shown(form: str) -> str:
    return form.removeprefix(ARROW)


def _as_trained(raw: Raw, column: Column, values: Array, form: str) -> Array:
    """Dates of another form in the unit of those of training.

    Raises:
        DataError: for numbers among dates or the other way round, times where training had days, and one time zone where the other has none.
    """
    why = ""
    if not (form and column.form):
        why = f"{'dates' if column.form else 'numbers'}; got {'dates' if form else 'numbers'}"
    elif has_time(form) and has_time(column.form) and has_zone(form) != has_zone(column.form):
        why = f"times {'with' if has_zone(column.form) else 'without'} a time zone; got some {'with' if has_zone(form) else 'without'}"
    elif has_time(form) and not has_time(column.form):
        values = values / 86_400.0
        if (values[~np.isnan(values)] % 1.0).any():
            why = "days; got times"
    elif has_time(column.form) and not has_time(form):
        values = values * 86_400.0
    if why:
        raise DataError(f"{raw.name}: the column {column.name!r} held {why}. Convert them.")
    return values


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
        number = _number_of(value, column.form)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{name!r} must be {'a date as ' + column.form if column.form else 'a number'}; got {value!r}."
        ) from None
    if np.isnan(codes_of(column, np.array([number]), None)[0]):
        raise ArgumentError(f"{name!r} must be one of the levels of training; got {value!r}.")
    return i, number


def _number_of(value: Any, form: str) -> float:
    """Number of a value in the table's own terms: a number, or a date as text or as Python's or pandas' own.

    Raises:
        TypeError, ValueError: if it is none.
    """
    if not form:
        return float(value)
    if not form.startswith(ARROW):
        return number_of_date(value.strftime(form) if hasattr(value, "strftime") else str(value), form)
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    own = text[:10] if not has_time(form) else text[:19].replace("T", " ")
    if len(own) == 10 and has_time(form):
        own += " 00:00:00"
    return number_of_date(own, SECOND if has_time(form) else DAY)
