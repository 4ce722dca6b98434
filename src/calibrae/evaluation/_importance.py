"""The importance-weighted bound on log p(x), streamed over samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import mixed_seed
from ..errors import ArgumentError
from ..latents import AbstractPosterior, require_density
from ..models import VAE, evaluating

BLOCK_EXAMPLES = 32  # constants: the noise, and so the result, does not depend on the caller's batches
BLOCK_ROWS = 2048
BLOCK_NUMBERS = 1 << 23
IMPORTANCE_STREAM = 5


@dataclass(frozen=True)
class ImportanceSummary:
    """Importance-weighted bounds of a data set.

    Attributes:
        log_likelihood: the bound of each example, `[N]`, nats, float64.
        effective_samples: effective sample size of each, `[N]`, between 1 and `samples`.
        samples: `K`.
    """

    log_likelihood: Tensor
    effective_samples: Tensor
    samples: int

    @property
    def mean(self) -> float:
        """Mean bound, nats."""
        return float(self.log_likelihood.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, from the spread over examples."""
        n = len(self.log_likelihood)
        return float(self.log_likelihood.std()) / math.sqrt(n) if n > 1 else math.nan


class _Streams:
    """Running `log sum w` and `log sum w^2` of some examples."""

    def __init__(self) -> None:
        self.first: Tensor | None = None
        self.second: Tensor | None = None

    def add(self, log_weights: Tensor) -> None:
        """More samples, `[K, B]`."""
        log_weights = log_weights.double()
        first, second = torch.logsumexp(log_weights, 0), torch.logsumexp(2.0 * log_weights, 0)
        self.first = first if self.first is None else torch.logaddexp(self.first, first)
        self.second = second if self.second is None else torch.logaddexp(self.second, second)

    def result(self, samples: int) -> tuple[Tensor, Tensor]:
        """The bound and the effective sample size of each example."""
        if self.first is None or self.second is None:
            raise ArgumentError("an importance bound needs at least one sample.")
        return self.first - math.log(samples), (2.0 * self.first - self.second).exp()


def importance_weighted(
    model: VAE,
    batches: Iterable[tuple[int, Tensor]],
    samples: int,
    seed: int = 0,
    step: Callable[[int], None] | None = None,
) -> ImportanceSummary:
    r"""$\log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x)$ of each example.

    The encoder runs once per example; samples are drawn, decoded and weighed in blocks, so memory is bounded whatever
    `K`. The weights are float32, their sums float64.

    Args:
        model: with a fixed sigma.
        batches: pairs of the first example's position and the batch.
        samples: `K`.
        seed: of the latent noise.
        step: called with the number of examples done, for a progress bar.

    Raises:
        ArgumentError: if `samples` is not positive.
        UnfrozenSigmaError: if an optimal sigma was not fixed.
        NoDensityError: for a plain autoencoder.

    References:
        Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519
    """
    if samples < 1:
        raise ArgumentError(f"`importance_samples` must be at least 1; got {samples}.")
    bounds, sizes = [], []
    with evaluating(model):
        for block, x in enumerate(_reblocked(batches)):
            x = x.to(model.device)
            posterior = model.encode(x)
            require_density(posterior)
            streams = _Streams()
            rows = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // x[0].numel()) // BLOCK_EXAMPLES)
            for chunk, first in enumerate(range(0, samples, rows)):
                generator = torch.Generator().manual_seed(mixed_seed(seed, IMPORTANCE_STREAM, block, chunk))
                noise = torch.randn(rows, BLOCK_EXAMPLES, model.latent_dim, generator=generator)
                streams.add(_log_weights(model, posterior, x, noise[: samples - first, : len(x)].to(x)))
            bound, size = streams.result(samples)
            bounds.append(bound.cpu())
            sizes.append(size.cpu())
            if step is not None:
                step(len(x))
    return ImportanceSummary(torch.cat(bounds), torch.cat(sizes), samples)


def _log_weights(model: VAE, posterior: AbstractPosterior, x: Tensor, noise: Tensor) -> Tensor:
    """`log w`, `[K, B]`, for noise `[K, B, d]`."""
    z = posterior.sample(noise)
    repeated = x.expand(len(noise), *x.shape).flatten(0, 1)
    nll = model.likelihood(model.decoder(z.flatten(0, 1))).nll(repeated).reshape(noise.shape[:2])
    log_weights: Tensor = model.prior.log_prob(z).sum(-1) - posterior.log_prob(z).sum(-1) - nll
    return log_weights


def _reblocked(batches: Iterable[tuple[int, Tensor]]) -> Iterable[Tensor]:
    """The same examples in blocks of a fixed size."""
    pending: Tensor | None = None
    for _, x in batches:
        pending = x if pending is None else torch.cat([pending, x])
        while len(pending) >= BLOCK_EXAMPLES:
            yield pending[:BLOCK_EXAMPLES]
            pending = pending[BLOCK_EXAMPLES:]
    if pending is not None and len(pending):
        yield pending
