"""Fit of the baseline of a table of mixed columns."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import functional
from ..data import Data
from ..models import TableBaseline, levels_in, scores_in

MOST_ROWS = 20_000  # training rows of a baseline
MOST_LEVELS = 64  # of a column in a tree: the pairs of more have few rows each
MOST_FACTORS = 10


def table_baseline(data: Data, latent_dim: int) -> TableBaseline:
    """Baseline of the training rows; the number of factors is the best on the validation rows.

    Args:
        data: a table of mixed columns.
        latent_dim: most factors.
    """
    columns = data.spec.columns
    x = torch.cat([batch.x for batch in data.batches("train", 4096, limit=MOST_ROWS)])
    discrete = tuple(
        i
        for i, c in enumerate(columns)
        if c.head in ("categorical", "bernoulli", "ordinal") and len(c.shares) <= MOST_LEVELS
    )
    numeric = tuple(i for i, c in enumerate(columns) if c.head == "gaussian")
    tree = None
    if len(discrete) > 1:
        tree = functional.chow_liu(levels_in(x, discrete), [len(columns[i].shares) for i in discrete])
    factor = None
    if len(numeric) > 1:
        held_out = torch.cat([batch.x for batch in data.batches("validation", 4096, limit=MOST_ROWS)])
        factor = _best_factor(scores_in(x, columns, numeric), scores_in(held_out, columns, numeric), latent_dim)
    return TableBaseline(columns, discrete, tree, numeric, factor)


def _best_factor(train: Tensor, held_out: Tensor, latent_dim: int) -> functional.MissingFactor:
    most = min(latent_dim, train.shape[1] - 1, MOST_FACTORS)
    sizes = sorted({1, 2, 3, 5, 7, most} & set(range(1, most + 1)))
    models = [functional.factor_with_missing(train, size) for size in sizes]
    return max(models, key=lambda model: float(model.log_prob(held_out).sum()))
