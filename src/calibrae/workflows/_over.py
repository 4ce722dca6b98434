"""Rows of a table drawn over those that came."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._types import AnySplit
from ..data import Data
from ..figures import TableColumn, save_columns


def save_rows_over_data(data: Data, split: AnySplit, made: np.ndarray, path: Path) -> Path:
    """Draw rows of a table of mixed columns, as they are stored, over those of a split, column by column."""
    title = f"{len(made):,} rows that were drawn (blue) over {len(data.view(split)):,} {split} rows (grey)"
    return save_columns(table_columns(data, split, made), path, title=title)


def table_columns(data: Data, split: AnySplit, made: np.ndarray) -> list[TableColumn]:
    """Columns of the rows of a split, as they are stored, beside rows that were drawn."""
    came = stored_of(data, split)
    return [TableColumn(c.name, came[:, i], made[:, i], c.categories) for i, c in enumerate(data.source.schema.fields)]


def stored_of(data: Data, split: AnySplit) -> np.ndarray:
    """Stored numbers of the rows of a split, `[N, D]`."""
    view = data.view(split)
    found: np.ndarray = view.slice(0, len(view)).double().numpy()
    return found
