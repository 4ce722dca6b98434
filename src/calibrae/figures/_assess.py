"""Pictures of calibration, of latents and of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .. import functional
from ._style import BLUE, GREY, ORANGE, new_figure, save_figure, short, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CELLS, CELL = 6, 48  # cells of a row that are drawn, and characters of each
MOST_NAMED = 20  # latents or elements that have a bar each, and their names under them


def save_calibration(pit: Sequence[float], element_spread: Tensor, path: Path) -> Path:
    """The histogram of the probability integral transform, and the spread of the residuals from element to element.

    Args:
        pit: shares of equally wide bins; flat if sigma is true and the residuals Gaussian.
        element_spread: root mean square residual of each element, in sigmas, `[*data]`.
        path: place of the PNG.
    """
    figure = new_figure(8.0, 3.2)
    bars, spread = figure.subplots(1, 2)
    width = 1.0 / len(pit)
    tidy(bars).bar([(i + 0.5) * width for i in range(len(pit))], pit, width=0.92 * width, color=BLUE)
    bars.axhline(width, color=ORANGE, linestyle="--", linewidth=1.0)
    bars.set_title("probability integral transform: flat if sigma is true", fontsize=9)
    bars.set_ylabel("share of residuals", fontsize=8)
    if element_spread.ndim == 3:
        shown = spread.imshow(element_spread.mean(0).numpy(), cmap="magma", vmin=0.0)
        spread.set_axis_off()
        figure.colorbar(shown, ax=spread, fraction=0.046).ax.tick_params(labelsize=8)
    else:
        tidy(spread).plot(
            element_spread.flatten().numpy(), color=BLUE, marker="." if element_spread.numel() < 60 else None
        )
        spread.axhline(1.0, color=ORANGE, linestyle="--", linewidth=1.0)
        spread.set_xlabel("element", fontsize=8)
    spread.set_title("spread of the residuals, in sigmas", fontsize=9)
    return save_figure(figure, path)


def save_latents(kl: Tensor, variance: Tensor, path: Path) -> Path:
    """KL and variance of the posterior mean of each latent, most informative first.

    Args:
        kl: `[d]`, nats.
        variance: variance of the posterior mean over the data, `[d]`.
        path: place of the PNG.
    """
    figure = new_figure(8.0, 3.0)
    left, right = figure.subplots(1, 2)
    order = kl.argsort(descending=True)
    positions = range(len(kl))
    tidy(left).bar(positions, kl[order].tolist(), color=BLUE)
    left.set_title(f"KL of each latent, nats (sum {float(kl.sum()):.1f})", fontsize=9)
    active = functional.active_latents(variance)
    colors = [BLUE if is_active else GREY for is_active in active[order].tolist()]
    tidy(right).bar(positions, variance[order].tolist(), color=colors)
    right.axhline(functional.ACTIVE_ABOVE, color=ORANGE, linestyle="--", linewidth=1.0)
    right.set_title(
        f"variance of the posterior mean ({int(active.sum())} of {len(kl)} above {functional.ACTIVE_ABOVE})", fontsize=9
    )
    for axes in (left, right):
        axes.set_xlabel("latent, by KL", fontsize=8)
        if len(kl) <= MOST_NAMED:
            axes.set_xticks(list(positions), [f"z{int(i)}" for i in order], fontsize=7)
    return save_figure(figure, path)


def save_scores(
    x: Tensor,
    x_hat: Tensor,
    per_element: Tensor,
    titles: Sequence[str],
    path: Path,
    names: Sequence[str] = (),
    said: Sequence[Sequence[str]] = (),
) -> Path:
    """Examples, their reconstructions and the share of each element in the score: a row each for pictures, a panel each for the rest.

    Args:
        x: `[N, *data]`, in the model's units.
        x_hat: reconstructions.
        per_element: `-log p(x_i|z)` of each element.
        titles: titles of each example.
        path: place of the PNG.
        names: names of a table's columns.
        said: cells of each row of a table, in words.
    """
    if x.ndim == 4:
        return _save_pictures(x, x_hat, per_element, titles, path)
    if said:
        return _save_rows(per_element, titles, path, names, said)
    figure = new_figure(9.0, 1.6 * len(x) + 0.3)
    for i, row in enumerate(figure.subplots(len(x), 2, squeeze=False)):
        values, parts = tidy(row[0]), tidy(row[1])
        values.plot(x[i].flatten().numpy(), color=GREY, linewidth=1.4)
        values.plot(x_hat[i].flatten().numpy(), color=BLUE, linewidth=1.0)
        values.set_title(f"{titles[i]} (grey; blue: reconstruction)", fontsize=8)
        _bars(parts, per_element[i].flatten().tolist())
        parts.set_title("-log p of each element, nats", fontsize=8)
        if names and len(names) <= MOST_NAMED:
            parts.set_xticks(range(len(names)), names, rotation=60, fontsize=6, ha="right")
    return save_figure(figure, path)


def _bars(axes: Axes, values: Sequence[float]) -> None:
    """A bar each of a few values, one outline of many: a patch each would take longer than all else of a picture."""
    if len(values) <= MOST_NAMED:
        axes.bar(range(len(values)), values, color=ORANGE)
    else:
        axes.fill_between(range(len(values)), values, step="mid", color=ORANGE, linewidth=0.0)


def _save_rows(
    per_element: Tensor, titles: Sequence[str], path: Path, names: Sequence[str], said: Sequence[Sequence[str]]
) -> Path:
    """The cells of each row that cost most, under each other; an infinite cost is a full bar that says so."""
    count = min(MOST_CELLS, per_element.shape[1])
    figure = new_figure(9.0, (0.2 * count + 0.5) * len(titles) + 0.2)
    for i, axes in enumerate(figure.subplots(len(titles), 1, squeeze=False)[:, 0]):
        cost = per_element[i].double()
        order = cost.argsort(descending=True, stable=True)[:count].tolist()
        finite = cost[cost.isfinite()]
        full = 1.1 * max(1.0, float(finite.abs().max())) if len(finite) else 1.0
        tidy(axes)
        for place, j in enumerate(order):
            is_infinite = not bool(cost[j].isfinite())
            value = full if is_infinite else float(cost[j])
            axes.barh(place, value, color=ORANGE, hatch="//" if is_infinite else None)
            axes.annotate(
                "inf" if is_infinite else f"{value:.1f}", (max(value, 0.0), place), xytext=(4, 0),
                textcoords="offset points", fontsize=6, va="center",
            )  # fmt: skip
        cells = [short(f"{names[j]} = {said[i][j]}", CELL) for j in order]
        axes.set_yticks(range(count), cells, fontsize=7, parse_math=False)
        axes.invert_yaxis()
        axes.set_title(f"{titles[i]}: -log p of its cells, nats", fontsize=8, parse_math=False)
    return save_figure(figure, path)


def _save_pictures(x: Tensor, x_hat: Tensor, per_element: Tensor, titles: Sequence[str], path: Path) -> Path:
    columns = len(x)
    figure = new_figure(1.5 * columns, 4.9)
    heat = per_element.sum(1)
    top = float(heat.flatten().float().quantile(0.99))
    for j, column in enumerate(figure.subplots(3, columns, squeeze=False).T):
        pair = [x[j].clamp(0, 1), x_hat[j].clamp(0, 1)]
        for axes, picture in zip(column[:2], pair, strict=True):
            shown = picture[:3].permute(1, 2, 0) if len(picture) >= 3 else picture[0]
            axes.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1)
        column[2].imshow(heat[j].numpy(), cmap="magma", vmax=top)
        column[0].set_title(titles[j].replace(": ", "\n"), fontsize=7)
        for axes in column:
            axes.set_axis_off()
    figure.suptitle("most unusual examples, their reconstructions, and -log p of each pixel", fontsize=9)
    return save_figure(figure, path)
