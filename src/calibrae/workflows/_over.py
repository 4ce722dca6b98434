"""Rows of a table drawn over those that came."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._types import AnySplit
from ..data import Data
from ..figures import TableColumn, save_columns


def save_rows_over_data(data: Data, split: AnySplit, made: np.ndarray, path: Path) -> Path:
    """Draw rows of a table of mixed columns, as they are stored, over those of a split, column by column."""
    view = data.view(split)
    came = view.slice(0, len(view)).double().numpy()
    columns = [
        TableColumn(c.name, came[:, i], made[:, i], c.categories) for i, c in enumerate(data.source.schema.fields)
    ]
    return save_columns(
        columns, path, title=f"{len(made):,} rows that were drawn (blue) over {len(came):,} {split} rows (grey)"
    )
