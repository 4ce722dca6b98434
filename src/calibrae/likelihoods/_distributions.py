"""Distributions over examples that compute their log density in one pass, and the view of any as elements."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Never, final

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Laplace, Normal

from .. import functional
from ..errors import ArgumentError, ScaleNotFixedError


def widened(tensor: Tensor) -> Tensor:
    """Convert to at least float32, whatever the network's precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _aligned(x: Tensor, location: Tensor) -> tuple[Tensor, Tensor]:
    """Expand the one with fewer leading dimensions to the other's."""
    if x.shape == location.shape:
        return x, location
    if x.shape == location.shape[-x.ndim :]:  # examples beside samples of each
        return x.expand_as(location), location
    shape = torch.broadcast_shapes(x.shape, location.shape)
    return x.expand(shape), location.expand(shape)


def squared_errors(x: Tensor, location: Tensor, event_ndim: int) -> Tensor:
    """Sum the squared errors over the last `event_ndim` dimensions."""
    x, location = _aligned(x, location)
    if event_ndim == x.ndim - 1:
        return functional.sse(x, location)
    lead = x.shape[: x.ndim - event_ndim]
    flat = (math.prod(lead), *x.shape[x.ndim - event_ndim :])
    return functional.sse(x.reshape(flat), location.reshape(flat)).reshape(lead)


class SplitDistribution(Distribution):
    """Distribution whose elements are independent and of several families, so that none of torch's is that of all of them."""

    @abstractmethod
    def log_prob_per_element(self, value: Tensor) -> Tensor:
        """Log-probability of each element, `[*S, *data]`, nats."""


@final
class IndependentNormal(Independent):  # type: ignore[type-arg]  # generic in the stubs alone
    """`N(x; mean, sigma^2)` of independent elements, an example being the event.

    With one sigma for all elements the log density comes from the squared error of each example alone.

    Args:
        mean: `[*S, *data]`.
        log_sigma: one number, or a tensor that broadcasts over `[*S, *data]`.
        event_ndim: number of data dimensions.
    """

    def __init__(self, mean: Tensor, log_sigma: Tensor, event_ndim: int) -> None:
        mean = widened(mean)
        split = mean.ndim - event_ndim
        self.log_sigma = log_sigma.to(mean.dtype)
        self.reinterpreted_batch_ndims = event_ndim
        self._mean = mean
        self._elements: Normal | None = None
        self._scored: tuple[Tensor, Tensor] | None = None  # the last batch and its squared errors
        Distribution.__init__(self, mean.shape[:split], mean.shape[split:], validate_args=False)

    @property
    def base_dist(self) -> Normal:  # made when asked for: training never does
        if self._elements is None:
            self._elements = Normal(self._mean, self.log_sigma.exp(), validate_args=False)
        return self._elements

    @property
    def mean(self) -> Tensor:
        return self._mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> IndependentNormal:
        shape = torch.Size(batch_shape) + self.event_shape
        return IndependentNormal(self.mean.expand(shape), self.log_sigma, len(self.event_shape))

    def remember(self, x: Tensor, sse: Tensor) -> IndependentNormal:
        """Keep the squared errors of a batch, so that they are not computed twice."""
        self._scored = (x, sse)
        return self

    def squared_error(self, x: Tensor) -> Tensor:
        """Squared error of each example, `[*S]`."""
        if self._scored is None or self._scored[0] is not x:
            self._scored = (x, squared_errors(x, self.mean, len(self.event_shape)))
        return self._scored[1]

    def log_prob(self, value: Tensor) -> Tensor:
        if self.log_sigma.ndim == 0:
            sse = self.squared_error(value)
            return -functional.gaussian_nll_of_sse(sse, self.log_sigma.to(sse.dtype), math.prod(self.event_shape))
        x, mean = _aligned(value, self.mean)
        return -_summed(functional.gaussian_nll(x, mean, self.log_sigma.expand_as(mean)), len(self.event_shape))


@final
class IndependentBernoulli(Independent):  # type: ignore[type-arg]
    """Independent bits with the given log odds, an example being the event.

    Args:
        logits: `[*S, *data]`.
        event_ndim: number of data dimensions.
    """

    def __init__(self, logits: Tensor, event_ndim: int) -> None:
        self.logits = widened(logits)
        super().__init__(Bernoulli(logits=self.logits, validate_args=False), event_ndim, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> IndependentBernoulli:
        return IndependentBernoulli(
            self.logits.expand(torch.Size(batch_shape) + self.event_shape), len(self.event_shape)
        )

    def log_prob(self, value: Tensor) -> Tensor:
        x, logits = _aligned(value, self.logits)
        ndim = len(self.event_shape)
        if torch.is_grad_enabled():
            return -_summed(functional.bernoulli_nll(x, logits), ndim)
        lead = x.shape[: x.ndim - ndim]
        flat = (math.prod(lead), *self.event_shape)
        # twice as fast, and without a gradient
        return -functional.bernoulli_nll_sum(x.reshape(flat), logits.reshape(flat)).reshape(lead)


def independent_laplace(location: Tensor, log_scale: Tensor, event_ndim: int) -> Distribution:
    """Build a Laplace density of independent elements, an example being the event."""
    location = widened(location)
    scale = log_scale.to(location.dtype).exp().expand_as(location)
    return Independent(Laplace(location, scale, validate_args=False), event_ndim, validate_args=False)


@final
class ScaleProfile(Distribution):
    """Family whose scale is that of the very batch which is scored: a training loss, and not a density.

    Args:
        location: mean of the density, `[*S, *data]`.
        event_ndim: number of data dimensions.
        at_optimum: from a batch to the density with the batch's own scale.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own name and form)

    def __init__(self, location: Tensor, event_ndim: int, at_optimum: Callable[[Tensor], Distribution]) -> None:
        split = location.ndim - event_ndim
        super().__init__(location.shape[:split], location.shape[split:], validate_args=False)
        self._location = location
        self._at_optimum = at_optimum
        self._last: tuple[Tensor, Distribution] | None = None

    @property
    def mean(self) -> Tensor:
        return self._location

    def of(self, x: Tensor) -> Distribution:
        """Density with the scale of this batch."""
        if self._last is None or self._last[0] is not x:
            self._last = (x, self._at_optimum(x))
        return self._last[1]

    def log_prob(self, value: Tensor) -> Tensor:
        return self.of(value).log_prob(value)

    def _refuse(self) -> Never:
        raise ScaleNotFixedError(NOT_FIXED)

    @property
    def stddev(self) -> Tensor:
        self._refuse()

    @property
    def variance(self) -> Tensor:
        self._refuse()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        self._refuse()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        self._refuse()


NOT_FIXED = (
    "an optimal scale must be fixed on the training set before anything is evaluated with it; got one that is not. `fit` does "
    "so at its end; by hand call `cb.fix_scale(model, training_set)`."
)


def _summed(elements: Tensor, event_ndim: int) -> Tensor:
    return elements.flatten(elements.ndim - event_ndim).sum(-1)


def squared_error(px: Distribution, x: Tensor) -> Tensor:
    """Squared error of the mean of `p(x|z)`, summed over the data dimensions, `[*S]`."""
    if isinstance(px, ScaleProfile):
        px = px.of(x)
    if isinstance(px, IndependentNormal):
        return px.squared_error(x)
    return squared_errors(x, mean_of_data(px).to(x.dtype), len(px.event_shape))


def mean_of_data(px: Distribution) -> Tensor:
    """Mean of `p(x|z)`, `[*S, *data]`, in float32 or better; of categories the mean of their numbers, which torch leaves out.

    Examples:
        >>> from torch.distributions import Categorical, Independent
        >>> from calibrae.likelihoods import mean_of_data
        >>> mean_of_data(Independent(Categorical(torch.tensor([[0.5, 0.0, 0.5]])), 1))
        tensor([1.])
    """
    elements = elements_of(px)
    if isinstance(elements, Categorical):
        numbers = torch.arange(elements.probs.shape[-1], dtype=elements.probs.dtype, device=elements.probs.device)
        expected: Tensor = (elements.probs * numbers).sum(-1)
        return expected
    return widened(px.mean)


def elements_of(px: Distribution) -> Distribution | None:
    """Distribution of the single elements, `[*S, *data]`, if they are independent given `z`; else `None`.

    Examples:
        >>> from torch.distributions import Independent, Normal
        >>> from calibrae.likelihoods import elements_of
        >>> elements_of(Independent(Normal(torch.zeros(3, 2), 1.0), 1)).batch_shape
        torch.Size([3, 2])
    """
    if isinstance(px, Independent) and px.base_dist.event_shape == ():
        base: Distribution = px.base_dist
        return base
    return px if px.event_shape == () else None


def is_split(px: Distribution) -> bool:
    """Tell whether `nll_per_element` can split `-log p(x|z)`: the elements are independent given `z`.

    Examples:
        >>> from torch.distributions import Independent, Normal
        >>> from calibrae.likelihoods import is_split
        >>> is_split(Independent(Normal(torch.zeros(3, 2), 1.0), 1))
        True
    """
    return isinstance(px, SplitDistribution) or elements_of(px) is not None


def nll_per_element(px: Distribution, x: Tensor) -> Tensor:
    """`-log p(x_i|z)` of each element, `[*S, *data]`, in nats; its sum over the data dimensions is `-px.log_prob(x)`.

    Raises:
        ArgumentError: if the elements are not independent given `z`, so that the sum has no such parts.
    """
    if isinstance(px, SplitDistribution):
        return -px.log_prob_per_element(x)
    elements = elements_of(px.of(x) if isinstance(px, ScaleProfile) else px)
    if elements is None:
        raise ArgumentError(
            f"the elements of {type(px).__name__} are not independent given z, so -log p(x|z) cannot be split among them."
        )
    x = x.expand(torch.broadcast_shapes(x.shape, elements.batch_shape))
    nll: Tensor = -elements.log_prob(x)
    return nll
