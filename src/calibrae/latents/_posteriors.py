"""What an encoder says about `z`: posteriors `q(z|x)`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from .._types import Float
from ..errors import NoDensityError, ShapeError


class AbstractPosterior(ABC):
    """`q(z|x)` of a batch. One floor's rule: what it returns is per example and latent dimension, `[B, d]`.

    A family says how many encoder features a latent needs and how it reads them; a model is given the class.
    """

    is_density: ClassVar[bool]
    features_per_latent: ClassVar[int]

    @classmethod
    @abstractmethod
    def from_features(cls, features: Tensor | tuple[Tensor, ...]) -> AbstractPosterior:
        """Read the encoder's output: `[B, features_per_latent * d]`, or a tuple of that many `[B, d]`."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Mean of `q(z|x)`, `[B, d]`."""

    @abstractmethod
    def sample(self, noise: Tensor) -> Tensor:
        """A sample, differentiable, from standard normal `noise` of shape `[B, d]` or `[K, B, d]`."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """`log q(z|x)` per latent dimension, `[..., B, d]`, in nats."""

    @abstractmethod
    def log_prob_of(self, noise: Tensor) -> Tensor:
        """`log q(z|x)` per latent dimension of the sample that `noise` gives, of its shape, in nats."""

    @abstractmethod
    def features(self) -> tuple[Tensor, ...]:
        """What `from_features` would read: as many `[B, d]` as the family has features per latent."""

    @abstractmethod
    def distribution(self) -> Distribution:
        """The same as a `torch.distributions.Distribution` over `[B]` examples."""


@final
class DiagonalGaussianPosterior(AbstractPosterior):
    r"""$q(z|x) = N(z; \mu, \operatorname{diag}(s^2))$.

    Args:
        mean: `[B, d]`.
        log_std: natural logarithm of the standard deviation (not of the variance), `[B, d]`.

    Example:
        >>> q = DiagonalGaussianPosterior(torch.zeros(1, 2), torch.zeros(1, 2))
        >>> q.sample(torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    is_density = True
    features_per_latent = 2

    def __init__(self, mean: Float[Tensor, "b d"], log_std: Float[Tensor, "b d"]) -> None:
        if mean.ndim != 2 or mean.shape != log_std.shape:
            raise ShapeError(
                f"`mean` and `log_std` must both be [B, d]; got {tuple(mean.shape)} and {tuple(log_std.shape)}. "
                "The encoder's last layer must give 2 d features per example."
            )
        self._mean = mean
        self.log_std = log_std

    @classmethod
    def from_features(cls, features: Tensor | tuple[Tensor, ...]) -> DiagonalGaussianPosterior:
        """`[B, 2 d]` holding the mean, then log std; or the pair `(mean, log_std)`."""
        if isinstance(features, Tensor):
            if features.ndim != 2 or features.shape[1] % 2:
                raise ShapeError(
                    f"an encoder of a diagonal Gaussian must return [B, 2 d] or a pair (mean, log_std); got "
                    f"{tuple(features.shape)}. Flatten its output and give it 2 d features."
                )
            features = features.chunk(2, dim=1)
        mean, log_std = features
        return cls(mean, log_std)

    @property
    def mean(self) -> Tensor:
        return self._mean

    def sample(self, noise: Tensor) -> Tensor:
        return self._mean + self.log_std.exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        log_prob: Tensor = Normal(self._mean, self.log_std.exp(), validate_args=False).log_prob(z)
        return log_prob

    def log_prob_of(self, noise: Tensor) -> Tensor:
        return -0.5 * noise.square() - (self.log_std + 0.5 * math.log(2.0 * math.pi))

    def features(self) -> tuple[Tensor, ...]:
        return self._mean, self.log_std

    def distribution(self) -> Distribution:
        return Independent(Normal(self._mean, self.log_std.exp()), 1)


@final
class PointPosterior(AbstractPosterior):
    """A point: the encoder of a plain autoencoder. It has no density and so no KL.

    Args:
        mean: the point, `[B, d]`.

    Example:
        >>> PointPosterior(torch.ones(1, 2)).sample(torch.randn(1, 2))
        tensor([[1., 1.]])
    """

    is_density = False
    features_per_latent = 1

    def __init__(self, mean: Float[Tensor, "b d"]) -> None:
        if mean.ndim != 2:
            raise ShapeError(f"the encoder of an autoencoder must return [B, d]; got {tuple(mean.shape)}. Flatten it.")
        self._mean = mean

    @classmethod
    def from_features(cls, features: Tensor | tuple[Tensor, ...]) -> PointPosterior:
        """`[B, d]`, the point itself."""
        (mean,) = features if isinstance(features, tuple) else (features,)
        return cls(mean)

    @property
    def mean(self) -> Tensor:
        return self._mean

    def sample(self, noise: Tensor) -> Tensor:
        return self._mean.expand_as(noise)

    def log_prob(self, z: Tensor) -> Tensor:
        raise NoDensityError(_NO_DENSITY)

    def log_prob_of(self, noise: Tensor) -> Tensor:
        raise NoDensityError(_NO_DENSITY)

    def features(self) -> tuple[Tensor, ...]:
        return (self._mean,)

    def distribution(self) -> Distribution:
        raise NoDensityError(_NO_DENSITY)


_NO_DENSITY = (
    "a plain autoencoder's code is a point, so it has no density, KL or ELBO. Train a probabilistic model, as in "
    '`build("sigma-vae", ...)`.'
)


def require_density(posterior: object) -> None:
    """Raise `NoDensityError` for a point."""
    if not getattr(posterior, "is_density", True):
        raise NoDensityError(_NO_DENSITY)


def standard_normal_noise(posterior: AbstractPosterior, generator: torch.Generator | None = None) -> Tensor:
    """Noise for one sample of `posterior`, `[B, d]`."""
    mean = posterior.mean
    return torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
