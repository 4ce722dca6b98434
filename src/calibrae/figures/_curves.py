"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ._style import BLUE, GREY, ORANGE, new_figure, save_figure, tidy

Rows = Sequence[Mapping[str, float]]


def save_curves(history: Rows, path: Path, floor: float | None = None) -> Path:
    """-ELBO (or reconstruction term), KL, RMSE and sigma over epochs, training and validation.

    Args:
        history: rows of `history.csv`.
        path: of the PNG.
        floor: closed-form log-likelihood of probabilistic PCA, nats, drawn as a line.
    """
    figure = new_figure(10.0, 3.2)
    loss, kl, size = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    has_elbo = "validation_elbo" in history[0]
    validation = [-row["validation_elbo"] if has_elbo else row["validation_nll"] for row in history]
    tidy(loss).plot(epochs, [row["train_loss"] for row in history], color=GREY, label="training")
    loss.plot(epochs, validation, color=BLUE, label="validation")
    if floor is not None:
        loss.axhline(-floor, color=ORANGE, linestyle="--", linewidth=1.0, label="probabilistic PCA")
    loss.set_title("-ELBO, nats" if has_elbo else "-log p(x|z), nats", fontsize=10)
    loss.legend(fontsize=8, frameon=False)
    tidy(kl).plot(epochs, [row["train_kl"] for row in history], color=GREY)
    kl.plot(epochs, [row["validation_kl"] for row in history], color=BLUE)
    kl.set_title("KL, nats", fontsize=10)
    tidy(size).plot(epochs, [row["validation_rmse"] for row in history], color=BLUE, label="validation RMSE")
    if "sigma" in history[0]:
        size.plot(epochs, [row["sigma"] for row in history], color=ORANGE, linestyle="--", label="sigma")
    size.set_title("residual, units of the data", fontsize=10)
    size.legend(fontsize=8, frameon=False)
    for axes in (loss, kl, size):
        axes.set_xlabel("epoch", fontsize=8)
        if len(history) == 1:
            for line in axes.lines:
                line.set_marker("o")
    return save_figure(figure, path)
