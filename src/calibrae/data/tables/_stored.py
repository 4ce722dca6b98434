"""Rows in the table's own terms as stored numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._registry import read
from .._schema import Schema
from .._source import Array, DataOptions, Raw, Request
from ._coded import coded


def stored_rows(schema: Schema, rows: Any) -> Array:
    """Stored numbers `[N, D]` of rows with the columns of a schema: a data frame, or the path of a table.

    Raises:
        DataError: if they cannot be read by the schema.
    """
    raw = read(rows, Request(DataOptions(), schema))  # the schema knows its missing words
    assert isinstance(raw, Raw)
    found = coded(raw, schema, [])
    return np.concatenate([np.asarray(array, dtype=np.float64) for array in found.parts.values()])
