"""Pictures of table rows: a panel a column, under its name and on its own scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import ArgumentError
from ._style import BLUE, GREY, ORANGE, new_figure, save_figure, short, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS, ACROSS = 24, 6
NAME = 24  # characters of a column's name
TICKS = 4  # of each axis, at most: panels are small
BINS = 40


def save_histograms(x: Tensor, path: Path, names: Sequence[str], *, title: str = "") -> Path:
    """Draw how the values of each column of `[N, D]` are spread."""

    def draw(axes: Axes, column: int) -> None:
        values = x[:, column].double().numpy()
        room = 1e-9 * float(abs(values).max()) or 1e-9  # bins need some width, where all values are nearly one
        spread = (
            (values.min(), values.max())
            if values.max() - values.min() > room
            else (values.min() - room, values.max() + room)
        )
        axes.hist(values, bins=min(BINS, max(5, len(x) // 2)), range=spread, histtype="stepfilled", color=BLUE)

    return _save_panels(x, path, names, draw, title)


def save_pairs(x: Tensor, x_hat: Tensor, path: Path, names: Sequence[str], *, title: str = "") -> Path:
    """Each column of the reconstructions `[N, D]` against the data; the line is where they agree."""

    def draw(axes: Axes, column: int) -> None:
        data = x[:, column].numpy()
        ends = [data.min(), data.max()]
        axes.plot(ends, ends, color=GREY, linewidth=1.0)
        axes.plot(data, x_hat[:, column].numpy(), ".", color=BLUE, markersize=3)

    return _save_panels(x, path, names, draw, title)


def save_walks(
    x: Tensor, path: Path, names: Sequence[str], steps: int, *, title: str = "", marked: Sequence[int] = ()
) -> Path:
    """Each column along walks `[walks * steps, D]`: a line a walk, the first one in colour; a point at each marked row."""
    if len(x) % steps:
        raise ArgumentError(f"walks of {steps} steps must fill all rows; got {len(x)} rows.")
    walks = x.reshape(-1, steps, x.shape[1])

    def draw(axes: Axes, column: int) -> None:
        for walk in walks[1:]:
            axes.plot(walk[:, column].numpy(), color=GREY, linewidth=0.8, alpha=0.6)
        axes.plot(walks[0, :, column].numpy(), color=BLUE, linewidth=1.4)
        axes.plot(
            [row % steps for row in marked], [float(x[row, column]) for row in marked], "o", color=ORANGE, markersize=4
        )

    return _save_panels(x, path, names, draw, f"{title} (blue: the first)" if len(walks) > 1 else title)


def _save_panels(x: Tensor, path: Path, names: Sequence[str], draw: Callable[[Axes, int], None], title: str) -> Path:
    if x.ndim != 2 or len(names) != x.shape[1]:
        raise ArgumentError(f"a table is [N, D] with D names; got {tuple(x.shape)} and {len(names)} names.")
    shown = min(x.shape[1], MOST_COLUMNS)
    across = min(shown, ACROSS)
    down = math.ceil(shown / across)
    figure = new_figure(2.0 * across + 0.6, 1.7 * down + 0.5)
    for column, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
        tidy(axes)
        if column >= shown:
            axes.set_axis_off()
            continue
        draw(axes, column)
        axes.locator_params(nbins=TICKS)
        axes.set_title(
            short(names[column], NAME),
            fontsize=9,
            parse_math=False,
        )
    more = f" (the first {shown} of {x.shape[1]} columns)" if shown < x.shape[1] else ""
    figure.suptitle(title + more, fontsize=10)
    return save_figure(figure, path)
