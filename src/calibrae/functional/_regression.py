"""Regressions on a condition: the simplest models of numbers and of levels that know it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..errors import ShapeError

PRIOR = (
    1.0  # precision of the normal prior on the weights of levels, so that they stay finite where a level never occurs
)
ITERATIONS = 200
SETTLED = 1e-6


def regress(batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> Tensor:
    r"""Least-squares slope of numbers on a condition, with an intercept that is not returned.

    $$B = \arg\min_B \min_a \sum_n \lVert x_n - a - B^T c_n \rVert^2$$

    Convention: float64; the shortest of all solutions where the conditions determine each other, as one-hot classes do. Each column
    is fitted on its observed cells.

    Args:
        batches: starts a pass over the data, in pairs of conditions `[B, K]` and numbers `[B, D]`, NaN where a cell is missing.

    Returns:
        `[K, D]`, float64.

    Raises:
        ShapeError: if they are not pairs of rows.

    Examples:
        >>> c = torch.tensor([[0.0], [1.0], [2.0]])
        >>> regress(lambda: [(c, 3.0 * c + 1.0)])
        tensor([[3.0000]], dtype=torch.float64)
    """
    seconds: Tensor | None = None
    firsts = torch.zeros(())
    for context, x in batches():
        if len(context) != len(x) or context.ndim != 2 or x.ndim != 2:
            raise ShapeError(
                f"`context` must be [B, K] and `x` [B, D] of the same rows; got {tuple(context.shape)} and {tuple(x.shape)}."
            )
        wide = torch.nn.functional.pad(context.double(), (0, 1), value=1.0)
        seen, values = (~x.isnan()).double(), x.double().nan_to_num(0.0)
        second = wide.T @ wide if bool(seen.all()) else torch.einsum("nj,nk,nl->jkl", seen, wide, wide)
        seconds = second if seconds is None else seconds + second  # one that all columns share counts for each
        firsts = firsts + wide.T @ values
    assert seconds is not None
    if seconds.ndim == 2:
        solved = torch.linalg.pinv(seconds, hermitian=True) @ firsts
    else:
        solved = torch.einsum("jkl,lj->kj", torch.linalg.pinv(seconds, hermitian=True), firsts)
    slope: Tensor = solved[:-1]
    return slope


def multinomial_regress(context: Tensor, levels: Tensor, count: int) -> Tensor:
    r"""Weights of a multinomial logistic regression of levels on a condition, with a normal prior on the weights.

    $$p(x = l | c) \propto \exp(w_l^T c + b_l), \qquad w \sim N(0, 1)$$

    Convention: float64; the largest posterior density. Intercepts have no prior.

    Args:
        context: conditions `[N, K]`.
        levels: whole numbers `[N]`; -1 where a cell is missing, which counts nothing.
        count: number of levels, `L`.

    Returns:
        `[K + 1, L]`, the intercepts last.

    Examples:
        >>> c, levels = torch.tensor([[0.0], [1.0]]).repeat(200, 1), torch.tensor([0, 1]).repeat(200)
        >>> level_log_prob(multinomial_regress(c, levels, 2), c[:2], levels[:2]).exp() > 0.95
        tensor([True, True])
    """
    known = levels >= 0
    wide = torch.nn.functional.pad(context[known].double(), (0, 1), value=1.0)
    target = levels[known]
    counts = torch.bincount(target, minlength=count).double()
    weights = torch.zeros(wide.shape[1], count, dtype=torch.float64)
    weights[-1] = ((counts + 1.0) / (counts.sum() + count)).log()  # the marginals: no worse to begin with
    if not len(target):
        return weights
    weights.requires_grad_(True)
    optimiser = torch.optim.LBFGS([weights], max_iter=ITERATIONS, tolerance_grad=SETTLED, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        penalty = 0.5 * PRIOR * weights[:-1].square().sum() + 0.5 * 1e-3 * weights[-1].square().sum()
        value: Tensor = (torch.nn.functional.cross_entropy(wide @ weights, target, reduction="sum") + penalty) / len(
            wide
        )
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return weights.detach()


def level_log_prob(weights: Tensor, context: Tensor, levels: Tensor) -> Tensor:
    """Log-probability of levels `[N]` given conditions `[N, K]`, nats, float64; 0 for a missing one, -1."""
    logits = torch.nn.functional.pad(context.double(), (0, 1), value=1.0) @ weights
    found = logits.log_softmax(-1).gather(1, levels.clamp_min(0)[:, None])[:, 0]
    return torch.where(levels >= 0, found, 0.0)
