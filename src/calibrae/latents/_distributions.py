"""Distributions over latents, how standard normal noise becomes their samples, and divergences between them."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, final

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    kl_divergence,
)

from .. import functional
from ..acceleration import in_double
from ..errors import NoDensityError, ShapeError

NO_DENSITY = (
    "a plain autoencoder's code is a point, so it has no density, KL or ELBO. Train a probabilistic model, as in "
    '`build("sigma-vae", ...)`.'
)


class DiagonalGaussian(Independent):  # type: ignore[type-arg]  # generic in the stubs alone
    r"""$N(z; \mu, \operatorname{diag}(s^2))$, given by the logarithm of its standard deviation.

    Args:
        mean: `[*S, d]`.
        log_std: natural logarithm of the standard deviation (not of the variance), the same shape.

    Raises:
        ShapeError: if the shapes differ.

    Examples:
        >>> from calibrae.latents import DiagonalGaussian
        >>> DiagonalGaussian(torch.zeros(1, 2), torch.zeros(1, 2)).entropy()
        tensor([2.8379])
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        if mean.shape != log_std.shape or mean.ndim < 1:
            raise ShapeError(
                f"`mean` and `log_std` must both be [*S, d]; got {tuple(mean.shape)} and {tuple(log_std.shape)}. "
                "The encoder's last layer must give 2 d features per example."
            )
        self.log_std = log_std
        self.reinterpreted_batch_ndims = 1
        self._mean = mean
        self._elements: Normal | None = None
        Distribution.__init__(self, mean.shape[:-1], mean.shape[-1:], validate_args=False)

    @property
    def base_dist(self) -> Normal:  # made when asked for: training never does
        if self._elements is None:
            self._elements = Normal(self._mean, self.log_std.exp(), validate_args=False)
        return self._elements

    @property
    def mean(self) -> Tensor:
        return self._mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagonalGaussian:
        shape = torch.Size(batch_shape) + self.event_shape
        return DiagonalGaussian(self.mean.expand(shape), self.log_std.expand(shape))


@final
class StandardNormal(DiagonalGaussian):
    """`N(0, I)` over `d` latents, on the device and in the precision of `zero`."""

    def __init__(self, zero: Tensor, latent_dim: int) -> None:
        zeros = zero.expand(latent_dim)
        super().__init__(zeros, zeros)

    def log_prob(self, value: Tensor) -> Tensor:
        return -(0.5 * value.square() + functional.HALF_LOG_TWO_PI).sum(-1)


@final
class Delta(Distribution):
    """Point: the code of a plain autoencoder. It can be sampled and has no density.

    Args:
        point: `[*S, d]`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own name and form)
    has_rsample = True

    def __init__(self, point: Tensor) -> None:
        super().__init__(point.shape[:-1], point.shape[-1:], validate_args=False)
        self._point = point

    @property
    def mean(self) -> Tensor:
        return self._point

    def expand(self, batch_shape: Any, _instance: Any = None) -> Delta:
        return Delta(self._point.expand(torch.Size(batch_shape) + self.event_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._point.expand(torch.Size(sample_shape) + self._point.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        raise NoDensityError(NO_DENSITY)


@singledispatch
def reparameterise(q: Distribution, eps: Tensor) -> Tensor | None:  # noqa: ARG001 (types that are registered use both)
    """Turn standard normal noise into samples of a distribution, differentiably, so that noise belongs to the example.

    Gaussians (diagonal, full, low-rank), products of distributions with an inverse CDF, and transformations of these (flows) are
    known. A component of one's own registers its distribution: `@cb.latents.reparameterise.register`.

    Args:
        q: distribution with the event `[d]`.
        eps: standard normal, `[*K, *S, d]`.

    Returns:
        `[*K, *S, d]`; `None` where no such map is known, and `rsample` has to be used.

    Examples:
        >>> from calibrae.latents import DiagonalGaussian, reparameterise
        >>> reparameterise(DiagonalGaussian(torch.zeros(1, 2), torch.zeros(1, 2)), torch.ones(1, 2))
        tensor([[1., 1.]])
    """
    return None


@reparameterise.register
def _(q: DiagonalGaussian, eps: Tensor) -> Tensor:
    z: Tensor = q.mean + q.log_std.exp() * eps
    return z


@reparameterise.register
def _(q: Delta, eps: Tensor) -> Tensor:
    return q.mean.expand_as(eps)


@reparameterise.register
def _(q: MultivariateNormal, eps: Tensor) -> Tensor:
    z: Tensor = q.loc + (q._unbroadcasted_scale_tril @ eps.unsqueeze(-1)).squeeze(-1)
    return z


@reparameterise.register
def _(q: LowRankMultivariateNormal, eps: Tensor) -> Tensor:
    z: Tensor = q.loc + (q.scale_tril @ eps.unsqueeze(-1)).squeeze(-1)
    return z


@reparameterise.register
def _(q: Independent, eps: Tensor) -> Tensor | None:  # type: ignore[type-arg]
    if isinstance(q.base_dist, Normal):
        z: Tensor = q.base_dist.loc + q.base_dist.scale * eps
        return z
    if q.base_dist.event_shape != ():
        return reparameterise(q.base_dist, eps)
    uniform = torch.special.ndtr(in_double(eps)).clamp(
        1e-16, 1.0 - 1e-16
    )  # in float32 a tail would round to 1: infinite
    middle = torch.full((), 0.5, dtype=eps.dtype, device=eps.device)
    try:
        precision = torch.promote_types(eps.dtype, q.base_dist.icdf(middle).dtype)
        if uniform.device != eps.device:  # which has no float64: a far tail is cut there
            uniform = uniform.to(eps).clamp(torch.finfo(eps.dtype).tiny, 1.0 - torch.finfo(eps.dtype).eps)
        quantile: Tensor = q.base_dist.icdf(uniform).to(precision)
    except NotImplementedError:
        return None
    return quantile


@reparameterise.register
def _(q: TransformedDistribution, eps: Tensor) -> Tensor | None:
    z = reparameterise(q.base_dist, eps)
    for transform in q.transforms if z is not None else ():
        z = transform(z)
    return z


def log_prob_of(q: Distribution, z: Tensor, eps: Tensor | None) -> Tensor:
    """`log q(z)` of samples `[*K, *S, d]`, from the noise that made them where that is exact and cheaper.

    Args:
        q: distribution with the event `[d]`.
        z: samples.
        eps: standard normal noise that `reparameterise` turned into them, if it did.
    """
    if eps is not None and type(q) is DiagonalGaussian:
        return -(0.5 * eps.square() + (q.log_std + functional.HALF_LOG_TWO_PI)).sum(-1)
    log_prob: Tensor = q.log_prob(z)
    return log_prob


def log_std_of(q: Distribution) -> Tensor | None:
    """Logarithm of the standard deviation of a diagonal Gaussian, `[*S, d]`; `None` for any other distribution."""
    if isinstance(q, DiagonalGaussian):
        return q.log_std
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        return q.base_dist.scale.log()
    return None


def factors_of(q: Distribution) -> Distribution | None:
    """Distribution of the single latents, `[*S, d]`, if they are independent; else `None`."""
    if isinstance(q, Independent) and q.base_dist.event_shape == () and q.reinterpreted_batch_ndims == 1:
        base: Distribution = q.base_dist
        return base
    return None


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor | None:
    r"""`KL(q || p)` of each latent, `[B, d]`, in nats; `None` unless both factorise and a closed form is known.

    Convention: not summed; the KL of an example is the sum over the last dimension.

    Args:
        q: posterior, batch `[B]`, event `[d]`.
        p: prior, batch `[]` or `[B]`, event `[d]`.

    Examples:
        >>> from calibrae.latents import DiagonalGaussian, kl_per_dimension
        >>> q = DiagonalGaussian(torch.zeros(1, 2), torch.tensor([[0.0, -1.0]]))
        >>> kl_per_dimension(q, StandardNormalPrior(2)())
        tensor([[0.0000, 0.5677]])
    """
    if isinstance(q, DiagonalGaussian) and isinstance(p, StandardNormal):
        return functional.kl_standard_normal(q.mean, q.log_std)
    one, other = factors_of(q), factors_of(p)
    if one is None or other is None:
        return None
    log_std_q, log_std_p = log_std_of(q), log_std_of(p)
    if log_std_q is not None and log_std_p is not None:
        shape = torch.broadcast_shapes(q.mean.shape, p.mean.shape)
        return functional.kl_diagonal_gaussian(*(part.expand(shape) for part in (q.mean, log_std_q, p.mean, log_std_p)))
    return _closed_form(one, other)


def _closed_form(q: Distribution, p: Distribution) -> Tensor | None:
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def exact_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """`KL(q || p)`, `[B]`, in nats, in closed form; `None` where neither torch nor this package knows one."""
    by_latent = kl_per_dimension(q, p)
    return by_latent.sum(-1) if by_latent is not None else _closed_form(q, p)


def kl(q: Distribution, p: Distribution, z: Tensor, eps: Tensor | None = None) -> Tensor:
    r"""`KL(q || p)` of each example, `[B]`, in nats: in closed form where one is known, else from samples.

    $$\mathrm{KL}(q \| p) = E_q[\log q(z) - \log p(z)] \approx \frac1K \sum_k [\log q(z_k) - \log p(z_k)]$$

    Convention: summed over the latents. The estimate is unbiased and may be negative.

    Args:
        q: posterior, batch `[B]`, event `[d]`.
        p: prior, batch `[]` or `[B]`, event `[d]`.
        z: samples of `q`, `[K, B, d]`; used where there is no closed form.
        eps: noise that made them, if there is one.

    Examples:
        >>> from calibrae.latents import DiagonalGaussian, kl
        >>> q = DiagonalGaussian(torch.ones(1, 2), torch.zeros(1, 2))
        >>> kl(q, StandardNormalPrior(2)(), q.sample((1,)))
        tensor([1.])
    """
    exact = exact_kl(q, p)
    if exact is not None:
        return exact
    log_p: Tensor = p.log_prob(z)
    return (log_prob_of(q, z, eps) - log_p).mean(0)


def require_event(
    distribution: Distribution, latent_dim: int, batch: int | None, who: str, *, shared: bool = True
) -> None:
    """Raise `ShapeError` unless a distribution is over `[d]`, for each or (if `shared`) for all examples of a batch.

    Args:
        distribution: posterior or prior.
        latent_dim: `d`.
        batch: `B`; `None` if the batch shape must be empty or of any size.
        who: name used in the message.
        shared: whether one distribution may stand for all examples, as a prior may and a posterior may not.
    """
    event, shape = tuple(distribution.event_shape), tuple(distribution.batch_shape)
    allowed = ((), (batch,)) if shared else ((batch,),)
    if event != (latent_dim,) or (batch is not None and shape not in allowed):
        raise ShapeError(
            f"{who} must be a distribution with the event [{latent_dim}] and the batch {'[] or ' if shared else ''}[B]"
            f"{'' if batch is None else f' = [{batch}]'}; got the event {list(event)} and the batch {list(shape)}. Wrap it in "
            "torch.distributions.Independent(..., 1) if its latents are in the batch."
        )
