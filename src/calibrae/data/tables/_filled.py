"""A table as it came, with values only where a cell was missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from .._registry import read
from .._schema import Column, Schema, channel_names
from .._source import Array, DataOptions, Raw, Request
from ._cells import MISSING, cells_of, has_time
from ._coded import positions
from ._rows import array_of, written_cells


@final
@dataclass(frozen=True)
class CameTable:
    """A table as it came.

    Attributes:
        table: Arrow table with all columns; null where a cell is missing.
        order: position in it of each column of the schema.
        forms: format of the dates of each column of the schema, in this table; empty for other columns.
        text: cells as a text file had them, letter by letter; `None` for tables of other kinds.
        separator: character between the columns of that file.
        decimal: decimal point of its numbers.
        is_named: whether it began with a line of names.
    """

    table: Any
    order: tuple[int, ...]
    forms: tuple[str, ...]
    text: Any = None
    separator: str = ","
    decimal: str = "."
    is_named: bool = True

    @property
    def holes(self) -> Array:
        """Missing cells of the columns of the schema, `[N, D]`."""
        return np.stack([np.asarray(self.table.column(i).combine_chunks().is_null()) for i in self.order], 1)

    def left_empty(self) -> list[str]:
        """Names of the columns that are not modelled and have missing cells."""
        rest = [i for i in range(self.table.num_columns) if i not in self.order]
        return [self.table.column_names[i] for i in rest if any(map(_is_missing, self.table.column(i).to_pylist()))]


def table_as_came(schema: Schema, rows: Any) -> CameTable:
    """Rows as they came, all columns.

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
    order = tuple(table.column_names.index(read_names[i]) for i in positions(raw, schema))
    columns, forms = list(table.columns), []
    for i, field in zip(order, schema.fields, strict=True):
        columns[i], form = _without_marks(columns[i], field, schema.missing, raw.decimal)
        forms.append(form)
    came = CameTable(pa.table(dict(zip(table.column_names, columns, strict=True))), order, tuple(forms))
    if not raw.separator:
        return came
    return replace(came, text=table, separator=raw.separator, decimal=raw.decimal, is_named=raw.is_named)


def fill(schema: Schema, came: CameTable, estimates: Array) -> Any:
    """Arrow table with estimates in the missing cells: dates in the form of those beside them, words as the column has them.

    Args:
        schema: schema of a mixed table.
        came: from `table_as_came`.
        estimates: numbers and codes, `[N, D]`.
    """
    import pyarrow as pa

    columns = list(came.table.columns)
    for i, (place, field, form) in enumerate(zip(came.order, schema.fields, came.forms, strict=True)):
        own = columns[place].combine_chunks()
        if not own.null_count:
            continue
        holes = np.asarray(own.is_null())
        values, written = np.where(holes, estimates[:, i], np.nan), field
        if field.form and form and form != field.form and not holes.all():
            values, written = _in_form(values, field.form, form), replace(field, form=form)
        columns[place] = (
            array_of(written, values) if holes.all() else _merged(own, holes, written_cells(written, values))
        )
    return pa.table(dict(zip(came.table.column_names, columns, strict=True)))


def fill_text(schema: Schema, came: CameTable, estimates: Array) -> Any:
    """Arrow table of text with estimates in the missing cells, written as the cells beside them; all others are as they were, letter by letter.

    Args:
        schema: schema of a mixed table.
        came: from `table_as_came`, of a text file.
        estimates: numbers and codes, `[N, D]`.
    """
    import pyarrow as pa

    columns, missing = list(came.text.columns), came.holes
    for i, (place, field, form) in enumerate(zip(came.order, schema.fields, came.forms, strict=True)):
        holes = missing[:, i]
        if not holes.any():
            continue
        values, written = np.where(holes, estimates[:, i], np.nan), field
        if field.form and form and form != field.form:
            values, written = _in_form(values, field.form, form), replace(field, form=form)
        own = columns[place].to_pylist()
        digits = _digits([text for text, hole in zip(own, holes, strict=True) if not hole], came.decimal)
        new = [
            None if value is None else _text(value, digits, came.decimal) for value in written_cells(written, values)
        ]
        columns[place] = pa.array([new[j] if hole else own[j] for j, hole in enumerate(holes)], pa.string())
    return pa.table(dict(zip(came.text.column_names, columns, strict=True)))


def _digits(texts: Sequence[str], decimal: str) -> int | None:
    """Digits behind the point that all numbers of a column are written with; `None` where they differ, or have exponents."""
    found = {len(text.strip().partition(decimal)[2]) for text in texts}
    is_plain = all(re.fullmatch(r"[+-]?\d*", text.strip().replace(decimal, "", 1)) for text in texts)
    return found.pop() if is_plain and len(found) == 1 else None


def _text(value: Any, digits: int | None, decimal: str) -> str:
    """A cell as a text file has it."""
    if not isinstance(value, float):
        return str(value)
    if digits is not None and value == round(value, digits):
        return f"{value:.{digits}f}".replace(".", decimal)
    return repr(value).replace(".", decimal)


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING)


def _in_form(values: Array, trained: str, own: str) -> Array:
    """Dates of training in the unit of another form: days, or seconds."""
    if has_time(trained) == has_time(own):
        return values
    return values * 86_400.0 if has_time(own) else np.floor(values / 86_400.0)


def _plain(table: Any) -> Any:
    """The table without dictionaries, whose codes differ from part to part."""
    import pyarrow as pa
    import pyarrow.types as pt

    columns = [
        column.cast(column.type.value_type) if pt.is_dictionary(column.type) else column for column in table.columns
    ]
    return pa.table(dict(zip(table.column_names, columns, strict=True)))


def _without_marks(column: Any, field: Column, declared: Sequence[str], decimal: str) -> tuple[Any, str]:
    """A column with null for all that means a missing cell, one of numbers that are text as numbers; and the form of its dates."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    is_text = pt.is_string(column.type) or pt.is_large_string(column.type)
    is_worded = any(isinstance(word, str) for word in field.categories)
    found = cells_of(field.name, column, declared, decimal, form=field.form, words=is_worded)
    if is_text and found.words is None and not found.date:
        kind = pa.int64() if found.dtype == "int64" else pa.float64()
        return pa.chunked_array([pa.array(found.values, from_pandas=True).cast(kind)]), ""
    if is_text:
        marks = pa.array(sorted(MISSING | {word.strip().lower() for word in declared}), column.type)
        missing = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(column)), value_set=marks)
    else:
        missing = pa.array(np.isnan(found.values))
    return pc.if_else(missing, pa.scalar(None, column.type), column), found.date


def _merged(came: Any, holes: Array, values: Sequence[Any]) -> Any:
    """A column whose holes have values, of its own type where that can hold them."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    new = [values[int(i)] for i in holes.nonzero()[0]]
    try:
        if pt.is_floating(came.type) or pt.is_integer(came.type):
            new = [float(value) if isinstance(value, str) else value for value in new]  # words that are numbers
        if not pt.is_integer(came.type) or all(value == int(value) for value in new):  # Arrow would cut a fraction off
            return pc.replace_with_mask(came, pa.array(holes), pa.array(new, came.type))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # as a word in a column of codes
        own = [values[i] if hole else cell for i, (hole, cell) in enumerate(zip(holes, came.to_pylist(), strict=True))]
    if any(isinstance(value, str) for value in own):
        return pa.array([None if value is None else _as_word(value) for value in own])
    return pa.array(own) if any(isinstance(value, bool) for value in own) else pa.array(list(map(_as_float, own)))


def _as_word(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value == round(value) else str(value)


def _as_float(value: Any) -> float | None:
    return None if value is None else float(value)
