"""Fit of the baseline of a table of mixed columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from .. import functional
from .._types import AnySplit, Batch, ColumnModel
from ..data import Data
from ..models import TableBaseline, levels_in, scores_in

MOST_ROWS = 20_000  # training rows of a baseline
MOST_LEVELS = 64  # of a column in a tree: the pairs of more have few rows each
MOST_FACTORS = 10
MOST_FEATURES = 200  # of a condition that is regressed on
BLOCK = 512  # rows


def table_baseline(data: Data, latent_dim: int) -> TableBaseline:
    """Baseline of the training rows; what it is made of is the best on the validation rows.

    Args:
        data: a table of mixed columns, with its condition if it has one.
        latent_dim: most factors.
    """
    columns = data.spec.columns
    train, held_out = _rows(data, "train"), _rows(data, "validation")
    discrete = tuple(
        i
        for i, c in enumerate(columns)
        if c.head in ("categorical", "bernoulli", "ordinal") and len(c.shares) <= MOST_LEVELS
    )
    numeric = tuple(i for i, c in enumerate(columns) if c.head == "gaussian")
    tree, weights = _levels(train, held_out, discrete, [len(columns[i].shares) for i in discrete])
    factor, slope = _numbers(train, held_out, columns, numeric, latent_dim) if numeric else (None, None)
    return TableBaseline(columns, discrete, tree, numeric, factor, slope, weights)


def _numbers(
    train: Batch, held_out: Batch, columns: tuple[ColumnModel, ...], numeric: tuple[int, ...], latent_dim: int
) -> tuple[functional.MissingFactor | None, Tensor | None]:
    """Factor analysis of the normal scores, after a regression on the condition where that is better on the validation rows.

    One column alone has no factors: it is regressed on, or left to its marginal.
    """
    scores, others = (scores_in(rows.x, columns, numeric) for rows in (train, held_out))
    if len(numeric) == 1:
        factor, value = None, float(torch.distributions.Normal(0.0, 1.0, False).log_prob(others).nansum())
    else:
        factor, value = _best_factor(scores, others, latent_dim)
    if not _is_given(train, held_out):
        return factor, None
    slope = functional.regress(partial(_blocks, train.context, scores))  # type: ignore[arg-type]
    rest = [x - batch.context.double() @ slope for x, batch in ((scores, train), (others, held_out))]  # type: ignore[union-attr]
    given, better = _best_factor(rest[0], rest[1], latent_dim)
    return (given, slope) if better > value else (factor, None)


def _is_given(train: Batch, held_out: Batch) -> bool:
    """Tell whether there is a condition of few enough features to regress on."""
    return train.context is not None and held_out.context is not None and train.context.shape[1] <= MOST_FEATURES


def _blocks(context: Tensor, scores: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(context.split(BLOCK), scores.split(BLOCK), strict=True)


def _rows(data: Data, split: AnySplit) -> Batch:
    found = list(data.batches(split, 4096, limit=MOST_ROWS))
    contexts = [batch.context for batch in found if batch.context is not None]
    return Batch(torch.cat([batch.x for batch in found]), torch.cat(contexts) if contexts else None)


def _levels(
    train: Batch, held_out: Batch, columns: tuple[int, ...], counts: list[int]
) -> tuple[functional.Tree | None, tuple[Tensor, ...]]:
    """A tree of discrete columns, or regressions on the condition where they are better on the validation rows."""
    levels, others = levels_in(train.x, columns), levels_in(held_out.x, columns)
    tree = functional.chow_liu(levels, counts) if columns else None
    kept = tree if len(columns) > 1 else None  # of one column it is the marginal
    if tree is None or not _is_given(train, held_out):
        return kept, ()
    weights = tuple(
        functional.multinomial_regress(train.context, column, count)  # type: ignore[arg-type]
        for column, count in zip(levels.T, counts, strict=True)
    )
    each = [functional.level_log_prob(w, held_out.context, c) for w, c in zip(weights, others.T, strict=True)]  # type: ignore[arg-type]
    is_better = float(torch.stack(each).sum()) > float(tree.log_prob(others).sum())
    return (None, weights) if is_better else (kept, ())


def _best_factor(train: Tensor, held_out: Tensor, latent_dim: int) -> tuple[functional.MissingFactor, float]:
    """Factor analysis with the number of factors that is best on the validation rows, and its value there."""
    if train.shape[1] == 1:
        mean, noise = train.nanmean(0), (train - train.nanmean(0)).square().nanmean(0)
        only = functional.MissingFactor(mean, torch.zeros(1, 1, dtype=train.dtype), noise.clamp_min(1e-12))
        return only, float(only.log_prob(held_out).sum())
    most = min(latent_dim, train.shape[1] - 1, MOST_FACTORS)
    sizes = sorted({1, 2, 3, 5, 7, most} & set(range(1, most + 1)))
    models = [functional.factor_with_missing(train, size) for size in sizes]
    values = [float(model.log_prob(held_out).sum()) for model in models]
    best = max(range(len(models)), key=values.__getitem__)
    return models[best], values[best]
