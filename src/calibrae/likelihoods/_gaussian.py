"""Gaussian likelihoods: with a calibrated sigma, or one that the decoder gives."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor
from torch.distributions import Distribution

from .. import functional
from .._registry import component
from .._types import Float, ScaleChoice, Shape, Shared
from ..errors import ArgumentError, ScaleNotFixedError
from ._base import Likelihood
from ._distributions import NOT_FIXED, IndependentNormal, ScaleProfile, squared_errors, widened
from ._scale import CONTINUOUS_FLOOR, ROOT_MEAN_SQUARE, OptimalScale, Scale, make_scale


def profiled(scale: Scale, *, training: bool) -> OptimalScale | None:
    """Scale that is to be computed from the batch, if it is; `None` if it is known.

    Raises:
        ScaleNotFixedError: in evaluation, if an optimal scale was not fixed.
    """
    if not isinstance(scale, OptimalScale) or scale.is_held:
        return None
    if training:
        if scale.is_fixed:
            scale.release()  # what training changes makes a fixed value untrue
        return scale
    if not scale.is_fixed:
        raise ScaleNotFixedError(NOT_FIXED)
    return None


def rows(x: Tensor, location: Tensor, data_shape: Shape) -> tuple[Tensor, Tensor]:
    """Examples and locations `[N, *data]`, whatever their leading dimensions."""
    return x.expand_as(location).reshape(-1, *data_shape), location.reshape(-1, *data_shape)


@final
@component("gaussian")
class GaussianLikelihood(Likelihood):
    r"""$p(x|z) = N(x; \hat x(z), \sigma^2)$, whose sigma is a number, a parameter or the analytic optimum.

    $$-\log p(x|z) = \sum_i \Big[ \log\sigma + \tfrac12\log 2\pi + \frac{(x_i - \hat x_i)^2}{2\sigma^2} \Big]$$

    Args:
        sigma: a positive number in units of the data; `"learned"`: a parameter; `"optimal"`: in training the root
            mean square of the batch's residuals, then fixed to its value over the training set.
        shared: extent of one sigma: `"all"` elements, each `"channel"`, or each `"element"` alone.
        floor: smallest learned or optimal sigma; by default `step / sqrt(12)` of quantised data and 1e-6 of continuous.
            It is a hard bound and costs nothing above it.
        initial_sigma: start of a learned sigma in a loop of your own; `fit` starts it at the residuals of the data.

    Raises:
        ArgumentError: if an argument has no meaning.

    References:
        Rybkin, Daniilidis & Levine 2021, https://arxiv.org/abs/2006.13202

    Examples:
        >>> likelihood = GaussianLikelihood(sigma=1.0)
        >>> likelihood.set_data_shape((2,))
        >>> -likelihood(torch.zeros(1, 2)).log_prob(torch.zeros(1, 2))
        tensor([1.8379])
    """

    scale: Scale

    def __init__(
        self,
        sigma: ScaleChoice = "optimal",
        shared: Shared = "all",
        *,
        floor: float | None = None,
        initial_sigma: float = 1.0,
    ) -> None:
        super().__init__()
        self.scale = make_scale(sigma, shared, floor, initial_sigma, ROOT_MEAN_SQUARE)

    def forward(self, output: Float[Tensor, "*s"]) -> Distribution:
        ndim = len(self.data_shape)
        scale = profiled(self.scale, training=self.training)
        mean = widened(output)
        if scale is None:
            return IndependentNormal(mean, self.scale.broadcast(self.scale.log_scale), ndim)

        def at_optimum(x: Tensor) -> Distribution:
            if scale.shared == "all":
                sse = squared_errors(x, mean, ndim)
                log_sigma = scale.profile_of_sse(sse, math.prod(self.data_shape))
                return IndependentNormal(mean, log_sigma, ndim).remember(x, sse)
            log_sigma = scale.profile(*rows(x, mean, self.data_shape))
            return IndependentNormal(mean, scale.broadcast(log_sigma), ndim)

        return ScaleProfile(mean, ndim, at_optimum)


@final
@component("gaussian-per-example")
class HeteroscedasticGaussianLikelihood(Likelihood):
    r"""$p(x|z) = \prod_i N(x_i; \hat x_i(z), \sigma_i(z)^2)$: the decoder gives a mean and a log sigma of each element.

    The decoder's output has twice the channels (columns) of the data: the means, then the log sigmas.

    Args:
        floor: smallest sigma; by default `step / sqrt(12)` of quantised data and 1e-6 of continuous. It is a hard bound.

    Raises:
        ArgumentError: if the floor is not positive.

    References:
        Kingma & Welling 2014, https://arxiv.org/abs/1312.6114, appendix C.2

    Examples:
        >>> likelihood = HeteroscedasticGaussianLikelihood()
        >>> likelihood.set_data_shape((2,))
        >>> likelihood.output_shape((2,))
        (4,)
        >>> likelihood(torch.zeros(1, 4)).stddev
        tensor([[1., 1.]])
    """

    def __init__(self, floor: float | None = None) -> None:
        super().__init__()
        if floor is not None and not (math.isfinite(floor) and floor > 0):
            raise ArgumentError(f"`floor` must be a positive number; got {floor}.")
        self._given_floor = floor
        self.register_buffer("floor", torch.tensor(CONTINUOUS_FLOOR if floor is None else floor))

    floor: Tensor

    def output_shape(self, data_shape: Shape) -> Shape:
        return (2 * data_shape[0], *data_shape[1:])

    def set_step(self, step: float | None) -> None:
        if self._given_floor is None:
            self.floor.fill_(CONTINUOUS_FLOOR if step is None else functional.quantisation_floor(step))

    def output_init(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        shift = torch.cat([mean, std.log().expand_as(mean)])
        first = len(mean)
        scale = torch.cat([std.expand(first), torch.ones_like(mean[:1].flatten()[:1]).expand(first)])
        return shift, scale.reshape(-1, *(1,) * (mean.ndim - 1))

    def forward(self, output: Float[Tensor, "*s"]) -> IndependentNormal:
        ndim = len(self.data_shape)
        mean, log_sigma = widened(output).chunk(2, dim=-ndim)
        return IndependentNormal(mean, torch.maximum(log_sigma, self.floor.log()), ndim)
