"""Choice of a condition's coding from the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ._condition import Condition, plain_class
from ._source import Array

MOST_CLASSES = 1000  # distinct integers up to which labels are classes
MOST_LEVELS = 20  # distinct integers up to which a column of a table is classes
FEW_ROWS, A_CLASS_EACH = 20, 0.5  # rows, and classes a row, from which words are no classes
CLASSES = ("categorical", "binary", "ordinal")
NUMBERS = ("real", "heavy-tailed", "positive", "count", "zero-inflated")


def fit_condition(
    name: str, train: Array, everything: Array, *, most: int = MOST_CLASSES, asked: str | None = None
) -> Condition:
    """Choose and fit the coding: text, booleans and few integers are classes, anything else is numbers.

    Args:
        name: name of the condition.
        train: conditions of the training split, from which mean and deviation are taken.
        everything: conditions of all splits, from which the classes are taken.
        most: distinct integers up to which they are classes.
        asked: type that somebody asked for, as of a column.

    Raises:
        DataError: for missing values, a single class, a number that does not vary, or a type that no condition has.
    """
    if asked not in (None, *CLASSES, *NUMBERS):
        raise DataError(f"the condition {name!r} must be of the type categorical or real; got {asked!r}.")
    if everything.dtype.kind == "O":
        missing = sum(_is_missing(value) for value in everything.reshape(-1).tolist())
        if missing:
            raise DataError(
                f"the condition {name!r} must have no missing values; {missing:,} of {everything.size:,} are. Drop or fill these rows."
            )
        everything, train = everything.astype(str), train.astype(str)
    is_whole = everything.dtype.kind in "iub" and everything.ndim == 1
    if asked in NUMBERS and everything.dtype.kind in "US":
        everything, train = (_as_numbers(name, values) for values in (everything, train))
    is_few = is_whole and len(np.unique(everything)) <= most and asked not in NUMBERS
    if everything.dtype.kind in "US" or is_few or asked in CLASSES:
        is_guess = everything.dtype.kind in "US" and asked is None
        everything = _as_classes(everything)
        values = tuple(plain_class(v, text=everything.dtype.kind in "US") for v in np.unique(everything).tolist())
        is_many = len(everything) > FEW_ROWS and len(values) > A_CLASS_EACH * len(everything)
        if is_guess and (is_many or len(values) > MOST_CLASSES):
            raise DataError(
                f"the condition {name!r} has {len(values):,} different words in {len(everything):,} examples: too many to be classes. Leave it "
                "out, or put them in fewer groups."
            )
        if len(values) < 2:
            raise DataError(f"the condition {name!r} must have two classes at least; got {values}. Leave it out.")
        return Condition(name, "classes", values)
    if not np.isfinite(everything.astype(np.float64)).all():
        raise DataError(f"the condition {name!r} must be finite; got NaN or infinity. Drop or fill those examples.")
    numbers = train.astype(np.float64).reshape(len(train), -1)
    std = numbers.std(0)
    if not (std > 1e-12 * np.abs(numbers).max(0)).all():  # less is the rounding of a mean
        raise DataError(f"the condition {name!r} must vary over the training examples; a constant tells nothing.")
    return Condition(name, "numbers", (), tuple(numbers.mean(0).tolist()), tuple(std.tolist()), whole=is_whole)


def _as_classes(values: Array) -> Array:
    """Whole numbers as integers, others as text."""
    if values.dtype.kind != "f":
        return values
    is_whole = bool((np.isfinite(values) & (values == np.rint(values))).all())
    return values.astype(np.int64) if is_whole else np.array([str(value) for value in values.tolist()])


def _as_numbers(name: str, values: Array) -> Array:
    try:
        return values.astype(np.float64)
    except ValueError as error:
        raise DataError(f"the condition {name!r} must be numbers, as its type says; got words: {error}.") from error


def _is_missing(value: Any) -> bool:
    """Tell whether this is `None`, or what pandas and NumPy write in its place."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "NaT")


def fit_conditions(
    names: Sequence[str],
    train: Array,
    everything: Array,
    *,
    is_table: bool = False,
    asked: Mapping[str, str] | None = None,
) -> Condition:
    """Choose and fit the coding of one condition, or of each of several columns, `[N, k]`; see `fit_condition`.

    Args:
        names: name of each.
        train: conditions of the training split.
        everything: conditions of all splits.
        is_table: whether they are columns of a table, whose integers are numbers from fewer distinct ones on.
        asked: types of columns by name, as somebody asked for.
    """
    most, types = MOST_LEVELS if is_table else MOST_CLASSES, asked or {}
    if len(names) == 1:
        return fit_condition(names[0], train, everything, most=most, asked=types.get(names[0]))
    columns = zip(names, train.T.tolist(), everything.T.tolist(), strict=True)
    parts = tuple(
        fit_condition(name, np.array(mine), np.array(every), most=most, asked=types.get(name))
        for name, mine, every in columns
    )
    return Condition(", ".join(names), "several", parts=parts)
