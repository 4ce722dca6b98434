"""Pairs of columns of a table, and which of its cells are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._columns import WIDEST, TableColumn
from ._style import BLUE, GREY, ORANGE, new_figure, save_figure, short, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

MOST_POINTS = 1500
MOST_WORDS, FEW = 6, 20
JITTER = 0.35  # of the distance of two words, by which points are spread
MOST_ROWS, MOST_COLUMNS = 200, 60


def save_column_pairs(pairs: Sequence[tuple[TableColumn, TableColumn]], path: Path, *, title: str = "") -> Path:
    """Draw how two columns hang together, pairs side by side: rows that came above, grey, and rows that were drawn below, blue.

    Args:
        pairs: pairs of columns.
        path: place of the PNG.
        title: title.
    """
    across = len(pairs)
    figure = new_figure(2.6 * across + 0.4, 5.0)
    axes = figure.subplots(2, across, squeeze=False)
    count = min(MOST_POINTS, *(len(values) for column in pairs[0] for values in (column.data, column.made)))
    for place, (one, other) in enumerate(pairs):
        for row, color in enumerate((GREY, BLUE)):
            here = tidy(axes[row, place])
            x, y = ((c.data if row == 0 else c.made) for c in (one, other))
            there = ~(np.isnan(x) | np.isnan(y))
            x, y = x[there][:count], y[there][:count]
            here.plot(
                _spread(x, one, 0), _spread(y, other, 1), ".", color=color, alpha=0.5, markersize=4, markeredgewidth=0
            )
            _scale(here, one, "x")
            _scale(here, other, "y")
        axes[1, place].set_xlabel(short(one.name, 24), fontsize=9, parse_math=False)
        for row in range(2):
            axes[row, place].set_ylabel(short(other.name, 24), fontsize=9, parse_math=False)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return save_figure(figure, path)


def save_missing(columns: Sequence[TableColumn], path: Path, *, title: str = "") -> Path:
    """Draw which cells are missing: a line of pixels for each row, those that lack the same cells side by side.

    Args:
        columns: the columns, of which those with the most holes are drawn.
        path: place of the PNG.
        title: title.
    """
    emptiest = sorted(range(len(columns)), key=lambda i: -np.isnan(columns[i].data).mean())[:MOST_COLUMNS]
    columns = [columns[i] for i in sorted(emptiest)]
    holes = np.stack([np.isnan(column.data) for column in columns], 1)
    shown = holes[np.linspace(0, len(holes) - 1, min(MOST_ROWS, len(holes))).round().astype(int)]
    shown = shown[np.lexsort(shown.T[::-1])]
    figure = new_figure(max(4.0, 0.32 * len(columns) + 1.6), 4.2)
    axes = figure.subplots()
    axes.imshow(
        np.where(shown, 1.0, np.nan), aspect="auto", cmap=_one_color(), vmin=0.0, vmax=1.0, interpolation="nearest"
    )
    names = [f"{short(c.name, 18)} {share:.0%}" for c, share in zip(columns, holes.mean(0), strict=True)]
    axes.set_xticks(range(len(columns)), names, rotation=60, ha="right", fontsize=7, parse_math=False)
    axes.set_yticks([])
    axes.set_ylabel(f"{len(shown):,} rows", fontsize=9)
    axes.set_title(title, fontsize=10, parse_math=False)
    return save_figure(figure, path)


def _one_color() -> Colormap:
    from matplotlib.colors import ListedColormap

    return ListedColormap([ORANGE])


def _spread(values: np.ndarray, column: TableColumn, seed: int) -> np.ndarray:
    """Codes of words, and few levels, with noise, so that points do not hide each other; other numbers as they are."""
    few = np.unique(column.data[~np.isnan(column.data)])
    is_level = bool(column.words) or (len(few) <= FEW and bool((few == np.rint(few)).all()))
    noise = np.random.default_rng(seed).uniform(-JITTER, JITTER, len(values)) * is_level
    return np.asarray(values + noise)


def _scale(axes: Axes, column: TableColumn, side: Literal["x", "y"]) -> None:
    """Limits that two panels share, by the data that came; words as their names."""
    limit = axes.set_xlim if side == "x" else axes.set_ylim
    if not column.words:
        there = column.data[~np.isnan(column.data)]
        low, high = (float(np.quantile(there, q)) for q in WIDEST)
        margin = max(0.05 * (high - low), JITTER + 0.15 if len(np.unique(there)) <= FEW else 0.0) or 0.5
        limit(low - margin, high + margin)
        axes.locator_params(axis=side, nbins=4)
        return
    ticks = axes.set_xticks if side == "x" else axes.set_yticks
    places = np.unique(np.linspace(0, len(column.words) - 1, min(MOST_WORDS, len(column.words))).round().astype(int))
    how: dict[str, Any] = {"rotation": 30, "ha": "right"} if side == "x" else {}
    ticks(places, [short(str(column.words[i]), 12) for i in places], fontsize=7, parse_math=False, **how)
    limit(-0.5, len(column.words) - 0.5)
