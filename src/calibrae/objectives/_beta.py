"""Training losses: a weight on the KL, perhaps rising from zero."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor

from .. import functional
from ..errors import ArgumentError
from ._elbo import ELBOTerms


class AbstractObjective(ABC):
    """From terms per example to the one scalar that is descended."""

    @abstractmethod
    def loss(self, terms: ELBOTerms, step: int) -> Tensor:
        """Mean loss of the batch, a scalar, in nats per example, at an optimiser step counted from 0."""


@final
@dataclass(frozen=True, slots=True)
class BetaELBO(AbstractObjective):
    r"""$\operatorname{mean}_n \big[ -\log p(x_n|z_n) + \beta_t \sum_i \mathrm{KL}_{n,i} \big]$, in nats.

    Beta weighs the **sum** of the KL over the latents beside the full NLL (the convention `nll`). It shapes training
    alone: what is reported as the ELBO has beta = 1.

    Args:
        beta: the weight after warm-up.
        warmup_steps: steps over which the weight rises linearly from 0; 0 for none.

    Raises:
        ArgumentError: if either is negative or not finite.

    References:
        Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl; warm-up: Bowman et al. 2016,
        https://arxiv.org/abs/1511.06349

    Example:
        >>> terms = ELBOTerms(nll=torch.tensor([3.0]), kl=torch.tensor([[0.5, 1.0]]))
        >>> BetaELBO(beta=2.0).loss(terms, step=0)
        tensor(6.)
    """

    beta: float = 1.0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ArgumentError(f"`beta` must be a number and not negative; got {self.beta}.")
        if self.warmup_steps < 0:
            raise ArgumentError(f"`warmup_steps` must not be negative; got {self.warmup_steps}.")

    @classmethod
    def from_convention(
        cls,
        value: float,
        convention: str,
        *,
        data_dim: int,
        latent_dim: int,
        sigma: float | None = None,
        batch_size: int | None = None,
        likelihood: str = "gaussian",
    ) -> BetaELBO:
        """The objective with the optimum that `value` has in another convention; see `functional.conventions`.

        Example:
            >>> round(BetaELBO.from_convention(4.0, "sse", data_dim=784, latent_dim=10, sigma=1.0).beta, 6)
            2.0
        """
        beta = functional.beta_from_convention(
            value, convention, data_dim, latent_dim, sigma, batch_size=batch_size, likelihood=likelihood
        )
        return cls(beta)

    def weight(self, step: int) -> float:
        """Beta at an optimiser step.

        Example:
            >>> BetaELBO(beta=4.0, warmup_steps=100).weight(25)
            1.0
        """
        if self.warmup_steps == 0:
            return self.beta
        return self.beta * min(1.0, step / self.warmup_steps)

    def loss(self, terms: ELBOTerms, step: int) -> Tensor:
        return (terms.nll + self.weight(step) * terms.kl.sum(-1)).mean()
