"""Columns of Arrow, which data frames, CSV and Parquet files all become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .. import _cache
from .._layout import EXACT
from .._source import Array, Part, Request, counted, listed, part_of
from .._trained import require_columns

UNIT = b"unit"  # key of a field's metadata


def kind_words(kind: Any) -> str:
    """What a column of an Arrow type holds, for messages; empty for numbers."""
    import pyarrow.types as pt

    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind) or pt.is_decimal(kind) or pt.is_null(kind):
        return ""
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return "lists"
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind):
        return "bytes"
    if pt.is_temporal(kind):
        return "dates or times"
    if pt.is_struct(kind) or pt.is_map(kind):
        return "structs"
    return "categories" if pt.is_dictionary(kind) else "text"


def numeric_names(name: str, schema: Any, left_out: Sequence[str] = ()) -> list[str]:
    """Names of the columns to model, all of which must be numbers.

    Raises:
        DataError: for columns of another kind, with what they hold, and for two columns of one name.
    """
    fields = [field for field in schema if field.name not in left_out]
    wrong = [(field.name, kind_words(field.type)) for field in fields if kind_words(field.type)]
    if wrong:
        each = [f"{words} in {column!r}" for column, words in wrong]
        advice = "Drop those columns, encode them as numbers, or make one the --condition."
        if any(words == "lists" for _, words in wrong):
            advice = "Save an array [N, D] as .npy in place of a column of lists, or drop those columns."
        raise DataError(f"{name}: all columns must be numbers; got {listed(each)}. {advice}")
    if not fields:
        raise DataError(f"{name}: no columns are left to model beside the condition. Add columns of numbers.")
    names = [str(field.name) for field in fields]
    double = sorted({n for n in names if names.count(n) > 1})
    if double:
        raise DataError(
            f"{name}: every column must have a name of its own; got {listed(double)} more than once. Rename them."
        )
    return names


def unknown_columns(name: str, names: Iterable[str], request: Request) -> list[str]:
    """Columns that a trained model does not know, which are left out; none for data to train on.

    Raises:
        DataError: if columns that it knows are missing.
    """
    trained, conditions = request.trained, request.options.conditions
    if trained is None or not trained.is_named:
        return []
    given = list(names)
    if len(given) == len(trained.columns) == 1:  # the only column may have another name
        return []
    require_columns(name, given, trained.columns)
    return [column for column in given if column not in trained.columns and column not in conditions]


def may_hold_index(names: Sequence[str]) -> bool:
    """Tell whether the first column has no name, as a data frame writes its index."""
    return len(names) > 1 and (names[0] == "" or names[0].startswith("Unnamed: 0"))


def index_column(name: str, first: Any, names: Sequence[str]) -> tuple[str, str] | None:
    """The column in which a data frame wrote its index, and a note; `None` if there is none.

    Args:
        name: name of the data.
        first: values of the first column, where they are few enough to look at.
        names: names of all columns.
    """
    if not may_hold_index(names):
        return None
    values = np.asarray(first)
    is_text = values.dtype.kind in "OU" and all(isinstance(value, str) for value in values.tolist())
    is_whole = values.dtype.kind in "iuf" and bool((values == np.rint(values)).all())
    if not (is_text or is_whole) or len(set(values.tolist())) < len(values):
        return None
    told = "numbers the rows in {}: left out as an index"
    if is_text:
        told = "holds a word of its own for each row in {}: left out as names of the rows"
    return names[0], f"the first column has no name and {told.format(name)}"


def index_levels(names: Iterable[str]) -> list[str]:
    """Columns in which pandas stored an index without a name."""
    return [name for name in names if name.startswith("__index_level_")]


def units_of(schema: Any) -> dict[str, str]:
    """Unit of each column whose field says it."""
    return {
        field.name: field.metadata[UNIT].decode("utf-8", "replace")
        for field in schema
        if field.metadata and UNIT in field.metadata
    }


def numbers(name: str, columns: Sequence[Any], names: Sequence[str]) -> Array:
    """Columns side by side `[N, D]`: integers if all are and none is missing, else float64 with NaN for what is missing."""
    import pyarrow.types as pt

    whole = all((pt.is_integer(c.type) or pt.is_boolean(c.type)) and not c.null_count for c in columns)
    if whole:
        plain = [_plain(c) for c in columns]
        for title, values in zip(names, plain, strict=True):
            if len(values) and max(abs(int(values.min())), abs(int(values.max()))) > EXACT:
                raise too_large(name, title)
        return np.stack([values.astype(np.int64) for values in plain], axis=1)
    found = []
    for column, title in zip(columns, names, strict=True):
        values = _plain(column).astype(np.float64)
        if pt.is_integer(column.type) and len(values) and np.nanmax(np.abs(values), initial=0.0) > EXACT:
            raise too_large(name, title)
        found.append(values)
    return np.stack(found, axis=1)


def too_large(name: str, title: str) -> DataError:
    """Error for integers whose last digits float64 cannot hold."""
    return DataError(
        f"{name}: integers must be at most 2^53 in size, as float64 holds no more digits; the column {title!r} has larger ones. Subtract "
        "a constant, or drop it if it is an identifier."
    )


def resolution_of_columns(schema: Any, names: Sequence[str]) -> float | None:
    """Relative spacing of the coarsest floats among some columns; `None` where all are float64 or integers."""
    import pyarrow as pa

    eps = {pa.float16(): 2.0**-10, pa.float32(): 2.0**-23}
    found = [eps[field.type] for field in schema if field.name in names and field.type in eps]
    return max(found, default=None)


def _plain(column: Any) -> Array:
    import pyarrow as pa
    import pyarrow.types as pt

    if pt.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pt.is_null(column.type):
        return np.full(len(column), np.nan)
    if pt.is_boolean(column.type):
        column = column.cast(pa.uint8())
    found: Array = column.to_numpy() if hasattr(column, "num_chunks") else column.to_numpy(zero_copy_only=False)
    return found


def labels_of(name: str, column: Any, condition: str) -> Array:
    """A column as labels: text or numbers.

    Raises:
        DataError: if values are missing.
    """
    import pyarrow.types as pt

    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values: Array = column.to_numpy() if hasattr(column, "num_chunks") else column.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "O":
        values = np.array(["" if v is None else str(v).strip() for v in values])
    missing = max(column.null_count, int((values == "").sum()) if values.dtype.kind == "U" else 0)
    if missing:
        raise DataError(
            f"{name}: the condition {condition!r} must have no missing values; {missing:,} of {len(values):,} are. Drop or fill these rows."
        )
    return values


def require_column(name: str, known: Iterable[str], condition: str) -> None:
    """Raise `DataError` unless the condition is a column."""
    names = list(map(str, known))
    if condition not in names:
        raise DataError(f"{name} has no column {condition!r} for the condition; it has {listed(names, 10)}.")


def grouped(files: Sequence[Path], root: Path) -> tuple[dict[Part, list[Path]], list[str]]:
    """Files of a table by part, as their names or folders tell; and notes."""

    def told(file: Path) -> Part | None:
        return part_of(file.name) or (part_of(file.parent.name) if file.parent != root and root.is_dir() else None)

    groups: dict[Part, list[Path]] = {}
    for file in files:
        groups.setdefault(told(file) or "all", []).append(file)
    if len(files) == 1:
        return {"all": list(files)}, []
    if "train" not in groups:
        return {"all": list(files)}, [
            f"{counted(len(files), 'file')} were read as one table: {listed([f.name for f in files], 3)}"
        ]
    notes = []
    if "all" in groups:
        notes.append(
            f"files whose names tell no part were added to the training set: {listed([f.name for f in groups['all']], 3)}"
        )
        groups["train"] += groups.pop("all")
    return groups, notes


def through_cache(
    key: str, groups: dict[Part, list[Path]], blocks: Any, facts: Any
) -> tuple[dict[Part, Array], dict[str, Any]]:
    """Parts of a table, written to the cache once."""
    if not _cache.has(key):
        _cache.write(key, {part: blocks(files) for part, files in groups.items()}, facts)
    arrays, extra = _cache.read(key)
    return {part: arrays[part] for part in groups if part in arrays}, extra


def stacked(name: str, batches: Iterator[Any], names: Sequence[str]) -> Iterator[Array]:
    """Blocks of rows of the named columns."""
    for batch in batches:
        yield numbers(name, [batch.column(title) for title in names], names)
