"""Columns of a mixed table in a report: their types, what each costs, pairs of them, and missing cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._types import AnySplit
from ..data import Data
from ..figures import save_column_pairs, save_missing
from ..figures.page import Table
from ._fidelity import association
from ._over import stored_of, table_columns

MOST_PAIRS, MOST_ROWS = 5, 5000


def column_rows(data: Data, split: AnySplit, nats: np.ndarray | None) -> Table:
    """Table of the columns: type, reason, missing cells of a split, and the mean of `-log p(x_j|z)` over its cells that are there.

    Args:
        data: a table of mixed columns.
        split: split that is shown.
        nats: parts of the reconstruction term, `[N, D]`; `None` where they cannot be told.
    """
    schema, stored = data.source.schema, stored_of(data, split)
    rows = []
    for i, column in enumerate(schema.fields):
        cost = "" if nats is None else f"{float(nats[:, i].mean()):.3f}"
        rows.append((column.name, column.type, column.why, f"{np.isnan(stored[:, i]).mean():.1%}", cost))
    rows += [(column.name, column.type, f"{column.why}; left out", "", "") for column in schema.left_out]
    return Table(("column", "type", "because", "missing", "-log p(x|z), nats"), rows, "Columns")


def draw_pairs(data: Data, split: AnySplit, made: np.ndarray, path: Path) -> Path | None:
    """Draw the pairs of columns that hang together most, as they came and as they were drawn; `None` for one column."""
    columns = table_columns(data, split, made)
    rows = stored_of(data, "train")[:MOST_ROWS]
    is_word = [bool(column.words) for column in columns]
    strength = {
        (i, j): abs(association(rows[:, i], rows[:, j], np.array([is_word[i], is_word[j]])))
        for i in range(len(columns))
        for j in range(i)
    }
    best: list[tuple[int, int]] = []
    for pair in sorted(strength, key=lambda p: -strength[p]):
        if sum(set(pair) & set(other) != set() for other in best) < 2:  # no column is in all of them
            best.append(pair)
        if len(best) == MOST_PAIRS:
            break
    if not best:
        return None
    title = f"Pairs of columns: {split} rows (above, grey) and rows that were drawn (below, blue)"
    return save_column_pairs([(columns[i], columns[j]) for i, j in best], path, title=title)


def draw_missing(data: Data, split: AnySplit, path: Path) -> Path | None:
    """Draw which cells of a split are missing; `None` if none is."""
    stored = stored_of(data, split)
    if not np.isnan(stored).any():
        return None
    columns = table_columns(data, split, stored[:0])
    return save_missing(columns, path, title=f"Missing cells of the {split} rows (orange)")
