"""Fit of the baseline of a table of mixed columns."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .. import functional
from .._types import AnySplit, Batch
from ..data import Data
from ..models import TableBaseline, levels_in, scores_in

MOST_ROWS = 20_000  # training rows of a baseline
MOST_LEVELS = 64  # of a column in a tree: the pairs of more have few rows each
MOST_FACTORS = 10


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
    factor, slope = None, None
    if len(numeric) > 1:
        scores, others = (scores_in(rows.x, columns, numeric) for rows in (train, held_out))
        if train.context is not None and held_out.context is not None:
            slope = functional.regress(partial(_once, train.context, scores))
            scores, others = scores - train.context.double() @ slope, others - held_out.context.double() @ slope
        factor = _best_factor(scores, others, latent_dim)
    return TableBaseline(columns, discrete, tree, numeric, factor, slope, weights)


def _once(context: Tensor, scores: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(context, scores)]


def _rows(data: Data, split: AnySplit) -> Batch:
    found = list(data.batches(split, 4096, limit=MOST_ROWS))
    contexts = [batch.context for batch in found if batch.context is not None]
    return Batch(torch.cat([batch.x for batch in found]), torch.cat(contexts) if contexts else None)


def _levels(
    train: Batch, held_out: Batch, columns: tuple[int, ...], counts: list[int]
) -> tuple[functional.Tree | None, tuple[Tensor, ...]]:
    """A tree of discrete columns, or regressions on the condition where they are better on the validation rows."""
    levels, others = levels_in(train.x, columns), levels_in(held_out.x, columns)
    tree = functional.chow_liu(levels, counts) if len(columns) > 1 else None
    if train.context is None or held_out.context is None or not columns:
        return tree, ()
    weights = tuple(
        functional.multinomial_regress(train.context, column, count)
        for column, count in zip(levels.T, counts, strict=True)
    )
    if tree is None:
        return None, weights
    each = [functional.level_log_prob(w, held_out.context, c) for w, c in zip(weights, others.T, strict=True)]
    is_better = float(torch.stack(each).sum()) > float(tree.log_prob(others).sum())
    return (None, weights) if is_better else (tree, ())


def _best_factor(train: Tensor, held_out: Tensor, latent_dim: int) -> functional.MissingFactor:
    most = min(latent_dim, train.shape[1] - 1, MOST_FACTORS)
    sizes = sorted({1, 2, 3, 5, 7, most} & set(range(1, most + 1)))
    models = [functional.factor_with_missing(train, size) for size in sizes]
    return max(models, key=lambda model: float(model.log_prob(held_out).sum()))
