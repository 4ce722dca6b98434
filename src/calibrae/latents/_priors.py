"""What `z` is before any data: priors `p(z)`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from .. import functional
from .._types import Float
from ..errors import ArgumentError
from ._posteriors import AbstractPosterior, DiagonalGaussianPosterior, PointPosterior


class AbstractPrior(nn.Module, ABC):
    """`p(z)` over `d` latent dimensions.

    Attributes:
        latent_dim: `d`.
    """

    latent_dim: int

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """`log p(z)` per latent dimension, the shape of `z`, in nats."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` samples, `[n, d]`."""

    @abstractmethod
    def kl(self, posterior: AbstractPosterior, z: Tensor) -> Tensor:
        """`KL(q(z|x) || p(z))` per latent dimension, `[B, d]`, in nats.

        In closed form where there is one; else `log q - log p` at `z`, whose mean over `z ~ q` is the KL. A point has
        no KL; it contributes zeros to a loss.
        """

    @abstractmethod
    def distribution(self) -> Distribution:
        """The same as a `torch.distributions.Distribution` over `[d]`."""


@final
class StandardNormalPrior(AbstractPrior):
    r"""$p(z) = N(z; 0, I_d)$.

    Args:
        latent_dim: `d`.

    Raises:
        ArgumentError: if `latent_dim` is not positive.

    Example:
        >>> StandardNormalPrior(2).log_prob(torch.zeros(1, 2))
        tensor([[-0.9189, -0.9189]])
    """

    zero: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        if latent_dim < 1:
            raise ArgumentError(f"`latent_dim` must be at least 1; got {latent_dim}.")
        self.latent_dim = latent_dim
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def log_prob(self, z: Float[Tensor, "*s d"]) -> Float[Tensor, "*s d"]:
        return -0.5 * z.square() - 0.5 * math.log(2.0 * math.pi)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n d"]:
        device = generator.device if generator is not None else self.zero.device
        drawn = torch.randn(n, self.latent_dim, dtype=self.zero.dtype, device=device, generator=generator)
        return drawn.to(self.zero.device)

    def kl(self, posterior: AbstractPosterior, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        if isinstance(posterior, DiagonalGaussianPosterior):
            return functional.kl_standard_normal(posterior.mean, posterior.log_std)
        if isinstance(posterior, PointPosterior):
            return torch.zeros_like(z)
        return posterior.log_prob(z) - self.log_prob(z)

    def distribution(self) -> Distribution:
        mean = self.zero.expand(self.latent_dim)
        return Independent(Normal(mean, torch.ones_like(mean)), 1)
