"""Cells of a table as numbers: words become codes, dates become days or seconds, and what is missing NaN."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ...errors import DataError
from .._layout import EXACT
from .._source import Array

MISSING = frozenset(
    {
        "",
        "?",
        "na",
        "n/a",
        "nan",
        "null",
        "none",
        "<na>",
        "#n/a",
        "#na",
        "#n/a n/a",
        "-nan",
        "1.#qnan",
        "-1.#ind",
        "nat",
    }
)
LEADING_ZERO = re.compile(r"^[+-]?0\d")
DAY, SECOND = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S"
FORMATS = (  # in the order in which they are tried
    DAY, "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d-%b-%Y", "%d-%m-%Y", "%Y-%m",
    SECOND, "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M",
    "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%d %H:%M:%S%z", "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%d %H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S.%f%z", "%H:%M", "%H:%M:%S",
)  # fmt: skip
DICTIONARY = "dictionary"  # type of words that came as categories of a data frame
ARROW = "arrow:"  # what the format of a date begins with that was no text
ORIGIN = datetime(1970, 1, 1)
A_FEW = 0.1  # of the different words of a column, up to which they are strange among numbers


@dataclass(frozen=True)
class Cells:
    """A column as it came.

    Attributes:
        values: numbers, codes of words, or days and seconds, float64 `[N]`; NaN where a cell is missing.
        words: words that the codes stand for, sorted; `None` for numbers and dates.
        date: format of a date; empty for other columns.
        dtype: type in which it came.
        note: a sentence on what was assumed; empty for nothing.
    """

    values: Array
    words: tuple[Any, ...] | None = None
    date: str = ""
    dtype: str = "float64"
    note: str = ""


def cells_of(
    name: str,
    column: Any,
    declared: Sequence[str] = (),
    decimal: str = ".",
    form: str = "",
    *,
    words: bool = False,
) -> Cells:
    """Cells of an Arrow column.

    Args:
        name: name of the column, for messages.
        column: chunked array.
        declared: further words that mean a missing cell.
        decimal: decimal point of numbers that come as text.
        form: format of dates in training, which is tried first.
        words: whether text is words, though all of them could be numbers or dates.

    Raises:
        DataError: for lists, bytes and structs, and whole numbers that float64 cannot tell apart.
    """
    import pyarrow as pa
    import pyarrow.types as pt

    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    is_dictionary = pt.is_dictionary(column.type)
    if is_dictionary:
        column = column.cast(column.type.value_type)
    kind = column.type
    if pt.is_boolean(kind):
        return Cells(_floats(column.cast(pa.uint8())), (False, True), dtype="bool")
    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind):
        return Cells(without(_exact(name, column), declared), dtype=str(kind))
    if pt.is_date(kind):
        days = column.cast(pa.date32()).cast(pa.int32())
        return Cells(_floats(days), date=f"{ARROW}date32[day]", dtype=str(kind))
    if pt.is_timestamp(kind):
        micros = column.cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.int64())
        return Cells(_floats(micros) / 1e6, date=f"{ARROW}{kind}", dtype=str(kind))
    if not (pt.is_string(kind) or pt.is_large_string(kind)):
        raise DataError(
            f'a column must hold numbers, words, truth values, dates or times; {name!r} holds {kind}. Leave it out: --types "{name}=leave-out", '
            f"or columns={{{name!r}: 'leave-out'}} in Python."
        )
    found = _of_text(name, column, declared, decimal, form, only_words=words or is_dictionary)
    return replace(found, dtype=DICTIONARY) if is_dictionary else found


def without(values: Array, declared: Sequence[str]) -> Array:
    """Numbers, with NaN for those that were declared to mean a missing cell."""
    for word in declared:
        try:
            values = np.where(values == float(word), np.nan, values)
        except ValueError:
            continue
    return values


def _floats(column: Any) -> Array:
    import pyarrow as pa

    found: Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found.astype(np.float64)


def _exact(name: str, column: Any) -> Array:
    """Numbers as float64.

    Raises:
        DataError: if they are whole numbers beyond 2^53.
    """
    import pyarrow.types as pt

    found = _floats(column)
    if pt.is_integer(column.type):
        _require_exact(name, found)
    return found


def _require_exact(name: str, values: Array) -> None:
    if (np.abs(values[~np.isnan(values)]) > EXACT).any():
        raise DataError(
            f"the column {name!r} holds whole numbers beyond 2^53, which float64 cannot tell apart. If they are identifiers, leave it out: "
            f"--types \"{name}=leave-out\", or columns={{{name!r}: 'leave-out'}} in Python."
        )


def _of_text(
    name: str, column: Any, declared: Sequence[str], decimal: str, form: str, *, only_words: bool = False
) -> Cells:
    """Cells of a column of text: numbers or dates if all are, else words."""
    coded = column.dictionary_encode()
    came = [None if word is None else word.strip() for word in coded.dictionary.to_pylist()]
    index = coded.indices.to_numpy(zero_copy_only=False).astype(np.float64)
    missing = MISSING | {word.strip().lower() for word in declared}
    there = [word for word in dict.fromkeys(came) if word is not None and word.lower() not in missing]
    values = None if only_words else _numbers(there, decimal)
    words: tuple[Any, ...] | None = None
    date, note, dtype = "", "", "text"
    if values is not None:
        dtype = "int64" if all(re.fullmatch(r"[+-]?\d+", word) for word in there) else "float64"
        numbers = without(np.array(list(values.values())), declared)
        if dtype == "int64":
            _require_exact(name, numbers)
        values = dict(zip(values, numbers.tolist(), strict=True))
    else:
        found = None if only_words else _dates(there, form)
        if found is None:
            words = tuple(sorted(there))
            values = {word: float(i) for i, word in enumerate(words)}
            note = "" if only_words else _nearly(there, decimal)
        else:
            date, values, note = found
    look_up = np.array([np.nan if word is None else values.get(word, np.nan) for word in came] + [np.nan])
    place = np.where(np.isnan(index), len(came), index).astype(np.int64)
    return Cells(look_up[place], words, date, dtype, note)


def _numbers(words: Sequence[str], decimal: str) -> dict[str, float] | None:
    """Words as numbers, if all are; `007` is a word."""
    found: dict[str, float] = {}
    for word in words:
        if LEADING_ZERO.match(word) and word.lstrip("+-").isdigit():
            return None
        try:
            found[word] = float(word if decimal == "." else word.replace(decimal, "."))
        except ValueError:
            return None
        if "_" in word:
            return None
    return found


def _dates(words: Sequence[str], known: str = "") -> tuple[str, dict[str, float], str] | None:
    """Format of words that are dates or times, their numbers, and a note where it could be another; one that is known needs no guess."""
    if not words:
        return None
    if known and not known.startswith(ARROW):
        own = _all_as(words, known)
        if own is not None:
            return known, own, ""
    fitting = [(form, found) for form in FORMATS if (found := _all_as(words, form)) is not None]
    if not fitting:
        return None
    form, numbers = fitting[0]
    swapped = [other for other, values in fitting[1:] if values != numbers]
    note = f"dates were read as {form}; {swapped[0]} would fit too" if swapped else ""
    return form, numbers, note


def _nearly(words: Sequence[str], decimal: str) -> str:
    """Note on words that are numbers or dates but for a few, dates of several forms, or numbers with a sign such as %; empty for none."""
    plain = [word.strip("%$€£ ") for word in words]
    for name, fits in (("numbers", lambda word: is_number(word, decimal)), ("dates", is_date)):
        strange = [word for word in words if not fits(word)]
        if 0 < len(strange) <= A_FEW * len(words):
            return (
                f"{len(words) - len(strange):,} of its {len(words):,} different words are {name}, {strange[0]!r} is not: taken for words. "
                f"Mend such cells, or declare them as missing (--missing, missing=[...])"
            )
    if len(words) > 1 and all(map(is_date, words)):
        other = next((word for word in words if _dates([words[0], word]) is None), words[-1])
        return f"its dates have several forms, as {words[0]} and {other}: taken for words. Write them in one form"
    if len(words) > 1 and plain != list(words) and all(is_number(word, decimal) for word in plain):
        return f"its words are numbers with a sign, as {words[0]!r}: taken for words. Write them without it"
    return ""


def is_number(word: str, decimal: str = ".") -> bool:
    """Tell whether a word is a number; `007` is none."""
    return _numbers([word], decimal) is not None


def is_date(word: str) -> bool:
    """Tell whether a word is a date or a time in one of the known forms."""
    return any(_all_as([word], form) is not None for form in FORMATS)


def _all_as(words: Sequence[str], form: str) -> dict[str, float] | None:
    """Numbers of words that are all dates of one format."""
    found = {}
    for word in words:
        try:
            found[word] = number_of_date(word, form)
        except ValueError:
            return None
    return found


def number_of_date(word: str, form: str) -> float:
    """Days (or seconds, where the format has a time) of a date since 1970.

    Examples:
        >>> from calibrae.data.tables._cells import number_of_date
        >>> number_of_date("1970-01-03", "%Y-%m-%d")
        2.0

    Raises:
        ValueError: if the date is not written so.
    """
    moment = datetime.strptime(word, form)
    if "%Y" not in form and "%y" not in form:
        moment = moment.replace(year=1970, month=1, day=1)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    seconds = (moment - ORIGIN).total_seconds()
    return seconds if has_time(form) else seconds / 86_400


def has_time(form: str) -> bool:
    """Tell whether a date is counted in seconds, and not in days."""
    return "%H" in form or "timestamp" in form


def has_zone(form: str) -> bool:
    """Tell whether a date comes with its time zone, so that its seconds are those of UTC."""
    return "%z" in form or form.endswith("Z") or "tz=" in form
