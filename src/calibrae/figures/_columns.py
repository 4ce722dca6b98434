"""Columns of a table: synthetic rows over the rows that came, each column in its own terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._style import BLUE, GREY, ORANGE, new_figure, save_figure, short, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MOST_COLUMNS, ACROSS = 24, 5
FEW_ACROSS, FEW = 3, 15  # panels of a picture that has half a page and follows a slider
MOST_WORDS, LONGEST = 8, 14
NAME = 24  # characters of a column's name, or of a cell
OVER = {"color": GREY, "alpha": 0.55, "histtype": "stepfilled"}
BINS = 40
MOST_BARS = 120
WIDE = 10_000  # numbers from which on few fit on an axis
WIDEST = (0.002, 0.998)  # quantiles of the data between which a histogram is drawn


@dataclass(frozen=True)
class TableColumn:
    """Values of a column, side by side.

    Attributes:
        name: name of the column.
        data: values that came, `[N]`; NaN where a cell is missing.
        made: values that were drawn, `[M]`.
        words: words that codes stand for; empty for numbers.
        date: writes the number of a date; `None` for other columns.
    """

    name: str
    data: np.ndarray
    made: np.ndarray
    words: tuple[Any, ...] = ()
    date: Callable[[float], Any] | None = None

    def mark(self, axis: Axis) -> None:
        """Write words and dates on an axis, in place of their numbers."""
        if self.words:
            shown = range(0, len(self.words), max(1, math.ceil(len(self.words) / MOST_WORDS)))
            axis.set_ticks(list(shown), [short(self.words[i], LONGEST) for i in shown], fontsize=6, parse_math=False)
        elif self.date is not None:
            from matplotlib.ticker import FuncFormatter, MaxNLocator

            axis.set_major_locator(MaxNLocator(2))
            axis.set_major_formatter(FuncFormatter(self._date_at))

    def _date_at(self, number: float, place: int | None = None) -> str:
        del place
        assert self.date is not None
        with suppress(OverflowError, ValueError):  # a tick beyond all dates
            return str(self.date(number))[:10]
        return ""


def save_columns(columns: Sequence[TableColumn], path: Path, *, title: str = "") -> Path:
    """Draw how the values of each column are spread: grey what came, blue what was drawn.

    Args:
        columns: the columns.
        path: place of the PNG.
        title: title.
    """
    return _save_panels(columns, path, title, lambda axes, column: (_words if column.words else _numbers)(axes, column))


def _save_panels(
    columns: Sequence[TableColumn],
    path: Path,
    title: str,
    draw: Callable[[Axes, TableColumn], None],
    cells: Sequence[str] = (),
    most_across: int = ACROSS,
    most: int = MOST_COLUMNS,
) -> Path:
    """A panel a column, under its name and its share of missing cells, or the one cell that it is about."""
    shown = columns[:most]
    across = min(len(shown), most_across)
    down = math.ceil(len(shown) / across)
    figure = new_figure(2.4 * across + 0.4, (2.2 if cells else 2.0) * down + 0.6)
    for place, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        column = shown[place]
        draw(tidy(axes), column)
        missing = float(np.isnan(column.data).mean()) if len(column.data) else 0.0
        holes = f" ({missing:.0%} missing)" if missing >= 0.005 else ""
        below = f"\n{short(cells[place], NAME)}" if cells else holes
        axes.set_title(short(column.name, NAME) + below, fontsize=9, parse_math=False)
    more = f" (the first {len(shown)} of {len(columns)} columns)" if len(shown) < len(columns) else ""
    figure.suptitle(title + more, fontsize=10, parse_math=False)
    return save_figure(figure, path)


def _numbers(axes: Axes, column: TableColumn) -> None:
    line = {"color": BLUE, "histtype": "step", "linewidth": 1.4}
    _spread(axes, column, [(column.data, OVER), (column.made, line)])


def _spread(axes: Axes, column: TableColumn, drawn: Sequence[tuple[np.ndarray, dict[str, Any]]]) -> None:
    """Histograms over one another, with the same bars."""
    there = [(values[~np.isnan(values)], how) for values, how in drawn]
    both = [np.quantile(values, WIDEST) for values, _ in there if len(values)] or [np.zeros(2)]
    low, high = float(min(ends[0] for ends in both)), float(max(ends[1] for ends in both))
    few = np.unique(next((values for values, _ in there if len(values)), np.zeros(1)))
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    if bool((few == np.rint(few)).all()) and high - low <= MOST_BARS:  # a bar for each whole number
        edges = np.arange(math.floor(low), math.ceil(high) + 2) - 0.5
    for values, how in there:
        axes.hist(values, bins=edges, weights=np.full(len(values), 1.0 / max(1, len(values))), **how)  # type: ignore[arg-type]
    axes.set_yticks([])
    if max(abs(low), abs(high)) >= WIDE:
        axes.locator_params(axis="x", nbins=3)
    column.mark(axes.xaxis)


def save_rebuilt_columns(columns: Sequence[TableColumn], path: Path, *, title: str = "") -> Path:
    """Each column of reconstructions against the data: numbers about the line on which both are equal, words by their share that comes back.

    Args:
        columns: the columns; `made` has the reconstruction of each row of `data`.
        path: place of the PNG.
        title: title.
    """

    def draw(axes: Axes, column: TableColumn) -> None:
        there = ~np.isnan(column.data)
        data, made = column.data[there], column.made[there]
        if column.words:
            counts = np.bincount(data.astype(int), minlength=len(column.words))
            order = np.argsort(-counts, kind="stable")[:MOST_WORDS]
            right = [float((made[data == i] == i).mean()) if counts[i] else 0.0 for i in order]
            axes.barh(np.arange(len(order)), right, height=0.75, color=BLUE, alpha=0.8)
            axes.set_yticks(
                np.arange(len(order)), [short(column.words[i], LONGEST) for i in order], fontsize=6, parse_math=False
            )
            axes.invert_yaxis()
            axes.set_xlim(0.0, 1.0)
            axes.set_xlabel("share that comes back", fontsize=7)
            return
        ends = [data.min(initial=np.inf), data.max(initial=-np.inf)] if len(data) else [0.0, 1.0]
        axes.plot(ends, ends, color=GREY, linewidth=1.0)
        axes.plot(data, made, ".", color=BLUE, markersize=3)
        column.mark(axes.xaxis)
        column.mark(axes.yaxis)
        axes.set_xlabel("data", fontsize=7)

    return _save_panels(columns, path, title, draw)


def save_column_walks(
    columns: Sequence[TableColumn], path: Path, steps: int, *, title: str = "", marked: Sequence[int] = ()
) -> Path:
    """Each column along walks: a line a walk, the first one in colour; a point at each marked row.

    Args:
        columns: the columns; `made` has the walks one after another.
        path: place of the PNG.
        steps: steps of a walk.
        title: title.
        marked: positions of rows that are marked.
    """

    def draw(axes: Axes, column: TableColumn) -> None:
        first, *others = column.made.reshape(-1, steps)
        for walk in others:
            axes.plot(walk, color=GREY, linewidth=0.8, alpha=0.6)
        axes.plot(first, color=BLUE, linewidth=1.4)
        axes.plot([row % steps for row in marked], column.made[list(marked)], "o", color=ORANGE, markersize=4)
        if column.words:
            axes.set_ylim(-0.5, len(column.words) - 0.5)
        column.mark(axes.yaxis)
        axes.set_xticks([])

    return _save_panels(columns, path, f"{title} (blue: the first)", draw)


def save_row(columns: Sequence[TableColumn], path: Path, said: Sequence[str], *, title: str = "") -> Path:
    """One row in the data: grey how the values of each column are spread, blue where the row lies, and its cell under the name.

    Args:
        columns: the columns; `made` has the one value of the row.
        path: place of the PNG.
        said: cell of each column in words.
        title: title.
    """

    def draw(axes: Axes, column: TableColumn) -> None:
        if column.words:
            _bars(axes, column, column.made)
            return
        _spread(axes, column, [(column.data, OVER)])
        axes.axvline(float(column.made[0]), color=BLUE, linewidth=2.0)

    return _save_panels(columns, path, title, draw, cells=said, most_across=FEW_ACROSS, most=FEW)


def _bars(axes: Axes, column: TableColumn, marked: np.ndarray) -> None:
    """Shares of the words that came, the marked ones in colour."""
    shares = _shares(column.data, len(column.words))
    own = [int(code) for code in marked[~np.isnan(marked)]]
    order = [*own, *(i for i in np.argsort(-shares, kind="stable").tolist() if i not in own)][:MOST_WORDS]
    order.sort(key=lambda i: -shares[i])
    colours = [BLUE if i in own else GREY for i in order]
    axes.barh(np.arange(len(order)), shares[order], height=0.75, color=colours, alpha=0.75)
    _name_words(axes, column, order)
    axes.plot([0.0] * len(own), [order.index(i) for i in own], "o", color=BLUE, markersize=5, clip_on=False)


def _shares(values: np.ndarray, count: int) -> np.ndarray:
    """Share of each word among the cells that are there."""
    there = values[~np.isnan(values)].astype(int)
    found: np.ndarray = np.bincount(there, minlength=count)[:count] / max(1, len(there))
    return found


def _name_words(axes: Axes, column: TableColumn, order: Sequence[int]) -> None:
    """Words at the bars, the first on top."""
    words = [short(column.words[i], LONGEST) for i in order]
    axes.set_yticks(np.arange(len(order)), words, fontsize=7, parse_math=False)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0.0)


def _words(axes: Axes, column: TableColumn) -> None:
    count = len(column.words)
    shares = [_shares(values, count) for values in (column.data, column.made)]
    order = np.argsort(-shares[0] - shares[1] * (not len(column.data)))[:MOST_WORDS]
    places = np.arange(len(order))
    axes.barh(places, shares[0][order], height=0.75, color=GREY, alpha=0.55)
    axes.plot(shares[1][order], places, "o", color=BLUE, markersize=5)
    _name_words(axes, column, order.tolist())
