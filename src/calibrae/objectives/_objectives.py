"""Objectives: from a draw of samples to the loss of each example."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

from torch import Tensor

from .. import functional
from .._registry import component
from ..errors import ArgumentError
from ._draw import Draw

Weights = Mapping[str, Any]


class Terms(NamedTuple):
    """Loss of each example, and the parts of it that the history shows.

    Attributes:
        loss: loss to minimise, `[B]`, in nats.
        parts: named numbers per example, `[B]` each; the history's columns.
    """

    loss: Tensor
    parts: dict[str, Tensor]


class Objective(ABC):
    """Loss that training minimises and `audit` judges. Derive from it and write `__call__`.

    Attributes:
        samples: samples of `z` for each example, `K`.

    Examples:
        >>> class HalfKL(cb.Objective):
        ...     def __call__(self, draw, weights):
        ...         return cb.Terms(draw.nll.mean(0) + 0.5 * draw.kl, {"nll": draw.nll.mean(0), "kl": draw.kl})
        >>> model = build("vae", data_shape=(4,), latent_dim=2)
        >>> HalfKL()(model.draw(torch.zeros(3, 4)), {}).loss.shape
        torch.Size([3])
    """

    kind: ClassVar[str] = "objective"
    samples: int = 1

    def schedule(self, step: int, total: int) -> dict[str, float]:
        """Weights that change during training, by name, at an optimiser step counted from 0; none by default.

        Args:
            step: number of steps taken.
            total: steps of the whole run. At `step == total` the weights are final: models are selected at these.
        """
        return {}

    @abstractmethod
    def __call__(self, draw: Draw, weights: Weights) -> Terms:
        """Loss and parts of each example.

        Args:
            draw: `samples` samples of the latents of a batch.
            weights: values of `schedule` at this step, numbers or tensors with one element.
        """

    def final_weights(self) -> dict[str, float]:
        """Weights at the end of training."""
        return self.schedule(1, 1)


@final
@component("beta-elbo")
@dataclass(frozen=True)
class BetaELBO(Objective):
    r"""$-\log p(x|z) + \beta_t\, \mathrm{KL}(q(z|x) \| p(z))$ with one sample of `z`, in nats.

    Beta weighs the **sum** of the KL over the latents beside the full NLL (the convention `nll`). It shapes training
    alone: the reported ELBO has beta = 1.

    Args:
        beta: weight after the warm-up.
        kl_warmup: share of all steps over which the weight rises linearly from 0; 0 for none.

    Raises:
        ArgumentError: if beta is negative or not finite, or the warm-up is not in [0, 1].

    References:
        Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl; warm-up: Bowman et al. 2016,
        https://arxiv.org/abs/1511.06349

    Examples:
        >>> BetaELBO(beta=4.0, kl_warmup=0.5).schedule(25, 100)
        {'beta': 2.0}
    """

    beta: float = 1.0
    kl_warmup: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", float(self.beta))
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ArgumentError(f"`beta` must be a number and not negative; got {self.beta}.")
        if not 0 <= self.kl_warmup <= 1:
            raise ArgumentError(f"`kl_warmup` must be a share of all steps, 0 to 1; got {self.kl_warmup}.")

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
        kl_warmup: float = 0.0,
    ) -> BetaELBO:
        """Build the objective with the optimum that `value` has in another convention; see `functional.conventions`.

        Examples:
            >>> round(BetaELBO.from_convention(4.0, "sse", data_dim=784, latent_dim=10, sigma=1.0).beta, 6)
            2.0
        """
        beta = functional.beta_from_convention(
            value, convention, data_dim, latent_dim, sigma, batch_size=batch_size, likelihood=likelihood
        )
        return cls(beta, kl_warmup)

    def schedule(self, step: int, total: int) -> dict[str, float]:
        rising = self.kl_warmup * total
        return {"beta": self.beta if step >= rising else self.beta * step / rising}

    def __call__(self, draw: Draw, weights: Weights) -> Terms:
        nll = draw.nll.mean(0)
        return Terms(nll + weights["beta"] * draw.kl, {"nll": nll, "kl": draw.kl})


@final
@component("iwae")
@dataclass(frozen=True)
class IWAE(Objective):
    r"""Importance-weighted bound, $-\log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x)$, in nats.

    With one sample it is the ELBO, estimated without a closed form of the KL. What is reported as the ELBO is the ELBO.

    Args:
        samples: `K`.

    Raises:
        ArgumentError: if there is no sample.

    References:
        Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519

    Examples:
        >>> model = build("vae", data_shape=(4,), latent_dim=2, objective=IWAE(samples=3))
        >>> model.objective(model.draw(torch.zeros(2, 4), samples=3), {}).loss.shape
        torch.Size([2])
    """

    samples: int = 5

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ArgumentError(f"`samples` of an importance-weighted bound must be at least 1; got {self.samples}.")

    def __call__(self, draw: Draw, weights: Weights) -> Terms:
        loss = -functional.importance_bound(draw.log_weights, dim=0)
        return Terms(loss, {"nll": draw.nll.mean(0), "kl": draw.kl})


@final
@component("reconstruction")
@dataclass(frozen=True)
class ReconstructionError(Objective):
    r"""$-\log p(x|z)$ alone, in nats: what a plain autoencoder minimises.

    Examples:
        >>> model = build("autoencoder", data_shape=(4,), latent_dim=2)
        >>> list(model.objective(model.draw(torch.zeros(2, 4)), {}).parts)
        ['nll']
    """

    def __call__(self, draw: Draw, weights: Weights) -> Terms:
        nll = draw.nll.mean(0)
        return Terms(nll, {"nll": nll})


def require_terms(terms: Terms, examples: int, objective: Objective) -> None:
    """Raise `ArgumentError` unless loss and parts are one number per example."""
    entries = {"loss": terms.loss, **terms.parts}
    wrong = [f"{name} {list(value.shape)}" for name, value in entries.items() if tuple(value.shape) != (examples,)]
    if wrong:
        raise ArgumentError(
            f"{type(objective).__name__} must return one number per example, [{examples}]; got {', '.join(wrong)}. Take the mean "
            "over samples, and no mean over the batch."
        )
