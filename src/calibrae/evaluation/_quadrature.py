"""Exact `log p(x)` of models with one or two latents, by adaptive quadrature."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from ..latents import require_density
from ..models import VAE, evaluating

REACH = 10.0  # prior standard deviations; the prior has a mass of 1e-23 beyond
ORDER = 10  # Gauss-Legendre nodes on a side of a cell
FIRST_CELLS = {1: 64, 2: 24}  # on a side
DEEPEST = 24  # halvings
POINTS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class _Cells:
    """Cubes with a centre `[n, d]` and half a side `[n]`."""

    centre: Tensor
    half: Tensor

    def __getitem__(self, chosen: Tensor) -> _Cells:
        return _Cells(self.centre[chosen], self.half[chosen])

    def halved(self) -> _Cells:
        """The `2^d` children of each, `[n * 2^d]`, a parent's together."""
        signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=self.centre.shape[1])), dtype=torch.float64)
        half = 0.5 * self.half
        centre = self.centre[:, None] + half[:, None, None] * signs
        return _Cells(centre.flatten(0, 1), half.repeat_interleave(len(signs)))


def quadrature_log_likelihood(model: VAE, x: Tensor, *, tolerance: float = 1e-8) -> Tensor:
    r"""$\log p(x) = \log \int p(x|z)\, p(z)\, dz$ of each example by adaptive Gauss-Legendre cubature in float64.

    The cube $[-10, 10]^d$ is cut into cells; each is halved along every side until its integral and the sum of its
    children's agree within `tolerance` of the whole. The cells around the posterior mean are halved down to its standard deviation whatever
    they say, so that no narrow peak is missed between the nodes.

    Args:
        model: with one or two latents, a density and a fixed sigma; any decoder. It is copied to float64.
        x: `[B, *data]`, as the model sees them.
        tolerance: largest error of each example's integral, relative, as estimated.

    Returns:
        `[B]`, nats, float64.

    Raises:
        ArgumentError: if there are more than two latents, for which no grid is fine enough.

    Example:
        >>> from calibrae import functional
        >>> from calibrae.evaluation import linear_vae_at_ppca
        >>> ppca = functional.PPCA(torch.zeros(2), torch.eye(2)[:, :1], torch.tensor([4.0]), 1.0)
        >>> x = torch.ones(1, 2)
        >>> exact = functional.ppca_log_likelihood(ppca, x).double()
        >>> torch.allclose(quadrature_log_likelihood(linear_vae_at_ppca(ppca, (2,)), x), exact)
        True
    """
    if model.latent_dim not in FIRST_CELLS:
        raise ArgumentError(
            f"quadrature needs one or two latents; got {model.latent_dim}. Take `annealed_importance` or an importance-weighted bound."
        )
    exact = copy.deepcopy(model).double()
    with evaluating(exact):
        x = x.to(exact.device, torch.float64)
        posterior = exact.encode(x)
        require_density(posterior)
        std = posterior.distribution().stddev
        return torch.stack([_integral(exact, x[i], posterior.mean[i], std[i], tolerance) for i in range(len(x))]).cpu()


def _integral(model: VAE, x: Tensor, mean: Tensor, std: Tensor, tolerance: float) -> Tensor:
    """`log p(x)` of one example."""
    cells = _first_cells(len(mean))
    logs = _log_integrals(model, x, cells)
    done: list[Tensor] = []
    for _ in range(DEEPEST):
        children = cells.halved()
        finer = _log_integrals(model, x, children)
        sums = finer.unflatten(0, (len(cells.half), -1)).logsumexp(1)
        total = torch.cat([*done, sums]).logsumexp(0)
        change = ((logs - total).exp() - (sums - total).exp()).abs()
        # the error of children is far below the change that they bring; what all cells leave adds up
        open_ = (change > tolerance / math.sqrt(len(change))) | _around(cells, mean.cpu(), std.cpu())
        done.append(sums[~open_])
        if not bool(open_.any()):
            return torch.cat(done).logsumexp(0)
        keep = open_.repeat_interleave(2 ** len(mean))
        cells, logs = children[keep], finer[keep]
    raise ArgumentError(
        "p(x|z) varies too fast in z for quadrature: its cells were halved 24 times. Take `annealed_importance` instead."
    )


def _first_cells(latent_dim: int) -> _Cells:
    count = FIRST_CELLS[latent_dim]
    half = REACH / count
    edges = torch.linspace(-REACH + half, REACH - half, count, dtype=torch.float64)
    centre = torch.cartesian_prod(*[edges] * latent_dim).reshape(-1, latent_dim)
    return _Cells(centre, torch.full((len(centre),), half, dtype=torch.float64))


def _around(cells: _Cells, mean: Tensor, std: Tensor) -> Tensor:
    """Which cells are within three standard deviations of the posterior mean and wider than one."""
    near = ((cells.centre - mean).abs() <= cells.half[:, None] + 3.0 * std).all(1)
    return near & (cells.half > std.min())


def _log_integrals(model: VAE, x: Tensor, cells: _Cells) -> Tensor:
    """Log integral of `p(x, z)` over each cell."""
    latent_dim = cells.centre.shape[1]
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(ORDER))
    grid = torch.cartesian_prod(*[nodes] * latent_dim).reshape(-1, latent_dim)
    weight = torch.cartesian_prod(*[weights] * latent_dim).reshape(-1, latent_dim).log().sum(1)
    z = (cells.centre[:, None] + cells.half[:, None, None] * grid).flatten(0, 1)
    density = torch.cat([_log_joint(model, x, part) for part in z.split(POINTS_AT_ONCE)])
    volume = latent_dim * cells.half.log()
    return (density.reshape(len(cells.half), -1) + weight).logsumexp(1) + volume


def _log_joint(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    """`log p(x, z)` of one example at many `z`, `[n]`."""
    z = z.to(x)
    nll = model.likelihood(model.decoder(z)).nll(x.expand(len(z), *x.shape))
    joint: Tensor = model.prior.log_prob(z).sum(1) - nll
    return joint.cpu()
