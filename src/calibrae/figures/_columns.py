"""Columns of a table: synthetic rows over the rows that came, each column in its own terms."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._style import BLUE, GREY, new_figure, save_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS, ACROSS = 24, 5
MOST_WORDS, LONGEST = 8, 14
BINS = 40
MOST_BARS = 120
WIDEST = (0.002, 0.998)  # quantiles of the data between which a histogram is drawn


@dataclass(frozen=True)
class TableColumn:
    """Values of a column, side by side.

    Attributes:
        name: name of the column.
        data: values that came, `[N]`; NaN where a cell is missing.
        made: values that were drawn, `[M]`.
        words: words that codes stand for; empty for numbers.
    """

    name: str
    data: np.ndarray
    made: np.ndarray
    words: tuple[Any, ...] = ()


def save_columns(columns: Sequence[TableColumn], path: Path, *, title: str = "") -> Path:
    """Draw how the values of each column are spread: grey what came, blue what was drawn.

    Args:
        columns: the columns.
        path: place of the PNG.
        title: title.
    """
    shown = columns[:MOST_COLUMNS]
    across = min(len(shown), ACROSS)
    down = math.ceil(len(shown) / across)
    figure = new_figure(2.4 * across + 0.4, 2.0 * down + 0.6)
    for place, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        column = shown[place]
        tidy(axes)
        (_words if column.words else _numbers)(axes, column)
        missing = float(np.isnan(column.data).mean())
        holes = f" ({missing:.0%} missing)" if missing >= 0.005 else ""
        axes.set_title(textwrap.shorten(column.name, 24, placeholder="...") + holes, fontsize=9, parse_math=False)
    more = f" (the first {len(shown)} of {len(columns)} columns)" if len(shown) < len(columns) else ""
    figure.suptitle(title + more, fontsize=10, parse_math=False)
    return save_figure(figure, path)


def _numbers(axes: Axes, column: TableColumn) -> None:
    data, made = (values[~np.isnan(values)] for values in (column.data, column.made))
    low, high = (float(np.quantile(data, q)) for q in WIDEST)
    few = np.unique(data)
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    if bool((few == np.rint(few)).all()) and high - low <= MOST_BARS:  # a bar for each whole number
        edges = np.arange(math.floor(low), math.ceil(high) + 2) - 0.5
    for values, how in (
        (data, {"color": GREY, "alpha": 0.55}),
        (made, {"color": BLUE, "histtype": "step", "linewidth": 1.4}),
    ):
        inside = np.clip(values, edges[0], edges[-1])
        axes.hist(inside, bins=edges, weights=np.full(len(inside), 1.0 / max(1, len(inside))), **how)  # type: ignore[arg-type]
    axes.set_yticks([])


def _words(axes: Axes, column: TableColumn) -> None:
    count = len(column.words)
    shares = [
        np.bincount(v[~np.isnan(v)].astype(int), minlength=count)[:count] / max(1, (~np.isnan(v)).sum())
        for v in (column.data, column.made)
    ]
    order = np.argsort(-shares[0])[:MOST_WORDS]
    places = np.arange(len(order))
    axes.barh(places, shares[0][order], height=0.75, color=GREY, alpha=0.55)
    axes.plot(shares[1][order], places, "o", color=BLUE, markersize=5)
    labels = [
        textwrap.shorten(str(column.words[i]), LONGEST, placeholder="..") or str(column.words[i])[:LONGEST]
        for i in order
    ]
    axes.set_yticks(places, labels, fontsize=7, parse_math=False)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0.0)
