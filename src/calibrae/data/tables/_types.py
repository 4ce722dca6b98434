"""Types of columns: what each one is taken for, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from ...errors import DataError
from .._columns import ATOM, LABEL_COLUMNS
from .._lattice import FINEST, MOST_VALUES, distinct, find_lattice
from .._schema import Column, ColumnType
from .._source import Array, counted, listed
from ._cells import has_time

MOST_LEVELS = 128  # whole numbers from the smallest to the largest that are taken for ordered levels
MOST_CATEGORIES = 1000
FREE_TEXT = 0.5  # distinct words a row from which a column of text is free text
IDENTIFIER = 0.95  # distinct words a row from which it is an identifier
FEW_ROWS = 20  # below which distinct words say little
SKEWED = 1.0
LEAST_SPREAD = 1e-3  # of the median, below which a logarithm in float32 loses the values
MOST_DECIMALS = 6
SURE_DIGIT = 1e-3  # of a unit in the last digit, up to which rounding errors of a float say nothing
MOST_TIMES = 100  # of the median, up to which whole numbers are counts and not amounts
LEFT_OUT: tuple[ColumnType, ...] = ("identifier", "text", "constant", "leave-out")
CHOICES: tuple[ColumnType, ...] = (
    "real", "heavy-tailed", "positive", "count", "ordinal", "categorical", "binary", "zero-inflated", "date", "leave-out",
)  # fmt: skip


@final
@dataclass(frozen=True)
class ColumnValues:
    """Values of one column over all parts, and what is known of it.

    Attributes:
        name: name of the column.
        values: values that are there, float64.
        rows: number of rows.
        words: words that codes stand for; `None` for numbers.
        date: format of a date, or empty.
        dtype: type in which it came.
        resolution: relative spacing of its floats.
    """

    name: str
    values: Array
    rows: int
    words: tuple[Any, ...] | None = None
    date: str = ""
    dtype: str = "float64"
    resolution: float = 2.0**-52

    @property
    def missing(self) -> float:
        """Share of missing cells."""
        return 1.0 - len(self.values) / max(1, self.rows)


def column_of(cells: ColumnValues, position: int, asked: str | None) -> Column:
    """Column with its type, from its values or as it was asked for.

    Raises:
        DataError: if the type that was asked for has no meaning for the values.
    """
    own = np.unique(cells.values)
    if asked is not None and asked not in CHOICES:
        raise DataError(f"the type of a column must be one of {', '.join(CHOICES)}; got {asked!r} for {cells.name!r}.")
    kind, why = _guessed(cells, own)
    if asked is not None and kind != "constant":
        kind, why = asked, "as asked"
        _require_possible(cells, own, asked)
    elif asked is not None:
        why = f"{why}, so it is not {asked}"
    column = Column(
        cells.name,
        dtype=cells.dtype,
        type=kind,
        why=why,
        missing=round(cells.missing, 6),
        form=cells.date,
        place=position,
    )
    return _with_levels(column, cells, own)


def _guessed(cells: ColumnValues, own: Array) -> tuple[ColumnType, str]:
    """Type of a column, and the reason in a few words."""
    count = len(cells.values)
    if len(own) < 2:
        return "constant", "one value in all rows" if len(own) else "no value"
    if cells.words is not None:
        return _of_words(cells, own, count)
    if cells.date:
        return "date", f"dates as {cells.date}"
    if len(own) == 2:
        return "binary", "two values"
    return _of_numbers(cells, own, count)


def _of_numbers(cells: ColumnValues, own: Array, count: int) -> tuple[ColumnType, str]:
    whole, width = bool((own == np.rint(own)).all()), float(own[-1] - own[0])
    if whole and len(own) == count and count > FEW_ROWS and width == count - 1:
        return "identifier", "counts the rows"
    is_few = whole and width < MOST_LEVELS
    zeros = int((cells.values == 0.0).sum())
    if not is_few and zeros > max(1, ATOM * count):
        return "zero-inflated", f"0 in {zeros / count:.1%} of the rows"
    if is_few and cells.name.lower() in LABEL_COLUMNS and width < MOST_LEVELS // 4:
        return "categorical", "the name of a label"
    if is_few:
        return "ordinal", f"{len(own)} whole numbers from {own[0]:.0f} to {own[-1]:.0f}"
    if whole and own[0] in (0.0, 1.0) and own[-1] < MOST_TIMES * max(1.0, float(np.median(cells.values))):
        return "count", "whole numbers from 0 or 1"
    spread = float(cells.values.std()) / max(abs(float(np.median(cells.values))), 1e-300)
    if own[0] > 0 and spread > LEAST_SPREAD and _skewness(np.log(cells.values)) < min(SKEWED, _skewness(cells.values)):
        return "positive", "above 0 and skewed"
    return "real", "numbers"


def _of_words(cells: ColumnValues, own: Array, count: int) -> tuple[ColumnType, str]:
    assert cells.words is not None
    if len(own) == 2:
        return "binary", "two words" if cells.dtype != "bool" else "truth values"
    if count > FEW_ROWS and len(own) > IDENTIFIER * count:
        return "identifier", "a word of its own in nearly every row"
    if len(own) > MOST_CATEGORIES or (count > FEW_ROWS and len(own) > FREE_TEXT * count):
        return "text", f"{len(own):,} different words"
    return "categorical", f"{len(own)} words"


def _skewness(values: Array) -> float:
    centred = values - values.mean()
    spread = float(np.sqrt((centred**2).mean()))
    return abs(float((centred**3).mean())) / spread**3 if spread > 0 else 0.0


def _require_possible(cells: ColumnValues, own: Array, asked: str) -> None:
    """Raise `DataError` if a type has no meaning for the values of a column."""
    whole = cells.words is None and bool((own == np.rint(own)).all())
    wrong = {
        "count": (not whole or own[0] < 0) and "whole numbers from 0",
        "ordinal": (cells.words is not None or (own[-1] - own[0] >= FINEST if whole else distinct(own) is None))
        and "few numbers at equal distances",
        "positive": (cells.words is not None or own[0] <= 0) and "numbers above 0",
        "binary": len(own) != 2 and "two values",
        "date": not cells.date and "dates",
        "categorical": len(own) > MOST_CATEGORIES and f"at most {MOST_CATEGORIES} values",
    }
    numeric = dict.fromkeys(("real", "heavy-tailed", "zero-inflated"), cells.words is not None and "numbers")
    needed = {**numeric, **wrong}.get(asked)
    if needed:
        raise DataError(f"a column that is {asked} must hold {needed}; {cells.name!r} does not. Ask for another type.")


def _with_levels(column: Column, cells: ColumnValues, own: Array) -> Column:
    """The column with its categories, levels or step."""
    if column.type in LEFT_OUT:
        return replace(column, categories=tuple(_plain(cells, v) for v in own[:1]) if column.type == "constant" else ())
    if column.type in ("categorical", "binary"):
        return replace(column, categories=tuple(_plain(cells, v) for v in own))
    whole = bool((own == np.rint(own)).all())
    column = replace(column, least=float(own[0]), most=float(own[-1]))
    if column.type == "zero-inflated":
        values, counts = np.unique(cells.values, return_counts=True)
        is_guess = column.why != "as asked"
        column = replace(column, atom=0.0 if is_guess else float(values[counts.argmax()]))
    if column.type == "ordinal" and not whole:
        lattice = find_lattice(own, cells.resolution)
        if lattice is None or lattice.levels > MOST_LEVELS:
            raise DataError(f"an ordinal column must hold few numbers at equal distances; {column.name!r} does not.")
        return replace(column, kind="lattice", low=lattice.low, step=lattice.step, levels=lattice.levels)
    if whole and column.type == "date":
        return _with_step(column, own)
    if whole:
        fine = own[-1] - own[0] < FINEST
        return replace(
            column,
            kind="whole",
            low=float(own[0]),
            step=1.0 if fine else 0.0,
            levels=int(own[-1] - own[0]) + 1 if fine else None,
        )
    few = distinct(cells.values, min(MOST_VALUES, len(cells.values) // 2))
    lattice = None if few is None else find_lattice(few, cells.resolution)
    column = replace(column, decimals=decimals_of(own, cells.resolution))
    if lattice is None:
        return column
    return replace(column, kind="lattice", low=lattice.low, step=lattice.step, levels=lattice.levels)


def decimals_of(own: Array, resolution: float) -> int | None:
    """Digits behind the point that suffice for all values; `None` where six do not, or where floats cannot tell.

    Examples:
        >>> from calibrae.data.tables._types import decimals_of
        >>> decimals_of(np.array([12.5, 0.25, 100.0]), 2.0**-52), decimals_of(np.array([1 / 3]), 2.0**-52)
        (2, None)
    """
    largest = float(np.abs(own).max(initial=0.0))
    for digits in range(1, MOST_DECIMALS + 1):
        scaled = own * 10.0**digits
        error = 4.0 * resolution * largest * 10.0**digits
        if error > SURE_DIGIT:
            return None
        if (np.abs(scaled - np.rint(scaled)) <= error).all():
            return digits
    return None


def _with_step(column: Column, own: Array) -> Column:
    """A date with its step: a day, or where all times agree in them, an hour, a minute or a second."""
    units = (86_400.0, 3_600.0, 60.0, 1.0) if has_time(column.form) else (1.0,)
    step = next(unit for unit in units if not ((own - own[0]) % unit).any())
    levels = int((own[-1] - own[0]) / step) + 1
    fine = levels <= FINEST
    return replace(
        column,
        kind="whole" if step == 1.0 else "lattice",
        low=float(own[0]),
        step=step if fine else 0.0,
        levels=levels if fine else None,
    )


def _plain(cells: ColumnValues, value: float) -> Any:
    """What a value stands for: a word, a truth value, or the number itself."""
    if cells.words is not None:
        return cells.words[int(value)]
    return int(value) if value == round(value) else float(value)


def codes_of(
    column: Column, values: Array, words: Sequence[Any] | None, unknown: dict[str, int] | None = None
) -> Array:
    """Values of a column as they are stored: the position among its categories, or the number.

    Categories and levels that it does not have are NaN; `unknown` counts them, by column.
    """
    found = _coded(column, values, words)
    lost = int((np.isnan(found) & ~np.isnan(values)).sum())
    if lost and unknown is not None:
        unknown[column.name] = unknown.get(column.name, 0) + lost
    return found


def say_unknown(unknown: Mapping[str, int]) -> str:
    """Note on cells with values that training did not have."""
    said = [f"{name} ({count})" for name, count in unknown.items()]
    total = counted(sum(unknown.values()), "cell")
    return f"{total} with values that training did not have taken as missing: {listed(said)}"


def _coded(column: Column, values: Array, words: Sequence[Any] | None) -> Array:
    if column.type == "ordinal":
        return _on_levels(column, values)
    if column.type not in ("categorical", "binary"):
        return values
    own, inverse = np.unique(values, return_inverse=True)
    find = code_finder(column.categories)
    look_up = [np.nan if np.isnan(v) else find(words[int(v)] if words is not None else v) for v in own]
    return np.array(look_up, dtype=np.float64)[inverse.reshape(-1)] if len(own) else values


def _on_levels(column: Column, values: Array) -> Array:
    """Values, with NaN for those that are no level of the column."""
    assert column.levels is not None
    level = (values - column.low) / column.step
    near = np.rint(level)
    is_level = (np.abs(level - near) < 1e-6) & (near >= 0) & (near < column.levels)
    return np.where(is_level | np.isnan(values), values, np.nan)


def code_finder(categories: Sequence[Any]) -> Callable[[Any], float]:
    """Function that gives the code of a word, a number or a truth value among some categories; NaN if it is none of them.

    A category as it is written comes first. Only where there is none, one of another type with the same meaning is taken, if no two
    have it: `1` for `"1"`, `1.0` or `True`.

    Examples:
        >>> from calibrae.data.tables._types import code_finder
        >>> code_finder(("01", "1"))("1"), code_finder(("no", "yes"))("maybe"), code_finder((False, True))("true")
        (1.0, nan, 1.0)
    """
    written = {_written(word): float(i) for i, word in enumerate(categories)}
    meant: dict[Any, float] = {}
    for i, word in enumerate(categories):
        meaning = _meaning(word)
        meant[meaning] = np.nan if meaning in meant else float(i)
    return lambda word: written[_written(word)] if _written(word) in written else meant.get(_meaning(word), np.nan)


def _written(word: Any) -> tuple[str, Any]:
    """A word by its letters, another value by its type too."""
    if isinstance(word, bool):
        return "truth", word
    return ("number", float(word)) if isinstance(word, int | float | np.number) else ("word", str(word).strip())


def _meaning(word: Any) -> Any:
    """Number that a value stands for, also one that is written as text, and of a truth value; else the word."""
    text = word.strip() if isinstance(word, str) else word
    lower = str(text).lower()
    if lower in ("true", "false"):
        return float(lower == "true")
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def require_known(asked: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise `DataError` where the type of a column is asked for that there is not."""
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise DataError(
            f"types are asked for of columns that there are not: {listed(unknown)}; there are {listed(list(names), 10)}."
        )


def column_table(fields: Sequence[Column]) -> str:
    """Table of the columns: name, type, reason, levels, missing cells.

    Examples:
        >>> from calibrae.data.tables._types import column_table
        >>> from calibrae.data._schema import Column
        >>> print(column_table([Column("age", "whole", 17, 1.0, 74, type="ordinal", why="74 whole numbers")]))
        column  type     levels  missing  because
        age     ordinal      74        -  74 whole numbers
    """
    rows = [("column", "type", "levels", "missing", "because")]
    for column in fields:
        levels = (
            len(column.categories)
            if column.type in ("categorical", "binary")
            else column.levels
            if column.type == "ordinal"
            else 0
        )
        missing = f"{column.missing:.1%}" if column.missing else "-"
        said = f"{column.why}; left out" if column.type in LEFT_OUT else column.why
        rows.append((column.name, column.type, f"{levels}" if levels else "-", missing, said))
    wide = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = (f"{n:<{wide[0]}}  {t:<{wide[1]}}  {k:>{wide[2]}}  {m:>{wide[3]}}  {w}" for n, t, k, m, w in rows)
    return "\n".join(line.rstrip() for line in lines)


def say_types(fields: Sequence[Column]) -> list[str]:
    """Notes on the columns that were left out, and on missing cells."""
    out = [f"{column.name} ({column.why})" for column in fields if column.type in LEFT_OUT]
    holes = [
        f"{column.name} {column.missing:.1%}" for column in fields if column.missing and column.type not in LEFT_OUT
    ]
    notes = []
    if out:
        notes.append(f"{counted(len(out), 'column')} left out: {listed(out)}")
    if holes:
        notes.append(
            f"missing cells in {counted(len(holes), 'column')}: {listed(holes)}; they count nothing, which is exact if they are missing at random"
        )
    return notes
