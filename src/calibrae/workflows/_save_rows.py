"""Rows of a table as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Schema
from ..data.tables import rows_of
from ..errors import ArgumentError
from ..runs import replace_file, replace_text


def save_rows_of(schema: Schema, stored: np.ndarray, path: Path, examples: Sequence[str] = ()) -> Path:
    """Write numbers and codes `[N, D]` as the rows of a `.csv` that they stand for, with the name of each in a first column."""
    import pyarrow as pa

    table = rows_of(schema, stored)
    return save_rows(table.add_column(0, "example", pa.array(list(examples))) if examples else table, path)


def save_rows(rows: Any, path: str | Path, *, separator: str = ",", names: bool = True) -> Path:
    """Write rows as `.csv` or `.parquet`, whole or not at all.

    Args:
        rows: data frame or Arrow table.
        path: file to write.
        separator: character between the columns of a `.csv`.
        names: whether it begins with a line of names.

    Raises:
        ArgumentError: for another suffix.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = Path(path)
    if place.suffix.lower() not in (".csv", ".parquet"):
        raise ArgumentError(f"the name of a table must end in .csv or .parquet; got {place.name}.")
    table = (
        rows
        if isinstance(rows, pa.Table)
        else rows.to_arrow()
        if hasattr(rows, "to_arrow")
        else pa.Table.from_pandas(rows, preserve_index=False)
    )
    if place.suffix.lower() == ".parquet":
        replace_file(place, lambda temporary: pq.write_table(table, temporary))
        return place
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, lineterminator="\n")
    if names:
        writer.writerow(table.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))  # `None` is an empty cell
    replace_text(place, stream.getvalue())
    return place
