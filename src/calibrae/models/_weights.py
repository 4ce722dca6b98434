"""Random weights that depend on a seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from .._noise import seed_torch

WEIGHTS_SEED: ContextVar[int] = ContextVar("weights_seed", default=0)


@contextmanager
def seeded_weights(seed: int | None) -> Iterator[None]:
    """Make modules whose weights depend on a seed; torch's global generator is as before afterwards.

    Args:
        seed: seed; by default that of the enclosing call, or 0.

    Examples:
        >>> with seeded_weights(3):
        ...     one = build("vae", data_shape=(4,), latent_dim=2)
        >>> other = build("vae", data_shape=(4,), latent_dim=2, seed=3)
        >>> all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
        True
    """
    chosen = WEIGHTS_SEED.get() if seed is None else seed
    token = WEIGHTS_SEED.set(chosen)
    try:
        with torch.random.fork_rng(devices=[]):
            seed_torch(chosen)
            yield
    finally:
        WEIGHTS_SEED.reset(token)
