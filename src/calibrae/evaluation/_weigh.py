"""Importance weights of many samples of a few examples, compiled where that pays."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from .._types import Batch
from ..acceleration import AutoCompiled, CompileChoice
from ..latents import Features, reparameterise
from ..models import VAE, evaluating, seeded


def draws_itself(model: VAE, batch: Batch) -> bool:
    """Tell whether no map from noise to the posterior's samples is known, so that it draws them from torch's global generator."""
    with evaluating(model):
        one = Batch(batch.x[:1], None if batch.context is None else batch.context[:1]).to(model.device)
        q = model.encode(one.x, one.context)
        return reparameterise(q, torch.zeros(1, 1, model.latent_dim, device=model.device)) is None


@final
class Weigher:
    """Computes log importance weights; the first full-sized call decides, by a timed trial, whether they are compiled.

    Args:
        model: in eval mode.
        shape: `(K, B)` of the calls that may be compiled; others, at the edges, run as they are.
        calls: number of those to come, all threads together.
        choice: `on`, `off`, or `auto`: compile if the calls repay it.
    """

    def __init__(self, model: VAE, shape: tuple[int, int], calls: float, choice: CompileChoice) -> None:
        self.model = model
        self.shape = shape

        def weigh(x: Tensor, eps: Tensor, context: Tensor | None, *features: Tensor) -> Tensor:
            """A posterior goes in as the features that it reads."""
            q = model.posterior_of(features[0] if len(features) == 1 else features, len(x))
            return model.draw(Batch(x, context), len(eps), eps, q=q).log_weights

        self._eager = weigh
        self._weigh = AutoCompiled(weigh, model.device, calls, choice, "the importance-weighted bound")

    @property
    def status(self) -> str:
        """Tell whether the weights are compiled, and why."""
        return self._weigh.status

    @property
    def rows(self) -> int:
        """Samples at once."""
        return self.shape[0]

    def __call__(
        self, batch: Batch, features: Features, eps: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Log weights `[K, B]` of a batch.

        Args:
            batch: examples on the model's device.
            features: encoder's output for them.
            eps: noise, `[K, B, d]`.
            generator: seeds a posterior that draws its samples itself.
        """
        parts = (features,) if isinstance(features, Tensor) else tuple(features)
        weigh = self._weigh if tuple(eps.shape[:2]) == self.shape and generator is None else self._eager
        with seeded(generator, self.model.device):
            weights: Tensor = weigh(batch.x, eps, batch.context, *parts)
        return weights
