"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ._style import BLUE, GREY, ORANGE, new_figure, save_figure, tidy

Rows = Sequence[Mapping[str, float]]


def save_curves(history: Rows, path: Path, baseline: tuple[str, float] | None = None) -> Path:
    """Draw the objective, the parts of the ELBO, RMSE and sigma over epochs, training and validation.

    Args:
        history: rows of `history.csv`.
        path: place of the PNG.
        baseline: name of the linear baseline and its log-likelihood, nats, drawn as a line.
    """
    figure = new_figure(10.0, 3.2)
    loss, kl, size = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    has_elbo = "validation_elbo" in history[0]
    tidy(loss).plot(epochs, [row["train_loss"] for row in history], color=GREY, label="training loss")
    loss.plot(epochs, [row["validation_loss"] for row in history], color=BLUE, label="validation loss")
    elbos = [-row["validation_elbo"] for row in history] if has_elbo else []
    if any(abs(elbo - row["validation_loss"]) > 0.05 for elbo, row in zip(elbos, history, strict=False)):
        loss.plot(epochs, elbos, color=BLUE, linestyle=":", label="validation -ELBO")
    if baseline is not None:
        name, nats = baseline
        loss.axhline(-nats, color=ORANGE, linestyle="--", linewidth=1.0, label=name.partition(" with ")[0])
    loss.set_title("objective, nats" if has_elbo else "-log p(x|z), nats", fontsize=10)
    loss.legend(fontsize=8, frameon=False)
    part, title = ("kl", "KL, nats") if has_elbo else ("nll", "-log p(x|z), nats")
    if f"train_{part}" in history[0]:
        tidy(kl).plot(epochs, [row[f"train_{part}"] for row in history], color=GREY)
    tidy(kl).plot(epochs, [row[f"validation_{part}"] for row in history], color=BLUE)
    kl.set_title(title, fontsize=10)
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
