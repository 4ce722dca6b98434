"""Rows of a mixed table as they came: names, words, dates, whole numbers, and the order of the columns."""

from __future__ import annotations

import importlib.util
import re
from contextlib import suppress
from datetime import UTC, timedelta
from typing import Any

import numpy as np

from .._lattice import tidy
from .._schema import Column, Schema
from .._source import Array
from ._cells import ARROW, DICTIONARY, ORIGIN, has_time
from ._types import LEFT_OUT

NUMBERS = re.compile("u?int(8|16|32|64)|float|double|float32|float64")
ZONE = re.compile(r"tz=([^\]]+)\]")


def in_table_units(schema: Schema, values: Array) -> Array:
    """Numbers and codes as they are stored: levels, whole numbers and decimals rounded, codes within their range, numbers within that of training.

    Args:
        schema: schema of a mixed table.
        values: in the units of the table, `[N, D]`.
    """
    found = np.asarray(values, dtype=np.float64).copy()
    for i, column in enumerate(schema.fields):
        own = found[:, i]
        if column.type in ("categorical", "binary"):
            own = np.clip(np.rint(own), 0, len(column.categories) - 1)
        elif column.type in ("ordinal", "count"):
            step = column.step or 1.0
            own = tidy(np.rint((own - column.low) / step) * step + column.low)
        elif column.step:
            level = np.floor((own - column.low) / column.step + 1e-9)
            own = np.where(own == column.atom, own, tidy(level * column.step + column.low))
        elif column.kind == "whole":
            own = np.rint(own)
        elif column.decimals is not None:
            own = np.round(own, column.decimals)
        found[:, i] = (np.clip(own, column.least, column.most) if column.most > column.least else own) + 0.0  # no -0
    return found


def rows_of(schema: Schema, stored: Array) -> Any:
    """Arrow table of stored rows with the columns, types and order of the table that came. Constants are filled in again.

    Args:
        schema: schema of a mixed table.
        stored: numbers and codes, `[N, D]`; NaN for a missing cell.
    """
    import pyarrow as pa

    constants = [column for column in schema.left_out if column.type == "constant" and column.categories]
    columns = {
        column.place: (column.name, written_cells(column, stored[:, i])) for i, column in enumerate(schema.fields)
    }
    for column in constants:
        value = column.categories[0]
        once = date_of(float(value), column.form) if column.form else value
        columns[column.place] = (column.name, [once] * len(stored))
    ordered = [columns[place] for place in sorted(columns)]
    known = {column.name: column for column in (*schema.fields, *constants)}
    return pa.table({name: _array(values, known[name]) for name, values in ordered})


def array_of(column: Column, values: Array) -> Any:
    """Arrow array of stored numbers or codes `[N]`, in the type in which the column came."""
    return _array(written_cells(column, values), column)


def _array(values: list[Any], column: Column) -> Any:
    """Arrow array of cells, in the type in which the column came where that holds them."""
    import pyarrow as pa

    if not column.form and NUMBERS.fullmatch(column.dtype):
        try:
            return pa.array(values, pa.type_for_alias(column.dtype))
        except pa.ArrowInvalid:  # means of whole numbers
            return pa.array(values)
    if column.dtype == DICTIONARY:
        code = {word: i for i, word in enumerate(column.categories)}
        indices = pa.array([None if value is None else code[value] for value in values], pa.int32())
        return pa.DictionaryArray.from_arrays(indices, pa.array(list(column.categories)))
    zone = zone_of(column.form)
    return pa.array(values, pa.timestamp("us", tz=zone) if zone else None)


def zone_of(form: str) -> str:
    """Time zone of a date that came with one; empty for others.

    Examples:
        >>> from calibrae.data.tables._rows import zone_of
        >>> zone_of("arrow:timestamp[us, tz=Europe/Rome]")
        'Europe/Rome'
    """
    found = ZONE.search(form)
    return found.group(1) if found else ""


def not_given_back(schema: Schema) -> list[str]:
    """Names of the columns that rows do not have: identifiers, free text, and those that were left out."""
    return [column.name for column in schema.left_out if column.type in LEFT_OUT and column.type != "constant"]


def written_cells(column: Column, values: Array) -> list[Any]:
    """One column as Python values; `None` where a cell is missing."""
    if column.type in ("categorical", "binary"):
        return [None if np.isnan(v) else column.categories[int(v)] for v in values]
    if column.form:
        return [None if np.isnan(v) else date_of(float(v), column.form) for v in values]
    if column.kind == "whole" and column.dtype.startswith(("int", "uint", "text")):
        return [None if np.isnan(v) else round(v) for v in values]
    return [None if np.isnan(v) else float(v) for v in values]


def date_of(number: float, form: str) -> Any:
    """Date of a number of days (or seconds) since 1970, as it is written, or as a date where it was one.

    Examples:
        >>> from calibrae.data.tables._rows import date_of
        >>> date_of(2.0, "%Y-%m-%d")
        '1970-01-03'
    """
    seconds = number if has_time(form) else 86_400.0 * round(number)
    moment = ORIGIN + timedelta(microseconds=round(seconds * 1e6))
    if form.startswith(ARROW):
        return moment if has_time(form) else moment.date()
    return (moment.replace(tzinfo=UTC) if "%z" in form else moment).strftime(form)


def as_frame(table: Any, like: Any = None) -> Any:
    """Arrow table as the kind of frame that came; as a pandas one by default, or as it is without pandas.

    Args:
        table: Arrow table.
        like: frame of pandas or polars, or Arrow table, that came.
    """
    kind = type(like).__module__.partition(".")[0]
    if kind == "pyarrow":
        return table
    if kind == "polars":
        import polars

        return polars.from_arrow(table)
    if importlib.util.find_spec("pandas") is None:
        return table
    frame = table.to_pandas()
    for name, values in frame.items():
        field = table.schema.field(name)
        if "int" in str(field.type) and values.dtype.kind == "f":
            with suppress(TypeError, ValueError, OverflowError):
                frame[name] = values.astype(str(field.type).replace("ui", "UI").replace("i", "I"))
    if like is not None and hasattr(like, "index") and len(like) == len(frame):
        frame.index = like.index
    own = getattr(like, "columns", ())
    if list(map(str, own)) == list(frame.columns):
        frame.columns = own  # names need not be text
        return _typed_like(frame, like)
    return frame


def _typed_like(frame: Any, like: Any) -> Any:
    """A frame of pandas with the types of another one, where they hold its values."""
    for name, kind in like.dtypes.items():
        if frame[name].dtype != kind and str(kind) != "object" and like[name].notna().any():
            # a word among codes, or a number that the type cannot hold, keeps the wider type
            with suppress(TypeError, ValueError, OverflowError):
                typed = frame[name].astype(kind)
                same = (typed == frame[name]) | (typed.isna() & frame[name].isna())
                if bool(same.fillna(value=False).all()):
                    frame[name] = typed
    return frame
