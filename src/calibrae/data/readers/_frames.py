"""Data frames: pandas, polars, Arrow, and a pandas Series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import DataError, first_line
from .._registry import reads
from .._source import Array, Part, Raw, Request, listed
from .._trained import UNNAMED
from ._arrays import plain_array
from ._arrow import (
    index_column,
    labels_of,
    numbers,
    numeric_names,
    require_column,
    resolution_of_columns,
    units_of,
    unknown_columns,
)
from ._mixed import needs_types, read_mixed


def is_structured(data: Any) -> bool:
    """Tell whether this is a NumPy array whose columns have names."""
    return bool(getattr(getattr(data, "dtype", None), "names", None))


def is_frame(data: Any) -> bool:
    """Tell whether this is a data frame: it has columns with names and becomes Arrow or NumPy."""
    if is_structured(data):
        return True
    if hasattr(data, "column_names") and hasattr(data, "schema") and hasattr(data, "to_pydict"):
        return True
    return (hasattr(data, "columns") or hasattr(data, "to_frame")) and (hasattr(data, "to_numpy"))


@reads("a data frame (pandas, polars, Arrow)", is_frame, rank=30)
def read_frame(data: Any, request: Request) -> Raw:
    """A data frame by its columns, as CSV and Parquet files are read."""
    name = type(data).__name__
    trained = request.trained
    is_series = hasattr(data, "to_frame") and not hasattr(data, "columns")
    if is_series and trained is not None and set(trained.columns) <= set(map(str, getattr(data, "index", ()))):
        data = data.to_frame().T.infer_objects()  # one row of a frame
    table = as_arrow(data, name)
    notes = _about_index(data)
    left_out = list(request.options.conditions)
    labels: dict[str, Mapping[Part, Array]] = {}
    for condition in left_out:
        require_column(name, table.column_names, condition)
        labels[condition] = {"all": labels_of(name, table.column(condition), condition)}
    index = index_column(name, table.column(0).to_numpy() if table.num_columns else [], table.column_names)
    if index is not None:
        left_out.append(index[0])
        notes.append(index[1])
    unknown = [c for c in unknown_columns(name, table.column_names, request) if c not in left_out]
    if unknown:
        left_out += unknown
        notes.append(f"columns that the model does not know left out: {listed(unknown)}")
    if needs_types(table.schema, request, left_out) or any(table.column(n).null_count for n in table.column_names):
        raw = read_mixed(name, {"all": table}, request, left_out)
        return replace(raw, labels=labels, notes=(*notes, *raw.notes))
    names = numeric_names(name, table.schema, left_out)
    values = numbers(name, [table.column(title) for title in names], names)
    return Raw(
        name,
        {"all": values},
        "",
        tuple(names),
        units_of(table.schema),
        labels=labels,
        notes=tuple(notes),
        resolution=resolution_of_columns(table.schema, names),
    )


def _about_index(data: Any) -> list[str]:
    """Note on an index of pandas that tells more than the number of a row: it has a name, or is no number."""
    index = getattr(data, "index", None)
    levels = [str(level) for level in getattr(index, "names", ()) if level is not None]
    kind = getattr(getattr(index, "dtype", None), "kind", "i")
    if not levels and kind in "iu":
        return []
    told = f"the index ({listed(levels)})" if levels else "the index"
    return [f"{told} left out: `reset_index()` makes it a column"]


def as_arrow(data: Any, name: str) -> Any:
    """A data frame as an Arrow table.

    Raises:
        DataError: if its columns cannot be told, as in a column of mixed objects.
    """
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if is_structured(data):
        return _of_structured(data, name)
    if hasattr(data, "to_frame") and not hasattr(data, "columns"):
        data = data.to_frame(name=data.name if getattr(data, "name", None) is not None else UNNAMED)
    try:
        if hasattr(data, "to_arrow"):
            return data.to_arrow()
        data = data.rename(columns=str) if hasattr(data, "rename") else data
        return pa.Table.from_pandas(data, preserve_index=False)
    except Exception as error:  # pandas and Arrow raise many kinds
        raise DataError(
            f"{name}: its columns cannot be read: {first_line(error, 200)} Give each column one type."
        ) from error


def _of_structured(data: Any, name: str) -> Any:
    """Columns of a structured array, or of one row of it."""
    import numpy as np
    import pyarrow as pa

    array = np.atleast_1d(data)  # a masked array stays one
    fields = array.dtype.names or ()
    deep = [field for field in fields if array[field].ndim > 1 or array[field].dtype.names]
    if array.ndim > 1 or deep:
        raise DataError(
            f"{name}: a structured array must be [N] with one number in each field; got {listed(deep) or array.shape}. Split those fields."
        )
    columns = {field: plain_array(array[field])[0] for field in fields}
    try:
        return pa.table({field: values.astype(values.dtype.newbyteorder("=")) for field, values in columns.items()})
    except pa.ArrowException as error:  # complex numbers, bytes without a type
        raise DataError(f"{name}: its columns cannot be read: {first_line(error, 200)}. Drop those fields.") from error
