"""Factor analysis of numbers some of which are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..errors import ArgumentError

ITERATIONS = 200
SETTLED = 1e-5  # nats a row an iteration
LEAST_NOISE = 1e-4
ROWS = 8192


@final
@dataclass(frozen=True)
class MissingFactor:
    r"""$x = W z + \mu + \epsilon$, $\epsilon_j \sim N(0, \psi_j)$, of which only some cells are seen.

    Attributes:
        mean: `[D]`.
        weight: `[D, k]`.
        noise: variances `[D]`; all equal for probabilistic PCA.
    """

    mean: Tensor
    weight: Tensor
    noise: Tensor

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean `[N, k]` and covariance `[N, k, k]` of `z` given the observed cells, and their log density `[N]`, nats."""
        seen = (~x.isnan()).to(self.weight.dtype)
        residual = (x - self.mean).nan_to_num(0.0)
        scaled = seen / self.noise
        k = self.weight.shape[1]
        precision = torch.eye(k, dtype=x.dtype) + torch.einsum("nj,jk,jl->nkl", scaled, self.weight, self.weight)
        root = torch.linalg.cholesky(precision)
        projected = (scaled * residual) @ self.weight
        mean = torch.cholesky_solve(projected[..., None], root)[..., 0]
        log_det = 2.0 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1) + (seen * self.noise.log()).sum(-1)
        distance = (scaled * residual.square()).sum(-1) - (projected * mean).sum(-1)
        log_prob = -0.5 * (seen.sum(-1) * math.log(2.0 * math.pi) + log_det + distance)
        return mean, torch.cholesky_inverse(root), log_prob

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of the observed cells of each row, `[N]`, nats."""
        return torch.cat([self.posterior(rows)[2] for rows in x.split(ROWS)])

    def fill(self, x: Tensor) -> Tensor:
        """Rows with the conditional mean of the missing cells in their place, `[N, D]`."""
        means = torch.cat([self.posterior(rows)[0] for rows in x.split(ROWS)])
        return torch.where(x.isnan(), means @ self.weight.T + self.mean, x)


def factor_with_missing(
    x: Tensor, latent_dim: int, *, equal_noise: bool = False, iterations: int = ITERATIONS
) -> MissingFactor:
    r"""Maximum-likelihood factor analysis of the observed cells by EM: right wherever cells are missing at random.

    Convention: float64; variances are divided by the number of cells, not by one less.

    Args:
        x: rows `[N, D]`, NaN where a cell is missing.
        latent_dim: number of factors, `k`, less than `D`.
        equal_noise: one noise variance for all columns: probabilistic PCA.
        iterations: at most so many.

    Returns:
        The model.

    Raises:
        ArgumentError: if `k` is not between 0 and `D`.

    References:
        Ghahramani & Hinton 1996; Tipping & Bishop 1999, https://doi.org/10.1111/1467-9868.00196

    Examples:
        >>> x = torch.randn(500, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) @ torch.ones(1, 3).double()
        >>> model = factor_with_missing(x + 0.1 * torch.randn(500, 3).double(), 1)
        >>> model.weight.shape
        torch.Size([3, 1])
    """
    count, width = x.shape
    if not 0 < latent_dim < width:
        raise ArgumentError(
            f"factors must be fewer than columns, and at least 1; got {latent_dim} for {width} columns."
        )
    x = x.double()
    seen = ~x.isnan()
    mean = x.nanmean(0)
    variance = (x - mean).square().nanmean(0)
    filled = torch.where(seen, x - mean, 0.0)
    _, values, vectors = torch.linalg.svd(filled / math.sqrt(count), full_matrices=False)
    weight = vectors[:latent_dim].T * values[:latent_dim]
    model = MissingFactor(mean, weight, (variance - weight.square().sum(1)).clamp_min(0.1 * variance.clamp_min(1e-6)))
    before = -math.inf
    for _ in range(iterations):
        model, now = _em(model, x, seen, variance, equal_noise=equal_noise)
        if now - before < SETTLED * count:
            break
        before = now
    return model


def _em(
    model: MissingFactor, x: Tensor, seen: Tensor, variance: Tensor, *, equal_noise: bool
) -> tuple[MissingFactor, float]:
    """One iteration; the log-likelihood is that of the model before it."""
    width, k = model.weight.shape
    second, first = torch.zeros(width, k + 1, k + 1, dtype=x.dtype), torch.zeros(width, k + 1, dtype=x.dtype)
    squares, total = torch.zeros(width, dtype=x.dtype), 0.0
    for rows, there in zip(x.split(ROWS), seen.to(x.dtype).split(ROWS), strict=True):
        z, covariance, log_prob = model.posterior(rows)
        total += float(log_prob.sum())
        ones = torch.ones(len(z), 1, dtype=x.dtype)
        wide = torch.cat([z, ones], 1)
        moments = wide[:, :, None] * wide[:, None, :]
        moments[:, :k, :k] += covariance
        second += torch.einsum("nj,nkl->jkl", there, moments)
        values = rows.nan_to_num(0.0)
        first += torch.einsum("nj,nk->jk", there * values, wide)
        squares += (there * values.square()).sum(0)
    solved = torch.linalg.solve(second + 1e-9 * torch.eye(k + 1, dtype=x.dtype), first[..., None])[..., 0]
    counts = seen.sum(0).clamp_min(1).to(x.dtype)
    noise = (squares - (solved * first).sum(1)) / counts
    if equal_noise:
        noise = ((noise * counts).sum() / counts.sum()).expand(width)
    noise = torch.maximum(noise, LEAST_NOISE * variance.clamp_min(1e-12))
    return MissingFactor(solved[:, k], solved[:, :k], noise), total
