"""Parquet files: numeric columns make a table, a column of encoded images makes pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, first_line
from .. import _cache
from .._registry import reads_files
from .._scan import has_missing
from .._source import LABEL, Array, Part, Raw, Request, counted, listed
from ._arrow import (
    grouped,
    index_column,
    index_levels,
    labels_of,
    may_hold_index,
    numeric_names,
    require_column,
    resolution_of_columns,
    stacked,
    through_cache,
    units_of,
    unknown_columns,
)
from ._labels import labelled
from ._mixed import joined_tables, needs_types, read_mixed, trained_to_miss
from ._pictures import MAGIC, Openers, decode, open_bytes

ROWS = 16_384
IMAGE_ROWS = 512


@reads_files("Parquet files", (".parquet", ".pq"), rank=30)
def read_parquet(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """Parquet files of one table, or of pictures."""
    groups, notes = grouped(files, root)
    schema = reading(files[0], _schema)
    column = image_column(files[0], schema)
    raw = _pictures(files, groups, root, column, request) if column else _table(files, groups, root, request)
    for condition in request.options.conditions:
        raw = _with_column(raw, condition, groups, request, is_picture=bool(column))
    if column:
        with suppress(DataError, TypeError, ValueError):  # labels that nobody asked for need not be whole
            if LABEL in schema.names and LABEL not in raw.labels:
                raw = _with_column(raw, LABEL, groups, request, is_picture=True)
        others = [name for name in schema.names if name not in (column, *raw.labels)]
        left = f"pictures of the column {column!r} were read; {counted(len(others), 'other column')} left out"
        notes += [left] if others else []
    return replace(raw, notes=(*notes, *raw.notes))


def _with_column(raw: Raw, name: str, groups: dict[Part, list[Path]], request: Request, *, is_picture: bool) -> Raw:
    """A column as labels of the examples."""
    labels = {part: np.concatenate([_column(file, name) for file in those]) for part, those in groups.items()}
    if is_picture:  # rows whose pictures are broken were left out
        labels = {part: values[_kept_rows(groups[part], raw.names.get(part, ()))] for part, values in labels.items()}
    return labelled(raw, labels, request.options, name)


def _kept_rows(files: Sequence[Path], names: Sequence[str]) -> Array:
    """Which rows of some files were decoded."""
    import pyarrow.parquet as pq

    known = set(names)
    rows = (f"{file.name} row {i}" for file in files for i in range(reading(file, pq.read_metadata).num_rows))
    return np.array([row in known for row in rows])


def _schema(file: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_schema(file)


def reading(file: Path, read: Any) -> Any:
    import pyarrow as pa

    try:
        return read(file)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DataError(f"{file} cannot be read: {first_line(error, 200)} Fetch or write it again.") from error


def _column(file: Path, name: str) -> Array:
    import pyarrow.parquet as pq

    require_column(file.name, reading(file, _schema).names, name)
    return labels_of(file.name, reading(file, lambda f: pq.read_table(f, columns=[name])).column(0), name)


def _table(files: Sequence[Path], groups: dict[Part, list[Path]], root: Path, request: Request) -> Raw:
    schema = reading(files[0], _schema)
    left_out, notes = left_out_of(files[0], schema, request)
    if needs_types(schema, request, left_out):
        return _mixed(groups, root, request, left_out, notes)
    names = numeric_names(files[0].name, schema, left_out)
    folder = root if root.is_dir() else root.parent
    options = {"kind": "parquet", "columns": names, "parts": list(groups)}
    key = _cache.hash_files(files, folder, named=len(files) > 1, **options)
    parts, _ = through_cache(key, groups, lambda members: _blocks(members, names, left_out), dict)
    if not parts:
        raise DataError(f"{root} holds no rows. Check the files.")
    if trained_to_miss(request) and any(map(has_missing, parts.values())):
        return _mixed(groups, root, request, left_out, notes)
    resolution = resolution_of_columns(schema, names)
    return Raw(str(root), parts, key, tuple(names), units_of(schema), notes=tuple(notes), resolution=resolution)


def _mixed(
    groups: dict[Part, list[Path]], root: Path, request: Request, left_out: Sequence[str], notes: Sequence[str]
) -> Raw:
    """A table of mixed columns."""
    import pyarrow.parquet as pq

    tables = {
        part: joined_tables({file.name: reading(file, pq.read_table) for file in files}, request)
        for part, files in groups.items()
    }
    raw = read_mixed(str(root), tables, request, left_out)
    return replace(raw, notes=(*notes, *raw.notes))


def left_out_of(file: Path, schema: Any, request: Request) -> tuple[list[str], list[str]]:
    """Columns that are not modelled: the condition, an index, what a trained model does not know; and notes."""
    import pyarrow.parquet as pq

    notes: list[str] = []
    left_out = list(request.options.conditions)
    for condition in request.options.conditions:
        require_column(file.name, schema.names, condition)
    unknown = unknown_columns(file.name, schema.names, request)
    levels = index_levels(schema.names)
    left_out += [*unknown, *levels]
    if levels:
        notes.append("the index of a data frame was left out")
    if may_hold_index(schema.names) and schema.names[0] not in left_out:
        first = reading(file, lambda f: pq.read_table(f, columns=schema.names[:1])).column(0)
        index = index_column(file.name, first.to_numpy(), schema.names)
        if index is not None:
            left_out.append(index[0])
            notes.append(index[1])
    if unknown:
        notes.append(f"columns that the model does not know left out: {listed(unknown)}")
    return left_out, notes


def _blocks(files: Sequence[Path], names: list[str], left_out: Sequence[str]) -> Iterator[Array]:
    for file in files:
        here = numeric_names(file.name, reading(file, _schema), left_out)
        if sorted(here) != sorted(names):
            raise DataError(
                f"{file.name} must have the columns of the other files, {listed(names)}; got {listed(here)}."
            )
        yield from stacked(file.name, _batches(file, ROWS), names)


def _batches(file: Path, rows: int, columns: list[str] | None = None) -> Iterator[Any]:
    """A file's rows; of some columns, where they are named."""
    import pyarrow.parquet as pq

    batches = reading(file, lambda f: pq.ParquetFile(f).iter_batches(batch_size=rows, columns=columns))
    while (batch := reading(file, lambda _: next(batches, None))) is not None:
        yield batch


def image_column(file: Path, schema: Any) -> str | None:
    """The first column of encoded images: a struct with bytes, or bytes that begin as image files do."""
    import pyarrow.types as pt

    for field in schema:
        if pt.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
        if (pt.is_binary(field.type) or pt.is_large_binary(field.type)) and _holds_images(file, field.name):
            return str(field.name)
    return None


def _holds_images(file: Path, column: str) -> bool:
    for batch in _batches(file, IMAGE_ROWS, [column]):
        for cell in batch.column(0):
            content = cell.as_py()
            if content:
                return bool(content.startswith(MAGIC) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP"))
    return False


def _pictures(files: Sequence[Path], groups: dict[Part, list[Path]], root: Path, column: str, request: Request) -> Raw:
    folder = root if root.is_dir() else root.parent
    key = _cache.hash_files(files, folder, named=len(files) > 1, kind="pictures", column=column, parts=list(groups))
    parts: dict[Part, Openers] = {part: _cell_openers(members, column) for part, members in groups.items()}
    return decode(str(root), key, parts, request, keep_names=True)


def _cell_openers(files: list[Path], column: str) -> Openers:
    return lambda: (opener for file in files for opener in _image_cells(file, column))


def _image_cells(file: Path, column: str) -> Iterator[Any]:
    row = 0
    for batch in _batches(file, IMAGE_ROWS, [column]):
        for cell in batch.column(0):
            value = cell.as_py()
            content = value["bytes"] if isinstance(value, dict) else value
            yield f"{file.name} row {row}", partial(open_bytes, content or b"")
            row += 1
