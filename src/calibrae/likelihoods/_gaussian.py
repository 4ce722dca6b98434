"""The Gaussian likelihood with a calibrated sigma."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from .. import functional
from .._types import Float, Shape, Shared, SigmaChoice
from ..errors import UnfrozenSigmaError
from ._base import AbstractConditional, AbstractLikelihood, flatten_sum
from ._sigma import AbstractSigma, LearnedSigma, ManualSigma, OptimalSigma


@final
class GaussianConditional(AbstractConditional):
    """`N(x; mean, sigma^2)`; with an optimal sigma in training, its profile over the batch that is scored."""

    def __init__(self, mean: Tensor, sigma: AbstractSigma, *, training: bool) -> None:
        self._mean = mean
        self._sigma = sigma
        self._training = training
        self._scored: tuple[Tensor, Tensor] | None = None  # the last batch and its squared errors

    @property
    def mean(self) -> Tensor:
        return self._mean

    def _fixed_log_sigma(self) -> Tensor:
        if not self._sigma.is_fixed:
            raise UnfrozenSigmaError(
                "an optimal sigma must be fixed on the training set before anything is evaluated with it; got one that is "
                "not. `fit` does so at its end; by hand call `calibrate_sigma(model, training_set)`."
            )
        return self._sigma.spread(self._sigma.log_sigma)

    def nll(self, x: Float[Tensor, "b *data"]) -> Float[Tensor, " b"]:
        if self._sigma.shared == "all":
            return self._nll_of_one_sigma(x)
        return flatten_sum(self.nll_per_element(x))

    def nll_per_element(self, x: Float[Tensor, "b *data"]) -> Float[Tensor, "b *data"]:
        profile = self._profile()
        mean = self._mean.to(torch.promote_types(self._mean.dtype, torch.float32))
        log_sigma = profile.spread(profile.profile(x, mean)) if profile else self._fixed_log_sigma()
        return functional.gaussian_nll(x, mean, log_sigma.expand_as(mean))

    def _nll_of_one_sigma(self, x: Tensor) -> Tensor:
        """From the squared error of each example alone: one pass over the data."""
        sse, data_dim, profile = self.sse(x), x[0].numel(), self._profile()
        log_sigma = profile.profile_of_sse(sse, data_dim) if profile else self._fixed_log_sigma()
        return functional.gaussian_nll_of_sse(sse, log_sigma.to(sse.dtype), data_dim)

    def _profile(self) -> OptimalSigma | None:
        """Sigma, where it is computed from the batch."""
        sigma = self._sigma
        return sigma if self._training and isinstance(sigma, OptimalSigma) and not sigma.is_fixed else None

    def sse(self, x: Float[Tensor, "b *data"]) -> Float[Tensor, " b"]:
        if self._scored is None or self._scored[0] is not x:
            self._scored = (x, super().sse(x))
        return self._scored[1]

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "b *data"]:
        mean = self._mean
        device = generator.device if generator is not None else mean.device
        noise = torch.randn(mean.shape, dtype=mean.dtype, device=device, generator=generator).to(mean.device)
        return mean + self._fixed_log_sigma().exp() * noise

    def distribution(self) -> Distribution:
        spread = self._fixed_log_sigma().exp().expand_as(self._mean)
        return Independent(Normal(self._mean, spread), self._mean.ndim - 1)


@final
class GaussianLikelihood(AbstractLikelihood):
    r"""$p(x|z) = N(x; \hat x(z), \sigma^2)$, whose sigma is a number, a parameter or the analytic optimum.

    $$-\log p(x|z) = \sum_i \Big[ \log\sigma + \tfrac12\log 2\pi + \frac{(x_i - \hat x_i)^2}{2\sigma^2} \Big]$$

    Args:
        sigma: a positive number in units of the data; `"learned"`: a parameter; `"optimal"`: in training the root
            mean square of the batch's residuals, then fixed to its value over the training set.
        shared: over what one sigma is shared: `"all"` elements, each `"channel"`, or each `"element"` alone.
        floor: smallest learned or optimal sigma; by default `step / sqrt(12)` of quantised data and 1e-6 of continuous.
            It is a hard bound and costs nothing above it.
        initial_sigma: where a learned sigma starts in a loop of your own; `fit` starts it at the residuals of the data.

    Raises:
        ArgumentError: if an argument has no meaning.

    References:
        Rybkin, Daniilidis & Levine 2021, https://arxiv.org/abs/2006.13202

    Example:
        >>> likelihood = GaussianLikelihood(sigma=1.0)
        >>> likelihood(torch.zeros(1, 2)).nll(torch.zeros(1, 2))
        tensor([1.8379])
    """

    def __init__(
        self,
        sigma: SigmaChoice = "optimal",
        shared: Shared = "all",
        *,
        floor: float | None = None,
        initial_sigma: float = 1.0,
    ) -> None:
        super().__init__()
        self.sigma: AbstractSigma
        if sigma == "optimal":
            self.sigma = OptimalSigma(shared, floor)
        elif sigma == "learned":
            self.sigma = LearnedSigma(initial_sigma, shared, floor)
        else:
            self.sigma = ManualSigma(sigma, shared)

    def bind(self, data_shape: Shape, step: float | None) -> None:
        self.sigma.bind(tuple(data_shape), step)

    def output_affine(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        return mean, std

    def forward(self, output: Float[Tensor, "b *data"]) -> GaussianConditional:
        if self.sigma.data_shape is None:
            self.sigma.bind(tuple(output.shape[1:]), None)
        return GaussianConditional(output, self.sigma, training=self.training)
