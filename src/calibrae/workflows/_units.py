"""Numbers given back as they came: units, types, names of columns and files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Schema
from ..errors import ArgumentError
from ..runs import replace_file, replace_text

SUFFIXES = (".npy", ".csv")


def whole_columns(schema: Schema | None) -> tuple[bool, ...]:
    """Which columns of a table hold whole numbers; empty for other data."""
    if schema is None or schema.layout != "table":
        return ()
    return tuple(column.kind == "whole" for column in schema.fields)


def frame_like(frame: Any, values: np.ndarray, schema: Schema) -> Any:
    """Values `[N, D]` as a data frame of the kind that came, its index too; whole numbers as integers.

    Args:
        frame: data frame of pandas or polars, or Arrow table, that came.
        values: in the units of the data.
        schema: schema of the table.
    """
    whole = whole_columns(schema)
    columns = {
        name: values[:, i].astype(np.int64) if whole[i] else values[:, i].astype(np.float64)
        for i, name in enumerate(schema.columns)
    }
    if hasattr(type(frame), "from_pydict"):
        return type(frame).from_pydict(columns)
    index = {"index": frame.index} if hasattr(frame, "index") and len(frame) == len(values) else {}
    return type(frame)(columns, **index)


def require_suffix(path: Path, known: Sequence[str]) -> None:
    """Raise `ArgumentError` for a file whose kind cannot be written, before any work is done."""
    if path.suffix.lower() not in known:
        raise ArgumentError(f"the name of the file must end in {', '.join(known)}; got {path.name}.")


def save_arrays(
    values: Any,
    path: Path,
    names: Sequence[str] = (),
    examples: Sequence[str] = (),
    whole: Sequence[bool] = (),
) -> Path:
    """Write numbers as `.npy`, or as `.csv` with one row an example and all digits.

    Args:
        values: `[N, ...]`, an array or tensor.
        path: place of the file.
        names: names of the columns of a `.csv`; by default `x0, x1, ...`.
        examples: name of each row of a `.csv`, for a first column.
        whole: one entry a column: whether it holds whole numbers, which are written as such.

    Raises:
        ArgumentError: for another suffix.
    """
    require_suffix(path, SUFFIXES)
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if path.suffix.lower() == ".npy":
        replace_file(path, lambda temporary: np.save(temporary, array))
        return path
    flat = array.reshape(len(array), -1)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((["example"] if examples else []) + list(names or [f"x{i}" for i in range(flat.shape[1])]))
    for i, row in enumerate(flat):
        cells = [str(int(v)) if whole and whole[j] else str(v) for j, v in enumerate(row)]
        writer.writerow(([examples[i]] if examples else []) + cells)
    replace_text(path, stream.getvalue())
    return path
