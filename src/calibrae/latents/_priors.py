"""Priors `p(z)`: heads that return a distribution over the latents."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from .._registry import component
from ..errors import ArgumentError, NoDensityError, ShapeError
from ._distributions import NO_DENSITY, DiagonalGaussian, StandardNormal, require_event


class Prior(nn.Module, ABC):
    """`p(z)`, or `p(z|context)`, over `d` latents. It may own parameters.

    Args:
        latent_dim: `d`.

    Attributes:
        latent_dim: `d`.
        is_density: `False` where there is no prior, as in a plain autoencoder.

    Raises:
        ArgumentError: if `latent_dim` is not positive.

    Examples:
        >>> class WidePrior(cb.Prior):
        ...     def forward(self, context=None):
        ...         normal = torch.distributions.Normal(torch.zeros(self.latent_dim), 3.0)
        ...         return torch.distributions.Independent(normal, 1)
        >>> WidePrior(2)().sample((5,)).shape
        torch.Size([5, 2])
    """

    kind: ClassVar[str] = "prior"
    is_density: bool = True

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        if latent_dim < 1:
            raise ArgumentError(f"`latent_dim` must be at least 1; got {latent_dim}.")
        self.latent_dim = latent_dim

    @abstractmethod
    def forward(self, context: Tensor | None = None) -> Distribution:
        """Distribution with the event `[d]` and the batch `[]`, or `[B]` for a context `[B, context_dim]`."""


@final
@component("standard-normal")
class StandardNormalPrior(Prior):
    r"""$p(z) = N(z; 0, I_d)$.

    Args:
        latent_dim: `d`.

    Examples:
        >>> StandardNormalPrior(2)().log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    zero: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, context: Tensor | None = None) -> StandardNormal:
        return StandardNormal(self.zero, self.latent_dim)


@final
@component("mixture")
class MixturePrior(Prior):
    r"""$p(z) = \sum_k \pi_k N(z; \mu_k, \operatorname{diag}(s_k^2))$, all of it learned.

    It does not factorise: there is no KL per latent, and the KL of an example is estimated from its samples.

    Args:
        latent_dim: `d`.
        components: number of Gaussians.
        spread: standard deviation of the means at the start, drawn from torch's global generator; the Gaussians start with 1.

    Raises:
        ArgumentError: if a number is not positive.

    References:
        Dilokthanakul et al. 2016, https://arxiv.org/abs/1611.02648; Tomczak & Welling 2018, https://arxiv.org/abs/1705.07120

    Examples:
        >>> MixturePrior(2, components=3)().event_shape
        torch.Size([2])
    """

    def __init__(self, latent_dim: int, components: int = 10, spread: float = 1.0) -> None:
        super().__init__(latent_dim)
        if components < 1 or not (math.isfinite(spread) and spread >= 0):
            raise ArgumentError(
                f"`components` must be at least 1 and `spread` not negative; got {components} and {spread}."
            )
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(spread * torch.randn(components, latent_dim))
        self.log_stds = nn.Parameter(torch.zeros(components, latent_dim))

    def forward(self, context: Tensor | None = None) -> MixtureSameFamily:
        parts = DiagonalGaussian(self.means, self.log_stds)
        weights = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(weights, parts, validate_args=False)


@final
@component("conditional-gaussian")
class ConditionalGaussianPrior(Prior):
    r"""$p(z|c) = N(z; \mu(c), \operatorname{diag}(s(c)^2))$ with $\mu$ and $\log s$ affine in the context: a Gaussian for each class.

    Args:
        latent_dim: `d`.
        context_dim: features of the context; for classes their number, since they come as one-hot vectors.

    Raises:
        ArgumentError: if `context_dim` is not positive.

    References:
        Sohn, Lee & Yan 2015, *Learning structured output representation using deep conditional generative models*

    Examples:
        >>> ConditionalGaussianPrior(2, context_dim=3)(torch.eye(3)).batch_shape
        torch.Size([3])
    """

    def __init__(self, latent_dim: int, context_dim: int) -> None:
        super().__init__(latent_dim)
        if context_dim < 1:
            raise ArgumentError(
                f"a conditional prior needs a context; got `context_dim` {context_dim}. Train with a condition."
            )
        self.affine = nn.Linear(context_dim, 2 * latent_dim)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, context: Tensor | None = None) -> DiagonalGaussian:
        if context is None:
            raise ArgumentError("this prior depends on the condition; got none. Pass `context`, [B, context_dim].")
        given = context.to(self.affine.weight.dtype)
        affine = torch.nn.functional.linear(given, self.affine.weight, self.affine.bias)
        mean, log_std = affine.to(torch.promote_types(affine.dtype, torch.float32)).chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_std)


@final
class DistributionPrior(Prior):
    """Any fixed `torch.distributions` object over `[d]` as a prior. It is not trained.

    Tensors of the distribution stay where they are: on another device, build it there.

    Args:
        distribution: with the event `[d]` and an empty batch.

    Raises:
        ShapeError: if it has another event or a batch.

    Examples:
        >>> from torch.distributions import Independent, StudentT
        >>> DistributionPrior(Independent(StudentT(torch.full((2,), 5.0)), 1)).latent_dim
        2
    """

    def __init__(self, distribution: Distribution) -> None:
        event = tuple(distribution.event_shape)
        if len(event) != 1:
            raise ShapeError(
                f"a prior must be a distribution with the event [d]; got {list(event)} and the batch "
                f"{list(distribution.batch_shape)}. Wrap it in torch.distributions.Independent(..., 1)."
            )
        super().__init__(event[0])
        require_event(distribution, event[0], None, "a prior")
        if tuple(distribution.batch_shape) != ():
            raise ShapeError(f"a fixed prior must have no batch; got {list(distribution.batch_shape)}.")
        self.distribution = distribution

    def forward(self, context: Tensor | None = None) -> Distribution:
        return self.distribution


@final
@component("none")
class NoPrior(Prior):
    """No prior: the latents of a plain autoencoder follow no known distribution.

    Examples:
        >>> NoPrior(2).is_density
        False
    """

    is_density = False

    def forward(self, context: Tensor | None = None) -> Distribution:
        raise NoDensityError(NO_DENSITY)
