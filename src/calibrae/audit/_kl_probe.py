"""The loss as a function of the posterior alone."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from ._inputs import Sizes
from ._probe import Probe

EPSILON = {torch.float64: 1.2e-16, torch.float32: 6e-8}


class KLProbe:
    """The loss at a fixed reconstruction, for any posterior.

    Args:
        probe: black box that is called.
        x: batch of data.
        x_hat: reconstruction of it.
        sizes: sizes of both.
        seeds: number of seeds to average over, for a KL that is sampled.
    """

    def __init__(self, probe: Probe, x: Tensor, x_hat: Tensor, sizes: Sizes, seeds: int = 1) -> None:
        self.probe = probe
        self.x = x
        self.x_hat = x_hat
        self.sizes = sizes
        self.seeds = seeds

    @property
    def count(self) -> int:
        """Number of latents of all examples."""
        return self.sizes.batch_size * self.sizes.latent_dim

    def full(self, value: float) -> Tensor:
        """Repeat one number for every latent of every example."""
        return torch.full((self.sizes.batch_size, self.sizes.latent_dim), value, dtype=torch.float64)

    def one(self, mu: Tensor | float, log_std: Tensor | float = 0.0, seed: int = 0) -> float:
        """Loss at one seed."""
        mu, log_std = (v if isinstance(v, Tensor) else self.full(v) for v in (mu, log_std))
        return self.probe.value(self.x, self.x_hat, mu, log_std, seed)

    def at(self, mu: Tensor | float, log_std: Tensor | float = 0.0, seeds: int | None = None) -> float:
        """Average of the loss over seeds and over both signs of the mean, between which the noise of a sampled KL cancels."""
        count = seeds or self.seeds
        still = not isinstance(mu, Tensor) and mu == 0.0
        signs = (1.0,) if still or self.seeds == 1 else (1.0, -1.0)
        return sum(self.one(s * mu, log_std, seed) for seed in range(count) for s in signs) / (count * len(signs))

    def seconds_of_a_call(self) -> float:
        """Time of one call of the loss: the least of a few."""
        times = []
        for _ in range(5):
            started = time.perf_counter()
            self.one(0.5)
            times.append(time.perf_counter() - started)
        return max(1e-6, min(times))

    def mean_at(self, level: float) -> float:
        """Mean of each latent at which an example has so many nats, with unit standard deviation."""
        return math.sqrt(2.0 * level / self.sizes.latent_dim)

    def curvature(self, level: float, step: float = 0.1) -> tuple[float, float]:
        """Weight of `mu^2 / 2` from a second difference about a level, and its rounding error.

        The weight is exact for a sampled KL too: under one seed the noise is linear in the mean.
        """
        mean = self.mean_at(level)
        delta = step * mean
        values = [self.one(mean + t) for t in (-delta, 0.0, delta)]
        scale = delta**2 * self.count
        rounding = 8.0 * EPSILON[self.probe.dtype] * max(map(abs, values)) / scale
        return (values[0] - 2.0 * values[1] + values[2]) / scale, rounding
