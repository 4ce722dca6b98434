"""Dialects of CSV files: encoding, separator, decimal sign, header, units and comments are found, and said where they are unusual."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ...errors import DataError, first_line
from .._source import counted, listed
from ..tables._cells import is_date

BLOCK = 1 << 24  # bytes read at once
COMMENT = "#"
COMPRESSED: Mapping[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".bz2": bz2.open}
MISSING = frozenset({"", "?", "-", "na", "n/a", "nan", "null", "none"})  # marks of what is missing, which are no names
LOOKED_AT = 100  # lines that the dialect is found from
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
UNREADABLE = (OSError, EOFError, UnicodeError, zlib.error)
DECIMAL_COMMA = re.compile(r"^[+-]?\d*,\d+([eE][+-]?\d+)?$")
THOUSANDS = re.compile(r"^[+-]?\d{1,3}([.,' ]\d{3})+([.,]\d+)?$")
LATER_COMMA = re.compile(r"(?<![^;\t| \n\"])[+-]?\d*,\d+(?:[eE][+-]?\d+)?(?=[;\t| \r\n\"]|$)")


@dataclass(frozen=True)
class Dialect:
    """How a file is written.

    Attributes:
        encoding: encoding of its text.
        separator: between cells.
        decimal: sign of a decimal fraction.
        names: names of the columns.
        has_header: whether a line holds them.
        skip: lines before the first example.
        notes: whatever is not usual.
        units: unit of a column by its name, where a second line holds units.
        empty: name of the empty last column, where lines end in a separator.
        thousands: a column of numbers with separators of thousands, and the first of them.
        has_comments: whether there are comments after the first example.
    """

    encoding: str
    separator: str
    decimal: str
    names: tuple[str, ...]
    has_header: bool
    skip: int
    notes: tuple[str, ...]
    units: Mapping[str, str] = field(default_factory=dict)
    empty: str | None = None
    thousands: tuple[str, str] | None = None
    has_comments: bool = False


def open_bytes(file: Path) -> IO[bytes]:
    """A file of text, unpacked where its suffix says that it is packed."""
    found: IO[bytes] = COMPRESSED.get(file.suffix.lower(), open)(file, "rb")
    return found


def open_text(file: Path, encoding: str) -> io.TextIOWrapper:
    """A file's text, with the ends of its lines as they are."""
    return io.TextIOWrapper(open_bytes(file), encoding=encoding, newline="")


def dialect_of(file: Path, header: bool | None, known: Sequence[str] = ()) -> Dialect:
    """Find how a file is written.

    Args:
        file: a CSV file, perhaps packed.
        header: whether it has a line of names; `None` to find out.
        known: names of the columns that a model was trained on.

    Raises:
        DataError: if it is empty or binary.
    """
    encoding, comments, notes = _read_through(file)
    try:
        with open_text(file, encoding) as stream:
            head = list(itertools.islice(stream, LOOKED_AT))
    except UNREADABLE as error:
        raise _unreadable(file, error) from error
    if any("\0" in line for line in head):
        raise DataError(f"{file} cannot be read as a CSV: it holds null bytes. Save it as text in UTF-8.")
    told = [i for i, line in enumerate(head) if not _says_nothing(line)]
    body = [i for i in told if not head[i].startswith(COMMENT)]
    if not body:
        raise DataError(f"{file} is empty. Check the file.")
    separator = _separator([head[i] for i in body])
    rows = _cells([head[i] for i in body], separator)
    decimal = _decimal(file, encoding, separator, rows)
    notes.extend(_unusual(file, separator, decimal))
    titles = _titles(rows, decimal)
    notes.extend(_about_titles(rows[:titles]))
    rows, body = rows[titles:], body[titles:]
    names = _commented_names([head[i] for i in told if i < body[0]], rows[0], separator, decimal, header)
    if names is None:
        has_header, said = _has_header(rows, decimal, header, known)
        notes.extend(said)
        names, rows = (rows[0], rows[1:]) if has_header else ([], rows)
    else:
        has_header, body = True, [body[0] - 1, *body]
        notes.append(f"names of the columns taken from the comment before the first line: {listed(names, 3)}")
        comments -= 1
    if comments:
        notes.append(f"{counted(comments, 'line')} of comments left out")
    units = _units(rows, decimal) if has_header else []
    names, empty, said = _fitted(names, rows)
    notes.extend(said)
    by_name = {name: unit for name, unit in zip(names, units, strict=False) if unit}
    if units:
        rows = rows[1:]
        notes.append(f"the second line holds units ({listed(list(by_name.values()), 3)}): kept as such")
    lines = int(has_header) + bool(units)
    skip = body[lines] if lines < len(body) else body[-1] + 1
    thousands = _thousands(names, rows, decimal)
    later = comments > sum(line.startswith(COMMENT) for line in head[:skip]) - head[body[0]].startswith(COMMENT)
    return Dialect(
        encoding, separator, decimal, tuple(names), has_header, skip, tuple(notes), by_name, empty, thousands, later
    )


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} cannot be read: {first_line(error, 200)}")


def _read_through(file: Path) -> tuple[str, int, list[str]]:
    """Encoding of a file, the number of its comments, and notes; all of it is decoded once."""
    try:
        with open_bytes(file) as stream:
            head = stream.read(4)
        marked = next((name for mark, name in MARKS if head.startswith(mark)), None)
        try:
            encoding = marked or "utf-8"
            return encoding, _count_comments(file, encoding), ["text in UTF-16"] if marked == "utf-16" else []
        except UnicodeDecodeError:
            if marked:
                raise
        return "latin-1", _count_comments(file, "latin-1"), ["text that is not UTF-8: read as Latin-1"]
    except UNREADABLE as error:
        raise _unreadable(file, error) from error


def _count_comments(file: Path, encoding: str) -> int:
    count, before = 0, "\n"
    with open_bytes(file) as stream:
        for text in codecs.iterdecode(iter(lambda: stream.read(BLOCK), b""), encoding):
            if COMMENT in text:
                count += before in "\r\n" and text.startswith(COMMENT)
                count += text.count("\n" + COMMENT) + text.count("\r" + COMMENT)
            before = text[-1]
    return count


# -- separator and decimal sign


def _separator(lines: Sequence[str]) -> str:
    """The separator that cuts the lines into the most cells, as many in each; names may lack the first or the last."""

    def width(separator: str) -> tuple[bool, int]:
        rows = _cells(lines, separator)
        counts = {len(row) for row in rows[1:] or rows}
        return len(counts) == 1 and min(counts) - len(rows[0]) in (0, 1), min(counts)

    even = {separator: width(separator) for separator in SEPARATORS}
    several = [separator for separator in SEPARATORS if even[separator][0] and even[separator][1] > 1]
    if several:
        # commas inside numbers cut as evenly as separators do: a separator that leaves decimal commas whole goes first
        strong = [s for s in several if s != "," and _uses_decimal_comma(_cells(lines, s))]
        return strong[0] if strong else several[0]
    return max(",;\t", key=lines[0].count)


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    if separator == " ":
        return [[cell.strip('"') for cell in line.split()] for line in lines]
    try:
        rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
    except csv.Error:
        rows = []
    return [[cell.strip() for cell in row] for row in rows] or [[line.strip()] for line in lines]


def _decimal(file: Path, encoding: str, separator: str, rows: Sequence[Sequence[str]]) -> str:
    """Sign of a decimal fraction; the whole file is searched where its first lines hold none."""
    if separator == ",":
        return "."
    if _uses_decimal_comma(rows):
        return ","
    if any("." in cell and _is_number(cell, ".") for row in rows for cell in row):
        return "."
    with open_text(file, encoding) as text:
        while lines := text.readlines(BLOCK):
            if LATER_COMMA.search("".join(line for line in lines if not line.startswith(COMMENT))):
                return ","
    return "."


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


def _thousands(names: Sequence[str], rows: Sequence[Sequence[str]], decimal: str) -> tuple[str, str] | None:
    """The first column whose numbers have separators of thousands, and the first such number."""
    for j, name in enumerate(names):
        cells = [row[j] for row in rows if j < len(row) and not _is_number(row[j], decimal)]
        if any(THOUSANDS.match(cell) for cell in cells) and all(
            THOUSANDS.match(cell) or cell.lower() in MISSING for cell in cells
        ):
            return name, next(cell for cell in cells if THOUSANDS.match(cell))
    return None


# -- names, units and comments


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lower().startswith("sep=")


def _unusual(file: Path, separator: str, decimal: str) -> Iterator[str]:
    """Notes on a separator and a decimal sign that are not those of most files with this suffix."""
    is_usual = separator == "," or (separator == "\t" and not file.name.lower().removesuffix(".gz").endswith(".csv"))
    if not is_usual:
        yield f"columns parted by {SEPARATORS[separator]}"
    if decimal == ",":
        yield "numbers with a decimal comma"


def _about_titles(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A note on lines of a title that were left out."""
    if rows:
        told = [" ".join(row).strip() for row in rows]
        yield f"{counted(len(rows), 'line')} of a title left out: {listed(told, 2)}"


def _titles(rows: Sequence[Sequence[str]], decimal: str) -> int:
    """Number of lines of one cell above a line of names, as spreadsheets write the title of a report."""
    width = max(len(row) for row in rows)
    for at, row in enumerate(rows[:-3]):
        cells = [cell for cell in row if cell]
        if len(cells) != 1 or _is_number(cells[0], decimal) or is_date(cells[0]):
            below = rows[at + 2 :]  # a line of units may come first
            is_named = len(row) == width > 1 and all(cell and not _is_number(cell, decimal) for cell in row)
            numbers = any(
                all(len(one) > j and (_is_number(one[j], decimal) or one[j].lower() in MISSING) for one in below)
                for j in range(width)
            )
            return at if is_named and numbers else 0
    return 0


def _commented_names(
    before: Sequence[str], first: Sequence[str], separator: str, decimal: str, asked: bool | None
) -> list[str] | None:
    """Names in the last comment before the first line, as NumPy writes them: as many as there are numbers in that line."""
    if not before or not before[-1].startswith(COMMENT) or asked is False:
        return None
    if not all(_is_number(cell, decimal) or cell.lower() in MISSING for cell in first):
        return None
    cells = _cells([before[-1].lstrip(COMMENT)], separator)[0]
    return cells if len(cells) == len(first) else None


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
    shown = listed(list(first), 3)
    if not all(_is_number(cell, decimal) for cell in told) or not told:
        if _recur(rows, decimal):
            return False, [
                f"the words of the first line ({shown}) come again in their columns: read as an example (--header says otherwise)"
            ]
        return True, []
    whole = [int(cell) for cell in first if re.fullmatch(r"\d+", cell)]
    if len(whole) == len(first) > 1 and _counts(whole):
        return True, [f"the first line counts ({shown}): read as names (--no-header says otherwise)"]
    return False, [f"the first line holds numbers ({shown}): read as an example (--header says otherwise)"]


def _recur(rows: Sequence[Sequence[str]], decimal: str) -> bool:
    """Tell whether most words of the first line stand below it too, each in its own column, as names of columns do not.

    A word above a column of numbers or dates is a name, whatever comes again; a date above dates is none.
    """
    first, *below = rows
    told = [j for j, cell in enumerate(first) if cell.lower() not in MISSING and not _is_number(cell, decimal)]
    dates = [j for j in told if is_date(first[j])]
    words = [j for j in told if j not in dates]
    for j in words:
        cells = [row[j] for row in below if len(row) > j and row[j].lower() not in MISSING]
        if cells and all(_is_number(cell, decimal) or is_date(cell) for cell in cells):
            return False
    if dates and all(is_date(row[j]) for row in below for j in dates if len(row) > j and row[j].lower() not in MISSING):
        return True
    again = [any(len(row) > j and row[j] == first[j] for row in below) for j in words]
    return bool(words) and sum(again) > len(words) / 2


def _counts(whole: Sequence[int]) -> bool:
    """Tell whether whole numbers count up by one: from 0, as pandas writes columns without names, or over three columns and more."""
    in_order = list(whole) == list(range(whole[0], whole[0] + len(whole)))
    return in_order and (whole[0] == 0 or len(whole) > 2)


def _units(rows: Sequence[Sequence[str]], decimal: str) -> list[str]:
    """Units in the first line below the names: words above columns of numbers; none if that line is an example."""
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return []
    below = rows[1:]
    columns = [
        j
        for j in range(len(rows[0]))
        if any(_is_number(row[j], decimal) for row in below)
        and all(_is_number(row[j], decimal) or row[j].lower() in MISSING for row in below)
    ]
    told = [rows[0][j] for j in columns if rows[0][j].lower() not in MISSING]
    if not told or any(_is_number(cell, decimal) for cell in told):
        return []
    return ["" if cell.lower() in MISSING else cell.strip("[]() ") for cell in rows[0]]


def _fitted(names: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], str | None, list[str]]:
    """Names for all cells of a line, the name of an empty last column, and notes.

    Args:
        names: names as the file has them; none where it has none.
        rows: the lines below them.
    """
    width = max((len(row) for row in rows), default=len(names))
    named, notes = list(names) or [f"column {i + 1}" for i in range(width)], []
    ends_empty = width > 1 and bool(rows) and all(len(row) == width and not row[-1] for row in rows)
    if len(named) == width - 1:
        if ends_empty:
            named.append("")
        elif all(len(row) == width for row in rows):
            named.insert(0, "")
            notes.append("there is one name less than columns: the first column holds the names of the rows")
    if ends_empty and len(named) == width and (not names or not named[-1]):
        named[-1] = named[-1] or f"column {width}"
        return named, named[-1], [*notes, "lines end in a separator: no column comes after it"]
    return named, None, notes
