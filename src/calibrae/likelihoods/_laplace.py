"""Laplace likelihood with a calibrated scale."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.distributions import Distribution

from .._registry import component
from .._types import Float, ScaleChoice, Shared
from ._base import Likelihood
from ._distributions import ScaleProfile, independent_laplace, widened
from ._gaussian import profiled, rows
from ._scale import MEAN_ABSOLUTE, Scale, make_scale


@final
@component("laplace")
class LaplaceLikelihood(Likelihood):
    r"""$p(x|z) = \prod_i \frac{1}{2b} e^{-|x_i - \hat x_i(z)| / b}$, whose scale is a number, a parameter or the analytic optimum.

    $$-\log p(x|z) = \sum_i \Big[ \log 2b + \frac{|x_i - \hat x_i|}{b} \Big]$$

    Convention: `scale` is $b$, the mean absolute residual at the optimum; the standard deviation is $\sqrt2\,b$.

    Args:
        scale: a positive number in units of the data; `"learned"`: a parameter; `"optimal"`: in training the mean absolute
            residual of the batch, then fixed to its value over the training set.
        shared: extent of one scale: `"all"` elements, each `"channel"`, or each `"element"` alone.
        floor: smallest learned or optimal scale; by default `step / 4` of quantised data and 1e-6 of continuous.
        initial_scale: start of a learned scale in a loop of your own; `fit` starts it at the residuals of the data.

    Raises:
        ArgumentError: if an argument has no meaning.

    Examples:
        >>> likelihood = LaplaceLikelihood(scale=1.0)
        >>> likelihood.set_data_shape((2,))
        >>> -likelihood(torch.zeros(1, 2)).log_prob(torch.ones(1, 2))
        tensor([3.3863])
    """

    scale: Scale

    def __init__(
        self,
        scale: ScaleChoice = "optimal",
        shared: Shared = "all",
        *,
        floor: float | None = None,
        initial_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.scale = make_scale(scale, shared, floor, initial_scale, MEAN_ABSOLUTE)

    def forward(self, output: Float[Tensor, "*s"]) -> Distribution:
        ndim = len(self.data_shape)
        scale = profiled(self.scale, training=self.training)
        location = widened(output)
        if scale is None:
            return independent_laplace(location, self.scale.broadcast(self.scale.log_scale), ndim)

        def at_optimum(x: Tensor) -> Distribution:
            log_scale = scale.profile(*rows(x, location, self.data_shape))
            return independent_laplace(location, scale.broadcast(log_scale), ndim)

        return ScaleProfile(location, ndim, at_optimum)
