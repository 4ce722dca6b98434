"""Maps of latents, and samples drawn over the data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ._style import BLUE, CATEGORIES, GREY, new_figure, save_figure, short, tidy

COLOURED = (0.02, 0.98)  # quantiles of the values between which colours differ: one spike must not take them all
MARKERS = ((".", 4.0), ("x", 3.0))  # of the first groups, one colour each, and of the others, with their sizes
MOST_GROUPS = len(CATEGORIES) * len(MARKERS)
OTHERS = "others"
MOST_COLUMNS, ACROSS, NAME, BINS = 24, 4, 24, 30


def grouped(groups: Sequence[str]) -> list[tuple[str, list[int], str, int]]:
    """Each group's name, its rows, its colour and the number of its marker; the smallest of many groups are others, in grey."""
    counts = Counter(groups)
    named = [group for group, _ in counts.most_common(MOST_GROUPS if len(counts) <= MOST_GROUPS else MOST_GROUPS - 1)]
    rows: dict[str, list[int]] = {group: [] for group in _in_order(named)}
    for row, group in enumerate(groups):
        rows.setdefault(group if group in named else OTHERS, []).append(row)
    looks = iter((colour, marker) for marker in range(len(MARKERS)) for colour in CATEGORIES)
    return [(group, own, *((GREY, 0) if group == OTHERS else next(looks))) for group, own in rows.items()]


def _in_order(names: Sequence[str]) -> list[str]:
    """Names in the order of their numbers, where all of them are such."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


def save_map(
    points: Tensor,
    path: Path,
    *,
    groups: Sequence[str] = (),
    values: Sequence[float] = (),
    axes: str = "component",
    title: str = "",
) -> npt.NDArray[np.float64]:
    """Draw examples on two axes, coloured by group, or by the ELBO where there are no groups.

    Args:
        points: `[N, 2]`.
        path: place of the PNG.
        groups: group of each.
        values: number of each, nats.
        axes: name of the axes.
        title: title.

    Returns:
        Place of each example in the picture, `[N, 2]`, pixels to the right and down from its top left corner.
    """
    figure = new_figure(5.6, 4.6)
    panel = tidy(figure.subplots())
    x, y = points[:, 0].tolist(), points[:, 1].tolist()
    if groups:
        for group, rows, colour, marker in grouped(groups):
            form, size = MARKERS[marker]
            own = [x[j] for j in rows], [y[j] for j in rows]
            panel.plot(*own, form, markersize=size, color=colour, label=f"\u200b{group}")
        legend = panel.legend(fontsize=7, frameon=False, markerscale=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for text in legend.get_texts():
            text.set_parse_math(False)
    elif len(values):
        low, high = np.quantile(np.asarray(values), COLOURED)
        shown = panel.scatter(x, y, c=list(values), s=7, cmap="cividis", vmin=low, vmax=high)
        bar = figure.colorbar(shown, ax=panel)
        bar.set_label("ELBO, nats", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    else:
        panel.plot(x, y, ".", markersize=4, color=BLUE)
    panel.set_xlabel(f"first {axes}", fontsize=8)
    panel.set_title(title, fontsize=9, parse_math=False)
    panel.set_ylabel(f"second {axes}", fontsize=8)
    save_figure(figure, path)
    places = panel.transData.transform(points.double().numpy())
    return np.stack([places[:, 0], figure.bbox.height - places[:, 1]], axis=1)


def save_marginals(x: Tensor, samples: Tensor, path: Path, names: Sequence[str]) -> Path:
    """Draw each column of samples `[M, D]` over the data `[N, D]`, as densities in the units of the data."""
    shown = min(x.shape[1], MOST_COLUMNS)
    across = min(shown, ACROSS)
    down = math.ceil(shown / across)
    figure = new_figure(2.6 * across + 0.4, 1.9 * down + 0.4)
    for column, panel in enumerate(figure.subplots(down, across, squeeze=False).flat):
        tidy(panel)
        if column >= shown:
            panel.set_axis_off()
            continue
        data, drawn = x[:, column].double().numpy(), samples[:, column].double().numpy()
        low, high = np.quantile(np.concatenate([data, drawn]), [0.002, 0.998])
        edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
        panel.hist(data, bins=edges, density=True, histtype="stepfilled", color=GREY, alpha=0.55, label="data")
        panel.hist(drawn, bins=edges, density=True, histtype="step", color=BLUE, linewidth=1.4, label="samples")
        panel.set_title(
            short(names[column], NAME),
            fontsize=9,
            parse_math=False,
        )
        panel.set_yticks([])
        if column == 0:
            panel.legend(fontsize=7, frameon=False)
    return save_figure(figure, path)
