"""Files of numbers: IDX, NumPy, Parquet and CSV."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from . import _cache, _pictures
from ._arrays import from_array
from ._mapped import in_memory_if_small
from ._source import Array, DataOptions, Part, Source, part_of, speaks_of_labels

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
ROWS = 16_384
LABEL = "label"  # name of the condition that files or arrays of labels give
IMAGE_ROWS = 512


def read_idx(path: Path) -> Array:
    """One IDX file, compressed or not.

    Raises:
        DataError: if it is not IDX, or shorter than its header says.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES:
        raise DataError(f"{path} is not an IDX file: its first bytes are {content[:4]!r}. Check the file.")
    dims = content[3]
    shape = struct.unpack(f">{dims}I", content[4 : 4 + 4 * dims])
    dtype = np.dtype(IDX_TYPES[content[2]])
    body = content[4 + 4 * dims :]
    if len(body) != int(np.prod(shape)) * dtype.itemsize:
        raise DataError(
            f"{path} is cut short: its header promises {shape}, its body has {len(body)} bytes. Fetch it again."
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def is_idx(path: Path) -> bool:
    """Tell whether the name is that of an IDX file."""
    return path.name.removesuffix(".gz").endswith(("-ubyte", ".idx")) or "-idx" in path.name


def open_idx(files: list[Path], root: Path, options: DataOptions) -> Source:
    """IDX files of pictures whose names tell train from test; files of labels (one dimension) are left out."""
    parts: dict[Part, Array] = {}
    labels: dict[Part, Array] = {}
    for file in files:
        array = read_idx(file)
        if array.ndim == 3:
            array = array[:, None]
        part = (part_of(file.name) or "all") if len(files) > 1 else "all"
        _add_part(parts if array.ndim > 1 else labels, part, array, file.name)
    if not parts:
        raise DataError(f"{root} holds only IDX files of labels. Add the files of images.")
    return _labelled(from_array(str(root), _pool(parts), options), _pool_labels(labels, parts), options)


def _labelled(source: Source, labels: dict[Part, Array], options: DataOptions, name: str = LABEL) -> Source:
    """A source with labels, if the condition asks for them and they belong to its examples."""
    if options.condition != name or not labels:
        return source
    wrong = [part for part, array in source.parts.items() if len(labels.get(part, ())) != len(array)]
    if wrong:
        raise DataError(
            f"{source.name}: there must be one label for each example; the part {wrong[0]} has {len(source.parts[wrong[0]])} examples "
            f"and {len(labels.get(wrong[0], ()))} labels."
        )
    return replace(source, labels={name: {part: labels[part] for part in source.parts}})


def _add_part(parts: dict[Part, Array], part: Part, array: Array, name: str) -> None:
    if part in parts:
        raise DataError(f"{name}: a second array for the part `{part}`. Keep one per part, or pass one file.")
    parts[part] = array


def _pool(parts: dict[Part, Array]) -> dict[Part, Array]:
    """Parts as given, or one pool where there is no training part."""
    if "train" in parts:
        return parts
    return {"all": np.concatenate(list(parts.values()))}


def _pool_labels(labels: dict[Part, Array], parts: dict[Part, Array]) -> dict[Part, Array]:
    """Labels in the order in which the parts of their examples are pooled."""
    return _pool({part: labels[part] for part in parts if part in labels}) if labels.keys() & parts.keys() else labels


def open_numpy(path: Path, options: DataOptions) -> Source:
    """`.npy`, or `.npz` with one array or arrays called `train`, `test`, ... (`x_train`, ... too)."""
    if path.suffix == ".npy":
        return from_array(str(path), {"all": load_numpy(path)}, options)
    arrays = _load_npz(path)
    named: dict[Part, Array] = {}
    labels: dict[Part, Array] = {}
    for key, array in arrays.items():
        part = part_of(key)
        if speaks_of_labels(key) and array.ndim > 0 and array.size == len(array):  # [N], or [N, 1]
            labels[part or "all"] = array.reshape(-1)
            continue
        if part is not None and not speaks_of_labels(key) and array.ndim > 1:
            _add_part(named, part, array, f"{path} ({key})")
    others = [array for key, array in arrays.items() if not speaks_of_labels(key)]
    if not named and len(others) == 1:
        named = {"all": others[0]}
    if not named:
        raise DataError(
            f"{path} must hold one array, or arrays called train, test (x_train, ...); got {', '.join(arrays)}. "
            "Save the one that is meant as .npy."
        )
    return _labelled(from_array(str(path), _pool(named), options), _pool_labels(labels, named), options)


def load_numpy(path: Path) -> Array:
    """One `.npy` file, memory-mapped if it is large."""
    try:
        array: Array = in_memory_if_small(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read as a NumPy file: {error}.") from error
    return array


def _load_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a NumPy file: {error}.") from error


def open_tables(files: list[Path], root: Path, options: DataOptions) -> Source:
    """CSV or Parquet files: numeric columns make a table; a Parquet column of encoded images makes pictures."""
    if files[0].suffix == ".parquet":
        column = _image_column(files[0])
        if column is not None:
            return _open_parquet_pictures(files, root, column, options)
    left_out = [options.condition] if options.condition is not None else []
    key = _cache.hash_files(files, root if root.is_dir() else root.parent, kind="table", left_out=left_out)
    if not _cache.has(key):
        columns = _columns(files[0], left_out)
        blocks = {part: _table_blocks(group, columns, left_out) for part, group in _group(files).items()}
        _cache.write(key, blocks, lambda: {"columns": columns})
    arrays, extra = _cache.read(key)
    if not arrays:
        raise DataError(f"{root} holds no rows. Check the files.")
    parts: dict[Part, Array] = {p: arrays[p] for p in _group(files) if p in arrays}
    source = from_array(str(root), parts, options, columns=tuple(extra["columns"]), fingerprint=key)
    return _with_column(source, _group(files), options)


def _with_column(source: Source, groups: dict[Part, list[Path]], options: DataOptions) -> Source:
    """A source with the column that the condition names."""
    if options.condition is None:
        return source
    labels = {
        part: np.concatenate([_column(file, options.condition) for file in files]) for part, files in groups.items()
    }
    return _labelled(source, labels, options, options.condition)


def _column(file: Path, name: str) -> Array:
    """One column of a table, as text or numbers.

    Raises:
        DataError: if there is no such column, or it has missing values.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _reading(file, pq.read_schema) if file.suffix == ".parquet" else _open_csv(file).schema
    known = schema.names
    if name not in known:
        raise DataError(
            f"{file.name} has no column {name!r} for the condition; it has {', '.join(map(str, known[:10]))}."
        )
    if file.suffix == ".parquet":
        column = _reading(file, lambda f: pq.read_table(f, columns=[name])).column(0)
    else:
        column = pa.chunked_array([batch.column(name) for batch in _open_csv(file)])
    values: Array = column.to_numpy()
    if values.dtype.kind == "O":
        values = np.array(["" if v is None else str(v).strip() for v in values])
    missing = max(column.null_count, int((values == "").sum()) if values.dtype.kind == "U" else 0)
    if missing:
        raise DataError(f"{file.name}: the condition {name!r} must have no missing values; got {missing}.")
    return values


def _group(files: list[Path]) -> dict[Part, list[Path]]:
    groups: dict[Part, list[Path]] = {}
    for file in files:
        groups.setdefault(part_of(file.name) or "all", []).append(file)
    if "train" not in groups:
        return {"all": files}
    if "all" in groups:
        groups["train"] += groups.pop("all")
    return groups


def _image_column(file: Path) -> str | None:
    """The first column of encoded images: bytes, or a struct with bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for field in _reading(file, pq.read_schema):
        is_struct = pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        if is_struct or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            return str(field.name)
    return None


def _reading(file: Path, read: Any) -> Any:
    import pyarrow as pa

    try:
        return read(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error


def _open_parquet_pictures(files: list[Path], root: Path, column: str, options: DataOptions) -> Source:
    folder = root if root.is_dir() else root.parent
    key = _cache.hash_files(
        files,
        folder,
        kind="pictures",
        column=column,
        size=options.size,
        resize=options.resize,
        skip=options.skip_broken,
    )
    parts: dict[Part, _pictures.Openers] = {part: _cell_openers(group, column) for part, group in _group(files).items()}
    source = _pictures.decode(str(root), key, parts, options)
    return _with_column(source, _group(files), options)


def _cell_openers(files: list[Path], column: str) -> _pictures.Openers:
    return lambda: (opener for file in files for opener in _image_cells(file, column))


def _image_cells(file: Path, column: str) -> Iterator[_pictures.Opener]:
    import pyarrow.parquet as pq

    table = _reading(file, pq.ParquetFile)
    row = 0
    for batch in table.iter_batches(batch_size=IMAGE_ROWS, columns=[column]):
        for cell in batch.column(0):
            value = cell.as_py()
            content = value["bytes"] if isinstance(value, dict) else value
            yield f"{file.name} row {row}", partial(_pictures.open_bytes, content or b"")
            row += 1


def _columns(file: Path, left_out: Sequence[str] = ()) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _reading(file, pq.read_schema) if file.suffix == ".parquet" else _open_csv(file).schema
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    schema = [field for field in schema if field.name not in left_out]
    wrong = [f.name for f in schema if not any(is_kind(f.type) for is_kind in numeric) and not pa.types.is_null(f.type)]
    if wrong:
        raise DataError(
            f"{file.name}: all columns must be numbers; got text or dates in {', '.join(map(str, wrong[:5]))}"
            f"{' and more' if len(wrong) > 5 else ''}. Drop those columns, encode them, or make one the --condition."
        )
    if not schema:
        raise DataError(f"{file.name}: no columns are left to model beside the condition. Add columns of numbers.")
    return [str(f.name) for f in schema]


def _open_csv(file: Path) -> Any:
    import pyarrow.csv as pv

    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        first = stream.readline().strip()
    separator = max(",;\t", key=first.count)
    nameless = bool(first) and all(_is_number(cell) for cell in first.split(separator))
    names = [f"column {i + 1}" for i in range(len(first.split(separator)))] if nameless else None
    return _reading(
        file,
        lambda f: pv.open_csv(
            f, pv.ReadOptions(column_names=names, block_size=1 << 24), pv.ParseOptions(delimiter=separator)
        ),
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _table_blocks(files: list[Path], columns: list[str], left_out: Sequence[str]) -> Iterator[Array]:
    import pyarrow.parquet as pq

    for file in files:
        here = _columns(file, left_out)
        if here != columns:
            raise DataError(
                f"{file.name} must have the columns of the other files, {columns[:5]}...; got {here[:5]}..."
            )
        table = _reading(file, pq.ParquetFile) if file.suffix == ".parquet" else None
        batches = iter(table.iter_batches(batch_size=ROWS) if table is not None else _open_csv(file))
        while (batch := _reading(file, lambda _, batches=batches: next(batches, None))) is not None:
            kept = [batch.column(name) for name in columns]
            yield np.stack([c.to_numpy(zero_copy_only=False).astype(np.float64) for c in kept], axis=1)
