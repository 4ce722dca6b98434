"""Bernoulli likelihood of binary data."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from .._registry import component
from .._types import Float
from ._base import Likelihood
from ._distributions import IndependentBernoulli


@final
@component("bernoulli")
class BernoulliLikelihood(Likelihood):
    r"""$-\log p(x|z) = \sum_i [\log(1 + e^{l_i}) - x_i l_i]$ for binary data; the decoder gives the log odds `l`.

    On data strictly between 0 and 1 the sum is a cross-entropy but no likelihood: binarise such data first.

    Examples:
        >>> likelihood = BernoulliLikelihood()
        >>> likelihood.set_data_shape((2,))
        >>> -likelihood(torch.zeros(1, 2)).log_prob(torch.ones(1, 2))
        tensor([1.3863])
    """

    support = "binary"
    is_density = False

    def output_init(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        return torch.logit(mean.clamp(1e-3, 1.0 - 1e-3)), torch.ones_like(std)

    def forward(self, output: Float[Tensor, "*s"]) -> IndependentBernoulli:
        return IndependentBernoulli(output, len(self.data_shape))
