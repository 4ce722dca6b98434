"""Heads that read an encoder's output as `q(z|x)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .._registry import component
from .._types import Shape
from ..errors import ArgumentError, ShapeError
from ._distributions import Delta, DiagonalGaussian

Features: TypeAlias = Tensor | tuple[Tensor, ...]
Spread: TypeAlias = Literal["log_std", "log_var"]


class Posterior(nn.Module, ABC):
    """Reads an encoder's output as `q(z|x)`. It may own parameters, such as those of a flow.

    Attributes:
        is_density: `False` for the point of a plain autoencoder.

    Examples:
        >>> class Cauchy(cb.Posterior):
        ...     def features_shape(self, latent_dim):
        ...         return (latent_dim,)
        ...     def forward(self, features):
        ...         cauchy = torch.distributions.Cauchy(features, 1.0, validate_args=False)
        ...         return torch.distributions.Independent(cauchy, 1, validate_args=False)
        >>> model = build("vae", data_shape=(4,), latent_dim=2, posterior=Cauchy())
        >>> model.encode(torch.zeros(3, 4)).batch_shape
        torch.Size([3])
    """

    kind: ClassVar[str] = "posterior"
    is_density: bool = True

    @abstractmethod
    def features_shape(self, latent_dim: int) -> Shape:
        """Shape of the features that the encoder must give for one example, such as `(2 * latent_dim,)`."""

    @abstractmethod
    def forward(self, features: Features) -> Distribution:
        """Distribution with the batch `[B]` and the event `[d]` from the encoder's output, `[B, *features_shape]`."""


@final
@component("gaussian")
class GaussianPosterior(Posterior):
    r"""$q(z|x) = N(z; \mu, \operatorname{diag}(s^2))$ from an encoder that gives the mean and a logarithm of the spread.

    Args:
        spread: meaning of the second half of the features: `"log_std"`, $\log s$, or `"log_var"`, $\log s^2$, as most code has it.

    Raises:
        ArgumentError: if `spread` is neither.

    Examples:
        >>> q = GaussianPosterior("log_var")(torch.tensor([[0.0, 2.0]]))
        >>> q.mean, q.log_std
        (tensor([[0.]]), tensor([[1.]]))
    """

    def __init__(self, spread: Spread = "log_std") -> None:
        super().__init__()
        if spread not in get_args(Spread):
            raise ArgumentError(f"`spread` must be log_std or log_var; got {spread!r}.")
        self.spread: Spread = spread

    def features_shape(self, latent_dim: int) -> Shape:
        return (2 * latent_dim,)

    def forward(self, features: Features) -> DiagonalGaussian:
        """`[B, 2 d]` holding the mean, then the spread; or the pair of them."""
        if isinstance(features, Tensor):
            if features.ndim != 2 or features.shape[1] % 2:
                raise ShapeError(
                    f"an encoder of a diagonal Gaussian must return [B, 2 d] or a pair (mean, {self.spread}); got "
                    f"{tuple(features.shape)}. Flatten its output and give it 2 d features."
                )
            features = features.chunk(2, dim=1)
        if len(features) != 2:
            raise ShapeError(f"an encoder of a diagonal Gaussian must return a pair; got {len(features)} tensors.")
        mean, spread = features
        return DiagonalGaussian(mean, spread if self.spread == "log_std" else 0.5 * spread)


@final
@component("point")
class PointPosterior(Posterior):
    """Point: the code of a plain autoencoder. It has no density and so no KL.

    Examples:
        >>> PointPosterior()(torch.ones(1, 2)).mean
        tensor([[1., 1.]])
    """

    is_density = False

    def features_shape(self, latent_dim: int) -> Shape:
        return (latent_dim,)

    def forward(self, features: Features) -> Delta:
        """`[B, d]`, the point itself."""
        (point,) = features if isinstance(features, tuple) else (features,)
        if point.ndim != 2:
            raise ShapeError(f"the encoder of an autoencoder must return [B, d]; got {tuple(point.shape)}. Flatten it.")
        return Delta(point)


def widened_features(features: Features) -> Features:
    """Convert features to at least float32, whatever the network's precision."""
    if isinstance(features, Tensor):
        return features.to(torch.promote_types(features.dtype, torch.float32))
    return tuple(part.to(torch.promote_types(part.dtype, torch.float32)) for part in features)
