"""Rows of a table drawn over those that came."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from .._types import AnySplit
from ..data import Column, Data
from ..data.tables import date_of, written_cells
from ..figures import TableColumn, save_columns


def save_rows_over_data(data: Data, split: AnySplit, made: np.ndarray, path: Path) -> Path:
    """Draw rows of a table of mixed columns, as they are stored, over those of a split, column by column."""
    title = f"{len(made):,} rows that were drawn (blue) over {len(data.view(split)):,} {split} rows (grey)"
    return save_columns(table_columns(data, split, made), path, title=title)


def table_columns(data: Data, split: AnySplit, made: np.ndarray) -> list[TableColumn]:
    """Columns of the rows of a split, as they are stored, beside rows that were drawn."""
    return columns_of(data.source.schema.fields, stored_of(data, split), made)


def columns_of(fields: Sequence[Column], came: np.ndarray, made: np.ndarray) -> list[TableColumn]:
    """Columns as they are drawn: stored numbers `[N, D]` that came, and `[M, D]` that a model made."""
    return [
        TableColumn(
            field.name,
            came[:, i],
            made[:, i],
            field.categories,
            partial(date_of, form=field.form) if field.form else None,
        )
        for i, field in enumerate(fields)
    ]


def cells_in_words(fields: Sequence[Column], stored: np.ndarray) -> list[str]:
    """Cells of one stored row `[1, D]` as people read them."""
    found = (written_cells(field, stored[:, i])[0] if field.type else stored[0, i] for i, field in enumerate(fields))
    return [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in found]


def stored_of(data: Data, split: AnySplit) -> np.ndarray:
    """Stored numbers of the rows of a split, `[N, D]`."""
    view = data.view(split)
    found: np.ndarray = view.slice(0, len(view)).double().numpy()
    return found
