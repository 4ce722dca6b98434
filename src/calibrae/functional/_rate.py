"""Rate: how much a linear model codes at a given price of a nat, and which latents carry it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ArgumentError

ACTIVE_ABOVE = 0.01


@dataclass(frozen=True, slots=True)
class LinearCode:
    """The optimum of a linear VAE.

    Attributes:
        directions: principal directions that it codes.
        kl: nats spent on them.
        sse: expected squared error left, in squared units of the data.
    """

    directions: int
    kl: float
    sse: float


def linear_code(eigenvalues: Tensor, total_variance: float, rho: float, latent_dim: int) -> LinearCode:
    r"""The optimum of $\mathrm{SSE} + \rho\,\mathrm{KL}$ over linear encoders and decoders with `d` latents.

    A direction of variance $\lambda$ is coded if and only if $\lambda > \rho/2$, with $\tfrac12\ln(2\lambda/\rho)$ nats, and
    leaves a squared error of $\rho/2$; any other leaves $\lambda$.

    Args:
        eigenvalues: eigenvalues of the data's covariance, descending, at least the first `d`.
        total_variance: sum of all of them.
        rho: squared error that one nat is worth.
        latent_dim: `d`.

    Returns:
        Directions, nats and squared error.

    Raises:
        ArgumentError: if rho or `d` is not positive, or there are fewer than `d` eigenvalues.

    References:
        Probabilistic PCA with a weighted KL; Lucas et al. 2019, https://arxiv.org/abs/1911.02469

    Examples:
        >>> linear_code(torch.tensor([4.0, 1.0, 0.1]), total_variance=5.1, rho=1.0, latent_dim=2).directions
        2
    """
    if not (rho > 0 and 0 < latent_dim <= len(eigenvalues)):
        raise ArgumentError(
            f"rho must be positive, and latent_dim between 1 and the number of eigenvalues, {len(eigenvalues)}; got {rho} and {latent_dim}."
        )
    leading = eigenvalues[:latent_dim].double()
    coded = leading[leading > rho / 2.0]
    kl = 0.5 * torch.log(2.0 * coded / rho).sum()
    sse = total_variance - float(coded.sum()) + len(coded) * rho / 2.0
    return LinearCode(len(coded), float(kl), sse)


def active_latents(posterior_mean_variance: Tensor) -> Tensor:
    r"""Find the active latents, `[d]`: $\mathrm{Var}_x E_q[z_j|x] > 0.01$, the variance over examples of the posterior mean.

    Args:
        posterior_mean_variance: variance of the posterior mean over the data, `[d]`.

    References:
        Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519

    Examples:
        >>> active_latents(torch.tensor([0.9, 1e-4]))
        tensor([ True, False])
    """
    return posterior_mean_variance > ACTIVE_ABOVE
