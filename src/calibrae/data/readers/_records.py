"""Rows as dicts: a list of them, one of them for a trained model, and `datasets` tables with words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from numbers import Number
from typing import Any

import numpy as np

from ...errors import DataError, first_line
from .._registry import reads
from .._source import Raw, Request, listed
from ._frames import read_frame

WORDS = (str, date, np.datetime64, type(None))
CELLS = (*WORDS, Number)


def _is_cell(value: Any) -> bool:
    return isinstance(value, CELLS) or (getattr(value, "ndim", None) == 0 and hasattr(value, "item"))


def _is_record(item: Any) -> bool:
    return isinstance(item, Mapping) and bool(item) and all(map(_is_cell, item.values()))


def _has_numbers_alone(item: Mapping[Any, Any]) -> bool:
    """Tell whether a row has numbers alone."""
    return all(not isinstance(value, WORDS) for value in item.values())


def is_records(data: Any) -> bool:
    """Tell whether these are rows as dicts that have more than numbers in them: words, dates or `None`."""
    if _is_table_of_datasets(data):
        return True
    if not isinstance(data, list | tuple) or not data or not all(map(_is_record, data)):
        return False
    return not all(map(_has_numbers_alone, data))


def _is_table_of_datasets(data: Any) -> bool:
    """Tell whether this is a `datasets` table of plain cells, some of which are no numbers."""
    features = getattr(data, "features", None)
    if not isinstance(features, Mapping) or not hasattr(data, "with_format") or not hasattr(data, "num_rows"):
        return False
    kinds = [str(getattr(feature, "dtype", "")) for feature in features.values()]
    is_plain = all(kind and kind not in ("list", "dict", "PIL.Image.Image") for kind in kinds)
    return is_plain and any(kind in ("string", "large_string") or kind.startswith("date") for kind in kinds)


@reads("rows as dicts with words, dates or empty cells", is_records, rank=20)
def read_records(data: Any, request: Request) -> Raw:
    """Rows as dicts, read as a data frame is.

    Raises:
        DataError: for rows that have other entries than the first, or a column of several types.
    """
    import pyarrow as pa

    if not isinstance(data, list | tuple):
        return replace(read_frame(data.with_format("arrow")[:], request), name=type(data).__name__)
    names = list(data[0])
    wrong = next((i for i, row in enumerate(data) if set(row) != set(names)), None)
    if wrong is not None:
        raise DataError(
            f"list: every item must have the entries of the first, {listed(list(map(str, names)))}; item {wrong} has others. Give None "
            "for a missing cell."
        )
    try:
        table = pa.table({str(name): pa.array([_plain(row[name]) for row in data]) for name in names})
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"list: a column of its rows has several types: {first_line(error, 160)}. Give each one type."
        ) from error
    return replace(read_frame(table, request), name="list")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
