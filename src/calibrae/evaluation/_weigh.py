"""Importance weights of many samples of a few examples, compiled where that pays."""

from __future__ import annotations

from typing import final

from torch import Tensor

from ..latents import AbstractPosterior
from ..models import VAE, CompileChoice, CompiledIfItPays


def log_weights(model: VAE, posterior: AbstractPosterior, x: Tensor, noise: Tensor) -> Tensor:
    """`log p(x|z) + log p(z) - log q(z|x)`, `[K, B]`, of the samples that noise `[K, B, d]` gives."""
    z = posterior.sample(noise)
    repeated = x.expand(len(noise), *x.shape).flatten(0, 1)
    nll = model.likelihood(model.decoder(z.flatten(0, 1))).nll(repeated).reshape(noise.shape[:2])
    weights: Tensor = model.prior.log_prob(z).sum(-1) - posterior.log_prob_of(noise).sum(-1) - nll
    return weights


@final
class Weigher:
    """Computes log weights; the first full-sized call decides, by a timed trial, whether they are compiled from then on.

    Args:
        model: in eval mode.
        shape: `(K, B)` of the calls that may be compiled; others, at the edges, run as they are.
        calls: how many of those are to come, all threads together.
        choice: `on`, `off`, or `auto`: compile if the calls repay it.
    """

    def __init__(self, model: VAE, shape: tuple[int, int], calls: float, choice: CompileChoice) -> None:
        self.model = model
        self.shape = shape

        def weigh(x: Tensor, noise: Tensor, *features: Tensor) -> tuple[Tensor]:
            """A posterior goes in as its parameters."""
            return (log_weights(model, model.posterior.from_features(features), x, noise),)

        self._weigh = CompiledIfItPays(weigh, model.device, calls, choice, "the importance-weighted bound")

    @property
    def says(self) -> str:
        """Whether the weights are compiled, and why."""
        return self._weigh.says

    @property
    def rows(self) -> int:
        """Samples at once."""
        return self.shape[0]

    def __call__(self, posterior: AbstractPosterior, x: Tensor, noise: Tensor) -> Tensor:
        """`[K, B]` for a posterior of `B` examples, the examples, and noise `[K, B, d]`."""
        if tuple(noise.shape[:2]) != self.shape:
            return log_weights(self.model, posterior, x, noise)
        return self._weigh(x, noise, *posterior.features())[0]
