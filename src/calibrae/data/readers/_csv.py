"""CSV files of any dialect: separator, decimal sign, encoding and header are found, and said where they are not the usual ones."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, first_line
from .. import _cache
from .._layout import EXACT
from .._registry import reads_files
from .._source import Array, Part, Raw, Request, listed
from ._arrow import (
    grouped,
    index_column,
    labels_of,
    numeric_names,
    require_column,
    stacked,
    through_cache,
    too_large,
    unknown_columns,
)
from ._labels import labelled

BLOCK = 1 << 24  # bytes read at once
MISSING = frozenset({"", "?", "-", "na", "n/a", "nan", "null", "none"})  # marks of what is missing, which are no names
LOOKED_AT = 100  # lines that the dialect is found from
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
DECIMAL_COMMA = re.compile(r"^[+-]?\d*,\d+([eE][+-]?\d+)?$")
THOUSANDS = re.compile(r"^[+-]?\d{1,3}([.,' ]\d{3})+([.,]\d+)?$")


@dataclass(frozen=True)
class _Dialect:
    """How a file is written.

    Attributes:
        encoding: encoding of its text.
        separator: between cells.
        decimal: sign of a decimal fraction.
        names: names of the columns.
        has_header: whether the first line holds them.
        notes: whatever is not usual.
        skipped: blank lines, and a line `sep=;`, before the first.
    """

    encoding: str
    separator: str
    decimal: str
    names: tuple[str, ...]
    has_header: bool
    notes: tuple[str, ...]
    skipped: int = 0


@reads_files("CSV files", (".csv", ".tsv", ".tab", ".dat"), rank=40)
def read_csv(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """CSV files of one table."""
    condition = request.options.condition
    groups, notes = grouped(files, root)
    known = request.trained.columns if request.trained is not None and request.trained.is_named else ()
    dialects = {file: _dialect(file, request.options.header, known) for file in files}
    first = dialects[files[0]]
    left_out = [condition] if condition is not None else []
    if condition is not None:
        require_column(files[0].name, first.names, condition)
    is_named = first.has_header
    if is_named:
        unknown = unknown_columns(files[0].name, first.names, request)
        left_out += unknown
        if unknown:
            notes.append(f"columns that the model does not know left out: {listed(unknown)}")
    table = _opened(files[0], first)
    for name, note in _index_of(files[0], first, left_out):
        left_out.append(name)
        notes.append(note)
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
    notes += [note for file in files for note in dialects[file].notes]
    raw = Raw(str(root), parts, key, tuple(names) if is_named else (), notes=tuple(dict.fromkeys(notes)))
    if condition is None:
        return raw
    labels: dict[Part, Array] = {
        part: np.concatenate([_labels(file, dialects[file], condition) for file in members])
        for part, members in groups.items()
    }
    return labelled(raw, labels, request.options, condition)


# -- the dialect


def _dialect(file: Path, header: bool | None, known: Sequence[str] = ()) -> _Dialect:
    """Find how a file is written.

    Raises:
        DataError: if it is empty or binary.
    """
    encoding, notes = _encoding(file)
    try:
        with file.open(encoding=encoding, newline="") as stream:
            head = list(itertools.islice(stream, LOOKED_AT))
    except (OSError, UnicodeError) as error:
        raise DataError(f"{file} cannot be read: {first_line(error, 200)}") from error
    skipped = sum(1 for _ in itertools.takewhile(_says_nothing, head))
    lines = [line for line in head[skipped:] if line.strip()]
    if not lines:
        raise DataError(f"{file} is empty. Check the file.")
    if any("\0" in line for line in lines):
        raise DataError(f"{file} cannot be read as a CSV: it holds null bytes. Save it as text in UTF-8.")
    separator = _separator(lines)
    rows = _cells(lines, separator)
    decimal = "," if separator != "," and _uses_decimal_comma(rows) else "."
    if separator not in ",\t":
        notes.append(f"columns parted by {SEPARATORS[separator]}")
    if decimal == ",":
        notes.append("numbers with a decimal comma")
    has_header, said = _has_header(rows, decimal, header, known)
    notes.extend(said)
    names = _names(rows[0]) if has_header else tuple(f"column {i + 1}" for i in range(len(rows[0])))
    return _Dialect(encoding, separator, decimal, names, has_header, tuple(notes), skipped)


def _encoding(file: Path) -> tuple[str, list[str]]:
    try:
        with file.open("rb") as stream:
            head = stream.read(4)
            for mark, name in MARKS:
                if head.startswith(mark):
                    return name, [] if name == "utf-8-sig" else ["text in UTF-16"]
            stream.seek(0)
            decoder = codecs.getincrementaldecoder("utf-8")()
            while content := stream.read(BLOCK):
                decoder.decode(content)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "latin-1", ["text that is not UTF-8: read as Latin-1"]
    except OSError as error:
        raise DataError(f"{file} cannot be read: {first_line(error, 200)}") from error
    return "utf-8", []


def _separator(lines: Sequence[str]) -> str:
    """The separator that cuts the lines into the most cells, as many in each."""

    def width(separator: str) -> tuple[bool, int]:
        counts = {len(row) for row in _cells(lines, separator)}
        return len(counts) == 1, min(counts)

    even = {separator: width(separator) for separator in SEPARATORS}
    several = [separator for separator in SEPARATORS if even[separator][0] and even[separator][1] > 1]
    if several:
        # commas inside numbers cut as evenly as separators do: a separator that leaves decimal commas whole goes first
        strong = [s for s in several if s != "," and _uses_decimal_comma(_cells(lines, s))]
        return strong[0] if strong else several[0]
    return max(",;\t", key=lines[0].count)


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    if separator == " ":
        return [line.split() for line in lines]
    try:
        rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
    except csv.Error:
        rows = []
    return [[cell.strip() for cell in row] for row in rows] or [[line.strip()] for line in lines]


def _uses_decimal_comma(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell for row in rows[1:] or rows for cell in row]
    return any(DECIMAL_COMMA.match(cell) for cell in cells) and not any(
        "." in cell and _is_number(cell, ".") for cell in cells
    )


def _is_number(cell: str, decimal: str) -> bool:
    try:
        float(cell.replace(decimal, ".") if decimal != "." else cell)
    except ValueError:
        return False
    return True


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lower().startswith("sep=")


def _has_header(
    rows: Sequence[Sequence[str]], decimal: str, asked: bool | None, known: Sequence[str]
) -> tuple[bool, list[str]]:
    """Whether the first line holds names, and notes where that is a guess."""
    first = rows[0]
    if asked is not None:
        return asked, []
    if known and set(known) <= set(first):  # the names that a model was trained on
        return True, []
    told = [cell for cell in first if cell.lower() not in MISSING]
    if not all(_is_number(cell, decimal) for cell in told) or not told:
        return True, []
    shown = listed(list(first), 3)
    whole = [int(cell) for cell in first if re.fullmatch(r"\d+", cell)]
    if len(whole) == len(first) > 1 and _counts(whole):
        return True, [f"the first line counts ({shown}): read as names (--no-header says otherwise)"]
    return False, [f"the first line holds numbers ({shown}): read as an example (--header says otherwise)"]


def _counts(whole: Sequence[int]) -> bool:
    """Tell whether whole numbers count up by one: from 0, as pandas writes columns without names, or over three columns and more."""
    in_order = list(whole) == list(range(whole[0], whole[0] + len(whole)))
    return in_order and (whole[0] == 0 or len(whole) > 2)


def _names(first: Sequence[str]) -> tuple[str, ...]:
    names = [cell.strip() for cell in first]
    return (names[0].removeprefix("#").strip(), *names[1:])


# -- the numbers


def _opened(file: Path, dialect: _Dialect, kinds: Any = None) -> Any:
    """A reader of batches; all numbers as float64, whatever the first block holds."""
    import pyarrow as pa
    import pyarrow.csv as pv

    def opened(types: Any) -> Any:
        return pv.open_csv(
            _stream(file, dialect),
            pv.ReadOptions(
                column_names=list(dialect.names), skip_rows=int(dialect.has_header) + (0 if dialect.separator == " " else dialect.skipped), block_size=BLOCK,
                encoding="utf-8" if dialect.encoding == "utf-8-sig" or dialect.separator == " " else dialect.encoding,
            ),
            pv.ParseOptions(delimiter=dialect.separator),
            pv.ConvertOptions(decimal_point=dialect.decimal, column_types=types, strings_can_be_null=True),
        )  # fmt: skip

    try:
        guessed = opened({}).schema if kinds is None else None
        if guessed is not None:
            number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
            kinds = {f.name: pa.float64() for f in guessed if any(is_kind(f.type) for is_kind in number)}
        return opened(kinds)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(file, dialect, error) from error


def _stream(file: Path, dialect: _Dialect) -> Any:
    """The file itself; where blanks part the columns, with one between two of them."""
    if dialect.separator != " ":
        if dialect.encoding == "utf-8-sig":
            stream = file.open("rb")
            stream.read(len(codecs.BOM_UTF8))
            return stream
        return str(file)
    with file.open(encoding=dialect.encoding) as text:
        return io.BytesIO("\n".join(" ".join(line.split()) for line in text if line.strip()).encode())


def _unreadable(file: Path, dialect: _Dialect, error: Exception) -> DataError:
    """A message that names what the reader stumbled over."""
    advice = ""
    value = re.search(r"invalid value '([^']*)'", str(error))
    if value and THOUSANDS.match(value.group(1).strip()):
        advice = " Write numbers without separators of thousands."
    return DataError(
        f"{file} cannot be read (columns parted by {SEPARATORS[dialect.separator]}): {first_line(error, 200)}{advice}"
    )


def _batches(file: Path, dialect: _Dialect) -> Iterator[Any]:
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


def _blocks(file: Path, dialect: _Dialect, names: Sequence[str], left_out: Sequence[str]) -> Iterator[Array]:
    import pyarrow.types as pt

    whole = [
        names.index(f.name) for f in _opened(file, dialect, {}).schema if pt.is_integer(f.type) and f.name in names
    ]
    here = numeric_names(file.name, _opened(file, dialect).schema, left_out)
    if sorted(here) != sorted(names):
        raise DataError(
            f"{file.name} must have the columns of the other files, {listed(list(names))}; got {listed(here)}."
        )
    for block in stacked(file.name, _batches(file, dialect), names):
        large = [names[i] for i in whole if np.nanmax(np.abs(block[:, i]), initial=0.0) > EXACT]
        if large:
            raise too_large(file.name, large[0])
        yield block


def _index_of(file: Path, dialect: _Dialect, left_out: Sequence[str]) -> Iterator[tuple[str, str]]:
    if (
        not dialect.has_header
        or dialect.names[0] in left_out
        or not (dialect.names[0] == "" or dialect.names[0].startswith("Unnamed: 0"))
    ):
        return
    batches = [batch.column(0).to_numpy(zero_copy_only=False) for batch in _batches(file, dialect)]
    found = index_column(file.name, np.concatenate(batches) if batches else [], dialect.names)
    if found is not None:
        yield found


def _labels(file: Path, dialect: _Dialect, condition: str) -> Array:
    """The column of the condition: whole numbers as integers, as they are written."""
    import pyarrow as pa

    require_column(file.name, dialect.names, condition)
    column = pa.chunked_array([batch.column(condition) for batch in _batches(file, dialect)])
    values = labels_of(file.name, column, condition)
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        return values.astype(np.int64)
    return values
