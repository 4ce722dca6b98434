"""CSV files of any dialect."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, first_line
from .. import _cache
from .._layout import EXACT
from .._registry import reads_files
from .._scan import has_missing
from .._source import Array, Part, Raw, Request, listed
from ..tables._cells import LEADING_ZERO, MISSING
from ._arrow import (
    grouped,
    index_column,
    labels_of,
    may_hold_index,
    numeric_names,
    require_column,
    stacked,
    through_cache,
    too_large,
    unknown_columns,
)
from ._dialect import BLOCK, COMMENT, COMPRESSED, SEPARATORS, THOUSANDS, Dialect, dialect_of, open_text
from ._labels import labelled
from ._mixed import joined_tables, needs_types, read_mixed, trained_to_miss

SUFFIXES = (".csv", ".tsv", ".tab", ".dat")
PLAIN = ".txt"  # read where its lines hold numbers
SHOWN = 8  # lines of a text file that are looked at
MANY = 4096  # lines that are cleaned at once


def _suffix(file: Path) -> str:
    """Suffix of a file, without that of its packing."""
    return (file.with_suffix("") if file.suffix.lower() in COMPRESSED else file).suffix.lower()


def _is_csv(file: Path) -> bool:
    return _suffix(file) in SUFFIXES


def _is_text_of_numbers(file: Path) -> bool:
    """Tell whether the first lines of a text file, but for one of names, hold numbers alone."""
    if _suffix(file) != PLAIN:
        return False
    try:
        with open_text(file, "utf-8") as text:
            lines = list(itertools.islice(text, SHOWN))[1:]
        cells = [cell.strip('"') for line in lines for cell in re.split(r"[,;\t| ]+", line.strip()) if cell]
        return bool([float(cell) for cell in cells])
    except (OSError, EOFError, ValueError):
        return False


@reads_files("plain-text tables", (PLAIN,), rank=90, accepts=_is_text_of_numbers)
@reads_files("CSV files", SUFFIXES, rank=40, accepts=_is_csv)
def read_csv(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """CSV files of one table."""
    groups, notes = grouped(files, root)
    known = request.trained.columns if request.trained is not None and request.trained.is_named else ()
    dialects = {file: dialect_of(file, _header(request), known) for file in files}
    first = dialects[files[0]]
    _require_own_names(files[0].name, first.names)
    left_out = list(request.options.conditions)
    left_out += [first.empty] if first.empty is not None else []
    for condition in request.options.conditions:
        require_column(files[0].name, first.names, condition)
    is_named = first.has_header
    if is_named:
        unknown = [c for c in unknown_columns(files[0].name, first.names, request) if c not in left_out]
        left_out += unknown
        if unknown:
            named = [name or "the one without a name" for name in unknown]
            notes.append(f"columns that the model does not know left out: {listed(named)}")
    table = _opened(files[0], first)
    for name, note in _index_of(files[0], first, left_out):
        left_out.append(name)
        notes.append(note)
    if needs_types(table.schema, request, left_out):
        _require_no_thousands(files[0].name, first, request, left_out)
        return _mixed(groups, root, request, dialects, left_out, notes)
    names = numeric_names(files[0].name, table.schema, left_out)
    folder = root if root.is_dir() else root.parent
    options = {"columns": names, "parts": list(groups), "header": request.options.header}
    key = _cache.hash_files(files, folder, named=len(files) > 1, kind="csv", **options)

    def blocks(members: Sequence[Path]) -> Iterator[Array]:
        for file in members:
            yield from _blocks(file, dialects[file], names, left_out)

    parts, _ = through_cache(key, groups, blocks, dict)
    if not parts:
        raise DataError(f"{root} holds no rows. Check the files.")
    if trained_to_miss(request) and any(map(has_missing, parts.values())):
        return _mixed(groups, root, request, dialects, left_out, notes)
    notes += [note for file in files for note in dialects[file].notes]
    raw = Raw(str(root), parts, key, tuple(names) if is_named else (), first.units, notes=tuple(dict.fromkeys(notes)))
    return _conditioned(raw, groups, dialects, request)


def _header(request: Request) -> bool | None:
    """Whether there is a line of names, as far as it is known: rows for a model of words without names have none either."""
    trained = request.trained
    is_unnamed = trained is not None and trained.is_mixed and not trained.is_named
    return False if is_unnamed and request.options.header is None else request.options.header


def _require_own_names(file: str, names: Sequence[str]) -> None:
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise DataError(
            f"{file}: each column must have a name of its own; got several called {listed(double)}. Rename them."
        )


def _conditioned(raw: Raw, groups: dict[Part, list[Path]], dialects: dict[Path, Dialect], request: Request) -> Raw:
    """The table with the labels of its conditions."""
    for condition in request.options.conditions:
        labels: dict[Part, Array] = {
            part: np.concatenate([_labels(file, dialects[file], condition) for file in members])
            for part, members in groups.items()
        }
        raw = labelled(raw, labels, request.options, condition)
    return raw


def _mixed(
    groups: dict[Part, list[Path]],
    root: Path,
    request: Request,
    dialects: dict[Path, Dialect],
    left_out: Sequence[str],
    notes: Sequence[str],
) -> Raw:
    """A table of mixed columns, every cell of which is read as text first, so that a late word changes no type."""
    import pyarrow as pa

    def table_of(file: Path) -> Any:
        kinds = {name: pa.string() for name in dialects[file].names}
        reader = _opened(file, dialects[file], kinds)
        try:
            found = reader.read_all()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(file, dialects[file], error) from error
        last = dialects[file].empty
        return found if last is None or any(found.column(last).to_pylist()) else found.drop_columns([last])

    tables = {
        part: joined_tables({file.name: table_of(file) for file in files}, request) for part, files in groups.items()
    }
    if not sum(map(len, tables.values())):
        raise DataError(f"{root} holds no rows. Check the files.")
    first = dialects[next(iter(dialects))]
    raw = read_mixed(str(root), tables, request, left_out, first.decimal)
    said = [note for file in dialects for note in dialects[file].notes]
    raw = replace(
        raw,
        is_named=first.has_header,
        separator=first.separator,
        notes=tuple(dict.fromkeys((*notes, *said, *raw.notes))),
    )
    return _conditioned(raw, groups, dialects, request)


def _require_no_thousands(name: str, dialect: Dialect, request: Request, left_out: Sequence[str]) -> None:
    """Raise `DataError` for numbers with separators of thousands, which would be taken for words, unless a type was asked for."""
    if dialect.thousands is None or dialect.thousands[0] in (*left_out, *(request.options.columns or ())):
        return
    column, value = dialect.thousands
    raise DataError(
        f"{name}: the column {column!r} holds numbers with separators of thousands ({value}). Write them without."
    )


# -- the numbers


def _opened(file: Path, dialect: Dialect, kinds: Any = None, only: Sequence[str] = ()) -> Any:
    """A reader of batches, of some columns or all; all numbers as float64, whatever the first block holds."""
    import pyarrow as pa
    import pyarrow.csv as pv

    as_it_is, guesses = _is_plain(dialect), kinds is None
    encoding = dialect.encoding if as_it_is and dialect.encoding != "utf-8-sig" else "utf-8"
    skip = dialect.skip if as_it_is else 0

    def opened(types: Any) -> Any:
        return pv.open_csv(
            pa.input_stream(str(file), compression="detect") if as_it_is else _Plain(file, dialect),
            pv.ReadOptions(column_names=list(dialect.names), skip_rows=skip, block_size=BLOCK, encoding=encoding),
            pv.ParseOptions(delimiter=dialect.separator),
            pv.ConvertOptions(
                decimal_point=dialect.decimal,
                column_types=types,
                strings_can_be_null=guesses,
                include_columns=list(only),
            ),
        )

    try:
        guessed = opened({}).schema if kinds is None else None
        if guessed is not None:
            number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
            kinds = {f.name: pa.float64() for f in guessed if any(is_kind(f.type) for is_kind in number)}
        return opened(kinds)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(file, dialect, error) from error


class _Plain(io.RawIOBase):
    """A file's lines as UTF-8, without comments and blank lines, and with one blank where blanks part the columns."""

    def __init__(self, file: Path, dialect: Dialect) -> None:
        self.lines = self._told(file, dialect)
        self.left = b""

    @staticmethod
    def _told(file: Path, dialect: Dialect) -> Iterator[bytes]:
        with open_text(file, dialect.encoding) as text:
            for line in itertools.islice(text, dialect.skip, None):
                if line.strip() and not line.startswith(COMMENT):
                    yield (" ".join(line.split()) + "\n" if dialect.separator == " " else line).encode()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self.left) < len(buffer) and (lines := b"".join(itertools.islice(self.lines, MANY))):
            self.left += lines
        count = min(len(buffer), len(self.left))
        buffer[:count], self.left = self.left[:count], self.left[count:]
        return count


def _is_plain(dialect: Dialect) -> bool:
    """Tell whether Arrow can read the file as it is."""
    return dialect.separator != " " and not dialect.has_comments


def _unreadable(file: Path, dialect: Dialect, error: Exception) -> DataError:
    """A message that names what the reader stumbled over."""
    advice = ""
    value = re.search(r"invalid value '([^']*)'", str(error))
    if value and THOUSANDS.match(value.group(1).strip()):
        advice = " Write numbers without separators of thousands."
    return DataError(
        f"{file} cannot be read (columns parted by {SEPARATORS[dialect.separator]}): {first_line(error, 200)}{advice}"
    )


def _batches(file: Path, dialect: Dialect) -> Iterator[Any]:
    import pyarrow as pa

    reader = _opened(file, dialect)
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(file, dialect, error) from error
        yield batch


def _blocks(file: Path, dialect: Dialect, names: Sequence[str], left_out: Sequence[str]) -> Iterator[Array]:
    import pyarrow.types as pt

    whole = [
        names.index(f.name) for f in _opened(file, dialect, {}).schema if pt.is_integer(f.type) and f.name in names
    ]
    here = numeric_names(file.name, _opened(file, dialect).schema, left_out)
    if sorted(here) != sorted(names):
        raise DataError(
            f"{file.name} must have the columns of the other files, {listed(list(names))}; got {listed(here)}."
        )
    for block in stacked(file.name, _without_stray(file, dialect), names):
        large = [names[i] for i in whole if np.nanmax(np.abs(block[:, i]), initial=0.0) > EXACT]
        if large:
            raise too_large(file.name, large[0])
        yield block


def _without_stray(file: Path, dialect: Dialect) -> Iterator[Any]:
    """The batches; refused where the column that ends all lines empty is not empty after all."""
    for batch in _batches(file, dialect):
        if dialect.empty is not None and batch.column(dialect.empty).null_count < batch.num_rows:
            raise DataError(
                f"{file} cannot be read: its first lines end in a separator, and a later one holds a value after it. Name that column, or "
                "remove the value."
            )
        yield batch


def _index_of(file: Path, dialect: Dialect, left_out: Sequence[str]) -> Iterator[tuple[str, str]]:
    if not dialect.has_header or dialect.names[0] in left_out or not may_hold_index(dialect.names):
        return
    batches = [batch.column(0).to_numpy(zero_copy_only=False) for batch in _batches(file, dialect)]
    found = index_column(file.name, np.concatenate(batches) if batches else [], dialect.names)
    if found is not None:
        yield found


def _labels(file: Path, dialect: Dialect, condition: str) -> Array:
    """The column of the condition: whole numbers as integers, as they are written."""
    import pyarrow as pa

    require_column(file.name, dialect.names, condition)
    text = _opened(file, dialect, {condition: pa.string()}, [condition]).read_all().column(condition)
    if any(LEADING_ZERO.match(word.strip()) and word.strip().isdigit() for word in text.unique().to_pylist()):
        words = [word.strip() for word in text.to_pylist()]
        known = pa.array(["" if word.lower() in MISSING else word for word in words])
        return labels_of(file.name, known, condition)
    column = pa.chunked_array([batch.column(condition) for batch in _batches(file, dialect)])
    values = labels_of(file.name, column, condition)
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        return values.astype(np.int64)
    return values
