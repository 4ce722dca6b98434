"""Preparation of an audit: a probe that works, a batch that is small enough, and how steady the values are."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import ArgumentError
from ._inputs import SPACES, Inputs, Kind, Sizes, Space
from ._kl_probe import KLProbe
from ._probe import POSTERIORS, Loss, Posterior, Probe, ProbeError
from ._tolerances import Tolerances

SEEDS = 5
FEW, SECONDS = 4, 0.02  # examples of the first call, and what a call of the exploration may take
NUMBERS = 1 << 18  # elements of a batch that the exploration uses at most; the weights are then measured at full size
KINDS: tuple[Kind, ...] = ("continuous", "one-hot-last", "one-hot-first")
MEANS = (1.0, 2.0, 4.0, 8.0)  # of the posterior, at which a small change must be seen


def checked_sizes(
    data_shape: Sequence[int],
    latent_dim: int,
    batch_size: int,
    data_range: tuple[float, float],
    x_hat: str,
    posterior: str,
) -> Sizes:
    """Check the arguments of an audit.

    Raises:
        ArgumentError: if a size or a name is not usable.
    """
    if not data_shape or min(*data_shape, latent_dim, batch_size) < 1:
        raise ArgumentError(
            f"data_shape, latent_dim and batch_size must be positive; got {tuple(data_shape)}, {latent_dim}, {batch_size}."
        )
    if x_hat not in SPACES:
        raise ArgumentError(f"`x_hat` must be one of {', '.join(SPACES)}; got {x_hat!r}.")
    if posterior not in POSTERIORS:
        raise ArgumentError(f"`posterior` must be one of {', '.join(POSTERIORS)}; got {posterior!r}.")
    if not data_range[0] < data_range[1]:
        raise ArgumentError(f"`data_range` must be lo < hi; got {data_range[0]:g}, {data_range[1]:g}.")
    return Sizes(tuple(data_shape), latent_dim, batch_size)


def working_probe(
    loss: Loss, posterior: Posterior, sizes: Sizes, data_range: tuple[float, float], space: Space
) -> tuple[Probe, Sizes]:
    """Find a precision that the loss takes, float64 before float32, and fewer examples than asked where one is large.

    Raises:
        ProbeError: if it takes neither.
    """
    failures: list[str] = []
    for dtype, needs in itertools.product((torch.float64, torch.float32), (False, True)):
        probe = Probe(loss, posterior, dtype, needs_gradients=needs)
        for tried in dict.fromkeys((sizes.with_batch(min(sizes.batch_size, FEW)), sizes)):
            seconds = _seconds(probe, tried, data_range, space, failures)
            if seconds is None:
                continue
            affordable = int(tried.batch_size * max(1.0, SECONDS / seconds))
            most = min(affordable, max(FEW, NUMBERS // sizes.data_dim))
            small = sizes.with_batch(min(sizes.batch_size, max(tried.batch_size, most)))
            if small != sizes and _seconds(probe, small, data_range, space, failures) is None:
                small = sizes
            return Probe(loss, posterior, probe.precision, needs_gradients=needs), small
    raise ProbeError(
        f"the loss cannot be called as loss(x, x_hat, mu, {posterior}) with x and x_hat {(sizes.batch_size, *sizes.data_shape)}, "
        f"mu {(sizes.batch_size, sizes.latent_dim)}: {failures[0]}. For another signature wrap it in a function of these four; a flat output wants a flat data_shape, such as 784."
    )


def _seconds(
    probe: Probe, sizes: Sizes, data_range: tuple[float, float], space: Space, failures: list[str]
) -> float | None:
    """Time of a call; `None`, with the reason appended, if the loss accepts no kind of data."""
    zero = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    for kind in KINDS:
        inputs = Inputs(data_range, space, kind)
        x = inputs.x(sizes, seed=0)
        guess = inputs.guess(x, 0, 0.5)
        started = time.perf_counter()
        try:
            probe.value(x, guess, zero, zero)
        except ProbeError as error:
            failures.append(str(error))
        else:
            return max(1e-6, time.perf_counter() - started)
    return None


def steadiness(probe: Probe, sizes: Sizes, inputs: Inputs) -> tuple[float, float]:
    """Relative change between identical calls, and relative standard deviation over seeds."""
    generator = torch.Generator().manual_seed(9)
    mu = torch.randn(sizes.batch_size, sizes.latent_dim, generator=generator, dtype=torch.float64)
    for kind, guess in itertools.product(KINDS, (0, 1)):  # the first may be the data themselves
        made = replace(inputs, kind=kind)
        x = made.x(sizes, seed=0)
        x_hat = made.guess(x, guess, 0.5)
        try:
            repeated = [probe.value(x, x_hat, mu, -0.5 + 0.0 * mu, 0) for _ in range(2)]
            seeds = [probe.value(x, x_hat, mu, -0.5 + 0.0 * mu, seed) for seed in range(SEEDS)]
        except ProbeError:
            continue
        if not all(map(math.isfinite, [*repeated, *seeds])):
            continue
        size, same = max(map(abs, [*repeated, *seeds])) or 1.0, Tolerances.same_value.value
        drift = abs(repeated[1] - repeated[0]) / size
        spread = float(torch.tensor(seeds, dtype=torch.float64).std()) / size
        return (drift if drift > same else 0.0), (0.0 if drift > same or spread < same else spread)
    return 0.0, 0.0


def is_half_precision(probe: Probe, sizes: Sizes, inputs: Inputs) -> bool:
    """Tell whether the loss misses changes of the mean that single precision would see, at each of several means."""
    for kind in KINDS:
        made = replace(inputs, kind=kind)
        x = made.x(sizes, seed=0)
        kl = KLProbe(probe, x, made.guess(x, 0, 0.5), sizes)
        try:
            here = [kl.one(mean) for mean in MEANS]
            beside = [kl.one(mean * (1.0 + Tolerances.lost_change.value)) for mean in MEANS]
        except ProbeError:
            continue
        return here == beside and len(set(here)) == len(here)
    return False


def make_kl_probe(probe: Probe, inputs: Inputs, sizes: Sizes) -> KLProbe:
    """Fix the best reconstruction at which the loss is finite."""
    x = inputs.x(sizes, seed=0)
    near = inputs.near(x) if not inputs.kind.startswith("one-hot") else inputs.guess(x, 0, 0.0)
    start = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    value = probe.value(x, near, start, start)
    if not math.isfinite(value):
        near = inputs.guess(x, 1, 0.9)
    return KLProbe(probe, x, near, sizes)
