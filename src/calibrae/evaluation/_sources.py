"""Synthetic sources whose density is known exactly, to check estimators on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import functional
from ..latents import GaussianPosterior, StandardNormalPrior
from ..likelihoods import GaussianLikelihood
from ..models import VAE


def sample_ppca(model: functional.PPCA, n: int, generator: torch.Generator) -> Tensor:
    r"""`n` examples `[n, D]` of $x = W z + b + \sigma\epsilon$; their density is `functional.ppca_log_likelihood`.

    Examples:
        >>> model = functional.PPCA(torch.zeros(3), torch.eye(3)[:, :1], torch.tensor([4.0]), 1.0)
        >>> sample_ppca(model, 5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 3])
    """
    data_dim, latent_dim = model.components.shape
    dtype = model.mean.dtype
    z = torch.randn(n, latent_dim, dtype=dtype, generator=generator)
    noise = torch.randn(n, data_dim, dtype=dtype, generator=generator)
    return z @ model.weight.T + model.mean + model.sigma * noise


@dataclass(frozen=True, slots=True)
class Ring:
    r"""Points on a circle with Gaussian noise: a curved source in two dimensions.

    $$x = R\,(\cos\varphi, \sin\varphi) + \sigma\epsilon, \quad \varphi \sim U[0, 2\pi), \qquad
      \log p(x) = -\frac{\lVert x\rVert^2 + R^2}{2\sigma^2} - \log 2\pi\sigma^2 + \log I_0\Big(\frac{R \lVert x\rVert}{\sigma^2}\Big)$$

    with the modified Bessel function $I_0$. It is also the VAE of one latent whose decoder wraps the normal line around the circle.

    Attributes:
        radius: `R`.
        sigma: standard deviation of the noise.

    Examples:
        >>> ring = Ring(1.0, 0.2)
        >>> x = ring.sample(4, torch.Generator().manual_seed(0))
        >>> ring.log_prob(x).shape
        torch.Size([4])
    """

    radius: float
    sigma: float

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` points `[n, 2]`, float64."""
        angle = 2.0 * math.pi * torch.rand(n, dtype=torch.float64, generator=generator)
        circle = self.radius * torch.stack([angle.cos(), angle.sin()], 1)
        return circle + self.sigma * torch.randn(n, 2, dtype=torch.float64, generator=generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density of points `[B, 2]`, `[B]`, nats."""
        variance = self.sigma**2
        distance = x.double().norm(dim=1)
        scaled = self.radius * distance / variance
        log_bessel = torch.special.i0e(scaled).log() + scaled
        exponent = -(distance.square() + self.radius**2) / (2.0 * variance)
        log_prob: Tensor = exponent - math.log(2.0 * math.pi * variance) + log_bessel
        return log_prob

    def vae(self, encoder: nn.Module) -> VAE:
        """The VAE that is this source, with an encoder from `[B, 2]` to `[B, 2]` that may be anything."""
        likelihood, prior = GaussianLikelihood(self.sigma), StandardNormalPrior(1)
        return VAE(encoder, _Wrap(self.radius), likelihood, prior, posterior=GaussianPosterior("log_std")).eval()


class _Wrap(nn.Module):
    """The normal line around a circle, so that angles are uniform."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, z: Tensor) -> Tensor:
        angle = 2.0 * math.pi * torch.special.ndtr(z)
        return self.radius * torch.cat([angle.cos(), angle.sin()], 1)
