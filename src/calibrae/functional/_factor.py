"""Factor analysis by EM: the best linear model whose noise has a variance of its own for each element, or each group of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .._types import Float
from ..errors import ArgumentError, ShapeError

ITERATIONS = 1000
GAIN = 1e-6  # nats per example below which an iteration changes nothing
GROWTH = 10  # iterations between two looks at the gain


@dataclass(frozen=True, slots=True)
class FactorAnalysis:
    r"""A fitted factor analysis, $x = W z + b + \epsilon$, $\epsilon_i \sim N(0, \psi_i)$.

    Attributes:
        mean: `b`, `[D]`.
        weight: `W`, `[D, d]`.
        noise: variances `psi`, `[D]`.
    """

    mean: Tensor
    weight: Tensor
    noise: Tensor

    @property
    def sigma(self) -> float:
        """Root mean square of the noise."""
        return math.sqrt(float(self.noise.mean()))


def factor_analysis(
    mean: Tensor,
    covariance: Tensor,
    start: Tensor,
    *,
    groups: Tensor | None = None,
    min_noise: float = 1e-12,
) -> FactorAnalysis:
    r"""The maximum-likelihood factor analysis, by EM (Rubin & Thayer 1982).

    $$\beta = M^{-1} W^T \Psi^{-1}, \quad M = I + W^T \Psi^{-1} W, \qquad
      W \leftarrow S \beta^T (M^{-1} + \beta S \beta^T)^{-1}, \qquad \Psi \leftarrow \operatorname{diag}(S - W \beta S)$$

    Args:
        mean: mean of the data, `[D]`.
        covariance: `S`, divided by `N`, `[D, D]`.
        start: first weights, `[D, d]`, such as those of probabilistic PCA.
        groups: number of the group of each element, whose noise is averaged; by default each is a group of its own.
        min_noise: least variance of the noise: without one, an element that the factors explain has an unbounded density.

    Returns:
        The fitted model, in the dtype of the covariance.

    Raises:
        ShapeError: if the shapes do not agree.
        ArgumentError: if `min_noise` is not positive.

    References:
        Rubin & Thayer 1982, https://doi.org/10.1007/BF02293851

    Examples:
        >>> covariance = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        >>> start = torch.ones(2, 1, dtype=torch.float64)
        >>> factor_analysis(torch.zeros(2), covariance, start).noise
        tensor([1., 1.], dtype=torch.float64)
    """
    if covariance.shape != (len(mean), len(mean)) or start.shape[0] != len(mean):
        raise ShapeError(
            f"`covariance` must be [D, D] and `start` [D, d]; got {tuple(covariance.shape)}, {tuple(start.shape)}."
        )
    if not min_noise > 0:
        raise ArgumentError(f"`min_noise` must be positive; got {min_noise}.")
    weight, variance = start, covariance.diagonal()
    noise = _grouped((variance - weight.square().sum(1)).clamp_min(1e-3 * variance), groups).clamp_min(min_noise)
    last = -math.inf
    for iteration in range(ITERATIONS):
        if iteration % GROWTH == 0:
            now = _mean_log_likelihood(covariance, weight, noise)
            if now - last < GROWTH * GAIN:
                break
            last = now
        scaled = weight / noise[:, None]
        inner = torch.eye(weight.shape[1], dtype=weight.dtype) + weight.T @ scaled
        beta = torch.linalg.solve(inner, scaled.T)
        crossed = covariance @ beta.T
        second = torch.linalg.inv(inner) + beta @ crossed
        weight = torch.linalg.solve(second, crossed.T).T
        noise = _grouped(variance - (weight * crossed).sum(1), groups).clamp_min(min_noise)
    return FactorAnalysis(mean, weight, noise)


def _grouped(noise: Tensor, groups: Tensor | None) -> Tensor:
    """Means over each group, written out for every element."""
    if groups is None:
        return noise
    count = int(groups.max()) + 1
    total = torch.zeros(count, dtype=noise.dtype).index_add_(0, groups, noise)
    size = torch.zeros(count, dtype=noise.dtype).index_add_(0, groups, torch.ones_like(noise))
    return (total / size)[groups]


def _inner(weight: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor of `M`, and `log det` of the covariance of `x`."""
    inner = torch.eye(weight.shape[1], dtype=weight.dtype) + weight.T @ (weight / noise[:, None])
    factor = torch.linalg.cholesky(inner)
    return factor, noise.log().sum() + 2.0 * factor.diagonal().log().sum()


def _mean_log_likelihood(covariance: Tensor, weight: Tensor, noise: Tensor) -> float:
    factor, log_det = _inner(weight, noise)
    scaled = weight / noise[:, None]
    explained = torch.cholesky_solve(scaled.T @ covariance @ scaled, factor).trace()
    quadratic = (covariance.diagonal() / noise).sum() - explained
    return float(-0.5 * (len(noise) * math.log(2.0 * math.pi) + log_det + quadratic))


def factor_log_likelihood(model: FactorAnalysis, x: Tensor) -> Float[Tensor, " b"]:
    r"""Exact `log p(x)` of each example under a factor analysis, in nats: $x \sim N(b, W W^T + \Psi)$, nothing dropped.

    Args:
        model: a fitted `FactorAnalysis`.
        x: data, `[B, D]`, in the dtype of the model.

    Returns:
        `[B]`, in nats.

    Raises:
        ShapeError: if `x` is not `[B, D]`.

    Examples:
        >>> model = FactorAnalysis(torch.zeros(2), torch.ones(2, 1), torch.ones(2))
        >>> factor_log_likelihood(model, torch.zeros(1, 2))
        tensor([-2.3872])
    """
    if x.ndim != 2 or x.shape[1] != len(model.mean):
        raise ShapeError(
            f"`x` must be [B, {len(model.mean)}] for this model; got {tuple(x.shape)}. Flatten the data first."
        )
    factor, log_det = _inner(model.weight, model.noise)
    centred = x - model.mean
    scaled = centred / model.noise
    projected = torch.linalg.solve_triangular(factor, (scaled @ model.weight).T, upper=False)
    quadratic = (centred * scaled).sum(1) - projected.square().sum(0)
    found: Tensor = -0.5 * (len(model.mean) * math.log(2.0 * math.pi) + log_det + quadratic)
    return found
