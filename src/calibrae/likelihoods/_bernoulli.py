"""The Bernoulli likelihood of binary data."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent

from .. import functional
from .._types import Float, Shape
from ._base import AbstractConditional, AbstractLikelihood, flatten_sum


@final
class BernoulliConditional(AbstractConditional):
    """Independent bits with the given log odds."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    def nll(self, x: Float[Tensor, "b *data"]) -> Float[Tensor, " b"]:
        if torch.is_grad_enabled():
            return flatten_sum(self.nll_per_element(x))
        return functional.bernoulli_nll_sum(x, self._wide_logits)  # twice as fast, and without a gradient

    def nll_per_element(self, x: Float[Tensor, "b *data"]) -> Float[Tensor, "b *data"]:
        return functional.bernoulli_nll(x, self._wide_logits)

    @property
    def _wide_logits(self) -> Tensor:
        return self.logits.to(torch.promote_types(self.logits.dtype, torch.float32))

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "b *data"]:
        device = generator.device if generator is not None else self.logits.device
        uniform = torch.rand(self.logits.shape, dtype=self.logits.dtype, device=device, generator=generator)
        return (uniform.to(self.logits.device) < self.mean).to(self.logits.dtype)

    def distribution(self) -> Distribution:
        return Independent(Bernoulli(logits=self.logits), self.logits.ndim - 1)


@final
class BernoulliLikelihood(AbstractLikelihood):
    r"""$-\log p(x|z) = \sum_i [\log(1 + e^{l_i}) - x_i l_i]$ for binary data; the decoder gives the log odds `l`.

    On data strictly between 0 and 1 the sum is a cross-entropy but no likelihood: binarise such data first.

    Example:
        >>> BernoulliLikelihood()(torch.zeros(1, 2)).nll(torch.ones(1, 2))
        tensor([1.3863])
    """

    def bind(self, data_shape: Shape, step: float | None) -> None:
        """Nothing to learn: bits have no scale."""

    def output_affine(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        return torch.logit(mean.clamp(1e-3, 1.0 - 1e-3)), torch.ones_like(std)

    def forward(self, output: Float[Tensor, "b *data"]) -> BernoulliConditional:
        return BernoulliConditional(output)
