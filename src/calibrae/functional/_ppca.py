"""Probabilistic PCA in closed form: the exact optimum of a linear VAE (Tipping & Bishop 1999)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .._types import Float
from ..errors import ArgumentError, ShapeError


@dataclass(frozen=True, slots=True)
class PPCA:
    r"""A fitted probabilistic PCA, $x = W z + b + \sigma\epsilon$.

    Attributes:
        mean: `b`, `[D]`.
        components: the leading eigenvectors of the covariance as columns, `[D, d]`.
        eigenvalues: theirs, `[d]`, in squared units of the data.
        sigma: standard deviation of the noise, one number.
    """

    mean: Tensor
    components: Tensor
    eigenvalues: Tensor
    sigma: float

    @property
    def weight(self) -> Tensor:
        r"""$W = V (\Lambda - \sigma^2 I)^{1/2}$, `[D, d]`."""
        return self.components * (self.eigenvalues - self.sigma**2).clamp_min(0.0).sqrt()

    @property
    def posterior_weight(self) -> Tensor:
        r"""$\Lambda^{-1} W^T$, `[d, D]`: the posterior mean is this times `x - b`."""
        return (self.weight / self.eigenvalues).T

    @property
    def posterior_log_std(self) -> Tensor:
        r"""Logarithm of the posterior's standard deviation $\sigma\Lambda^{-1/2}$, `[d]`."""
        return math.log(self.sigma) - 0.5 * self.eigenvalues.log()


def ppca(
    mean: Float[Tensor, " D"],
    eigenvalues: Float[Tensor, " k"],
    eigenvectors: Float[Tensor, "D k"],
    total_variance: float,
    latent_dim: int,
) -> PPCA:
    r"""The maximum-likelihood probabilistic PCA with `latent_dim` latents.

    $$\sigma^2 = \frac{1}{D - d} \sum_{i > d} \lambda_i, \qquad W = V_d (\Lambda_d - \sigma^2 I)^{1/2}$$

    Args:
        mean: mean of the data, `[D]`.
        eigenvalues: the `k >= latent_dim` largest eigenvalues of the covariance (divided by `N`), descending.
        eigenvectors: theirs, as columns, `[D, k]`.
        total_variance: trace of the covariance.
        latent_dim: `d`, smaller than `D`.

    Returns:
        The fitted model.

    Raises:
        ArgumentError: if `latent_dim` leaves no variance to the noise.

    References:
        Tipping & Bishop 1999, https://doi.org/10.1111/1467-9868.00196

    Examples:
        >>> values, vectors = torch.tensor([4.0, 1.0, 1.0]), torch.eye(3)
        >>> ppca(torch.zeros(3), values, vectors, total_variance=6.0, latent_dim=1).sigma
        1.0
    """
    data_dim = mean.shape[0]
    if not 0 < latent_dim < data_dim or latent_dim > eigenvalues.shape[0]:
        raise ArgumentError(
            f"probabilistic PCA needs 0 < latent_dim < data_dim; got {latent_dim} of {data_dim} "
            f"({eigenvalues.shape[0]} eigenvalues given)."
        )
    leading = eigenvalues[:latent_dim]
    left_over = (total_variance - float(leading.sum())) / (data_dim - latent_dim)
    if not left_over > 0 or not float(leading[-1]) > 0:
        raise ArgumentError(
            f"{latent_dim} latents explain all the variance of the data, so probabilistic PCA has no noise left and no "
            "density. Take fewer latents."
        )
    return PPCA(mean, eigenvectors[:, :latent_dim], leading, math.sqrt(left_over))


def ppca_log_likelihood(model: PPCA, x: Float[Tensor, "b D"]) -> Float[Tensor, " b"]:
    r"""Exact `log p(x)` of each example under a probabilistic PCA, in nats.

    $$-\tfrac12 \Big[ D \log 2\pi + \sum_{i \le d} \log\lambda_i + (D - d) \log\sigma^2
      + \sum_{i \le d} \frac{y_i^2}{\lambda_i} + \frac{\lVert x - b\rVert^2 - \lVert y\rVert^2}{\sigma^2} \Big],
      \qquad y = V^T (x - b)$$

    Convention: nothing dropped; `lambda_i` below `sigma^2` is raised to it, as the model's weight does.

    Args:
        model: a fitted `PPCA`.
        x: data, `[B, D]`, in the dtype of the model.

    Returns:
        `[B]`, in nats.

    Raises:
        ShapeError: if `x` is not `[B, D]`.

    Examples:
        >>> model = PPCA(torch.zeros(2), torch.eye(2)[:, :1], torch.tensor([4.0]), 1.0)
        >>> ppca_log_likelihood(model, torch.zeros(1, 2))
        tensor([-2.5310])
    """
    data_dim, latent_dim = model.components.shape
    if x.ndim != 2 or x.shape[1] != data_dim:
        raise ShapeError(f"`x` must be [B, {data_dim}] for this model; got {tuple(x.shape)}. Flatten the data first.")
    variance = model.sigma**2
    eigenvalues = model.eigenvalues.clamp_min(variance)
    centred = x - model.mean
    scores = centred @ model.components
    log_det = eigenvalues.log().sum() + (data_dim - latent_dim) * math.log(variance)
    outside = (centred.square().sum(1) - scores.square().sum(1)).clamp_min(0.0) / variance
    inside = (scores.square() / eigenvalues).sum(1)
    return -0.5 * (data_dim * math.log(2.0 * math.pi) + log_det + inside + outside)


def ppca_log_likelihoods(known: Spectrum, x: Float[Tensor, "b D"], most: int) -> Float[Tensor, "b most"]:
    """Exact `log p(x)` under probabilistic PCA with 1, 2, ..., `most` latents, in one pass; `-inf` where no noise is left.

    Args:
        known: spectrum of the training examples.
        x: data, `[B, D]`, float64.
        most: largest number of latents.

    Returns:
        `[B, most]`, in nats.

    Examples:
        >>> known = Spectrum(torch.zeros(2), torch.tensor([4.0, 1.0]), torch.eye(2), 5.0, 10, True)
        >>> ppca_log_likelihoods(known, torch.zeros(1, 2), 1)
        tensor([[-2.5310]])
    """
    data_dim = len(known.mean)
    leading = known.eigenvalues[:most]
    numbers = torch.arange(1, most + 1, dtype=x.dtype)
    noise = (known.total_variance - leading.cumsum(0)) / (data_dim - numbers)
    centred = x - known.mean
    squares = (centred @ known.eigenvectors[:, :most]).square()
    log_det = leading.log().cumsum(0) + (data_dim - numbers) * noise.log()
    inside = (squares / leading).cumsum(1)
    outside = (centred.square().sum(1, keepdim=True) - squares.cumsum(1)).clamp_min(0.0) / noise
    found = -0.5 * (data_dim * math.log(2.0 * math.pi) + log_det + inside + outside)
    usable = (noise > 1e-12 * known.total_variance / data_dim) & (leading > 0)
    return torch.where(usable, found, torch.full_like(found, -math.inf))


def spectrum(covariance: Float[Tensor, "D D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, "D D"]]:
    """Eigenvalues (descending, never negative) and eigenvectors (columns) of a covariance.

    Examples:
        >>> spectrum(torch.diag(torch.tensor([1.0, 3.0])))[0]
        tensor([3., 1.])
    """
    values, vectors = torch.linalg.eigh(covariance)
    return values.flip(0).clamp_min(0.0), vectors.flip(1)


@dataclass(frozen=True)
class Spectrum:
    """Mean, leading eigenpairs and trace of a covariance (divided by `N`), float64.

    Attributes:
        mean: `[D]`.
        eigenvalues: descending, `[k]`.
        eigenvectors: columns, `[D, k]`.
        total_variance: the trace.
        n: examples that it was taken from.
        is_exact: whether the eigenpairs are.
    """

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor
    total_variance: float
    n: int
    is_exact: bool

    def ppca(self, latent_dim: int) -> PPCA:
        """The maximum-likelihood probabilistic PCA with so many latents."""
        return ppca(self.mean, self.eigenvalues, self.eigenvectors, self.total_variance, latent_dim)
