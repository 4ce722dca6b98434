"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ._style import BLUE, CATEGORIES, GREY, ORANGE, new_figure, save_figure, short, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 10  # values of a panel from which some can be called spikes
ROOM = 0.5  # share of the usual range that is left above it
Rows = Sequence[Mapping[str, float]]


def save_curves(history: Rows, path: Path, baseline: tuple[str, float] | None = None) -> Path:
    """Draw the objective, each part of the ELBO, RMSE and sigma, and the learning rate over epochs; the epoch that was kept is marked.

    A few values far above the others, as of a first epoch or a spike, lie outside the panel, which says so.

    Args:
        history: rows of `history.csv`.
        path: place of the PNG.
        baseline: name of the linear baseline and its log-likelihood, nats, drawn as a line.
    """
    figure = new_figure(12.0, 5.6)
    loss, nll, kl, size, rate, _ = panels = figure.subplots(2, 3).flat
    panels[5].set_axis_off()
    epochs = [row["epoch"] for row in history]
    has_elbo = "validation_elbo" in history[0]
    tidy(loss).plot(epochs, [row["train_loss"] for row in history], color=GREY, label="training loss")
    loss.plot(epochs, [row["validation_loss"] for row in history], color=BLUE, label="validation loss")
    elbos = [-row["validation_elbo"] for row in history] if has_elbo else []
    if any(abs(elbo - row["validation_loss"]) > 0.05 for elbo, row in zip(elbos, history, strict=False)):
        loss.plot(epochs, elbos, color=BLUE, linestyle=":", label="validation -ELBO")
    if baseline is not None:
        name, nats = baseline
        loss.axhline(
            -nats,
            color=ORANGE,
            linestyle="--",
            linewidth=1.0,
            label=short(name.partition(" with ")[0], 40),
        )
    objective = "objective, nats" if has_elbo else "-log p(x|z), nats"
    loss.set_title(f"{objective} (orange: kept epoch {min(history, key=_loss_of)['epoch']:g})", fontsize=10)
    loss.legend(fontsize=8, frameon=False)
    for axes, part, title in ((nll, "nll", "reconstruction, -log p(x|z), nats"), (kl, "kl", "KL, nats")):
        if f"validation_{part}" not in history[0]:
            axes.set_axis_off()
            continue
        if f"train_{part}" in history[0]:
            tidy(axes).plot(epochs, [row[f"train_{part}"] for row in history], color=GREY)
        tidy(axes).plot(epochs, [row[f"validation_{part}"] for row in history], color=BLUE)
        axes.set_title(title, fontsize=10)
    tidy(rate).plot(epochs, [row.get("lr", 0.0) for row in history], color=GREY)
    rate.set_title("learning rate", fontsize=10)
    _residual(size, history)
    kept = min(history, key=_loss_of)["epoch"]
    for axes in (axes for axes in (loss, nll, kl, size, rate) if axes.lines):
        _over_epochs(axes)
        _leave_spikes_out(axes)
        axes.axvline(kept, color=ORANGE, linewidth=0.8, alpha=0.6)
        if len(history) == 1:
            for line in axes.lines:
                line.set_marker("o")
    return save_figure(figure, path)


def _residual(axes: Axes, history: Rows) -> None:
    """Draw the validation error and sigma, of models that have them."""
    if "validation_rmse" not in history[0]:
        axes.set_axis_off()
        return
    epochs = [row["epoch"] for row in history]
    tidy(axes).plot(epochs, [row["validation_rmse"] for row in history], color=BLUE, label="validation RMSE")
    if "sigma" in history[0]:
        axes.plot(epochs, [row["sigma"] for row in history], color=ORANGE, linestyle="--", label="sigma")
    axes.set_title("residual, units of the data", fontsize=10)
    axes.legend(fontsize=8, frameon=False)


def save_overlay(histories: Mapping[str, Rows], path: Path) -> Path:
    """Draw the validation ELBO, the KL and the residual of several runs over epochs; the epoch that each kept is marked.

    Args:
        histories: rows of `history.csv` by name.
        path: place of the PNG.
    """
    figure = new_figure(11.0, 3.4)
    panels = figure.subplots(1, 3)
    parts = (("validation_elbo", "ELBO, nats"), ("validation_kl", "KL, nats"), ("validation_rmse", "RMSE"))
    for axes, (part, title) in zip(panels, parts, strict=True):
        tidy(axes).set_title(f"validation {title}", fontsize=9)
        _over_epochs(axes)
        for i, (name, history) in enumerate(histories.items()):
            rows = [row for row in history if part in row]
            if rows:
                epochs, values = [row["epoch"] for row in rows], [row[part] for row in rows]
                colour = CATEGORIES[i % len(CATEGORIES)]
                axes.plot(epochs, values, color=colour, label=f"\u200b{name}", marker="o" if len(rows) == 1 else None)
                kept = min(rows, key=_loss_of)
                axes.plot([kept["epoch"]], [kept[part]], "o", color=colour, markersize=4)
    for text in panels[0].legend(fontsize=7, frameon=False).get_texts():
        text.set_parse_math(False)  # names are no formulas
    return save_figure(figure, path)


def _over_epochs(axes: Axes) -> None:
    """Name the axis, and count in whole epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _loss_of(row: Mapping[str, float]) -> float:
    return row["validation_loss"]


def _leave_spikes_out(axes: Axes) -> None:
    """Show the range of nine values in ten, with some room, where the rest lies far above it; and say how many do not show."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines] or [np.empty(0)])
    values = np.sort(drawn[np.isfinite(drawn)])
    if len(values) < FEWEST:
        return
    low, high = float(values[0]), float(values[int(0.9 * len(values))])
    room = ROOM * (high - low)
    if values[-1] <= high + 2.0 * room or room == 0.0:
        return
    above = int((values > high + room).sum())
    axes.set_ylim(low - 0.1 * room, high + room)
    axes.text(
        0.98, 0.97, f"{above} points above", transform=axes.transAxes, fontsize=7, ha="right", va="top", color=GREY
    )
