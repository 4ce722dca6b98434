"""What the KL term is, and its weight: curvature along the mean, a sweep of the standard deviation, and kinks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .. import functional
from ._inputs import Sizes
from ._probe import Probe, ProbeError

LEVELS = (1e-3, 1e-2, 0.1, 0.5, 2.0, 8.0, 30.0, 100.0, 1e3, 1e4)  # nats an example
SWEEP = 13
SPAN = 1.2  # of log s, either side
SAME = 2e-3
NOISY_SEEDS = 64
WIDE_GRID = torch.linspace(-4.0, 4.0, 81, dtype=torch.float64)

READINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "the log-variance is read as a log standard deviation": lambda log_s: 2.0 * log_s,
    "the log standard deviation is read as a log-variance": lambda log_s: 0.5 * log_s,
    "the standard deviation is read as a log-variance": lambda log_s: 0.5 * log_s.exp(),
    "the standard deviation is read as a log standard deviation": torch.exp,
    "the variance is read as a log-variance": lambda log_s: 0.5 * (2.0 * log_s).exp(),
    "the variance is read as a standard deviation": lambda log_s: 2.0 * log_s,
    "the standard deviation is read as a variance": lambda log_s: 0.5 * log_s,
}
"""What the loss takes the log standard deviation for, from the true one."""


@dataclass(frozen=True)
class Wrap:
    """What is done to the KL before it is weighed.

    Attributes:
        kind: `capacity` (distance from a constant), `free_bits` (a floor), `clamp` (a ceiling), or `other`.
        constant: in nats of the summed KL, or `None`.
        scope: `example`, `batch` or `dimension`.
    """

    kind: str
    constant: float | None = None
    scope: str | None = None


@dataclass(frozen=True)
class Divergence:
    """What was found.

    Attributes:
        kind: `exact`, `monte_carlo`, `not_a_kl` or `none`.
        weight: coefficient, in the scalar, of each example's KL, from the mean's part.
        square: coefficient of the posterior's variance in place of `weight`, where the loss has one.
        log: coefficient of minus the log standard deviation.
        minimum_std: at which standard deviation the term is least; `None` if nowhere.
        wrap: what is done to it.
        level: nats at which it was measured.
        error: relative standard error of the weights of the variance, for a stochastic loss.
        reading: a confusion of log-variance, log standard deviation and standard deviation that fits exactly.
        curvatures: weight of the mean's part at each of `LEVELS`.
    """

    kind: str
    weight: float
    square: float | None = None
    log: float | None = None
    minimum_std: float | None = None
    wrap: Wrap | None = None
    level: float = 0.0
    error: float = 0.0
    reading: str | None = None
    curvatures: tuple[float, ...] = field(default=())

    def rescaled(self, factor: float) -> Divergence:
        """The same with all weights multiplied."""
        return replace(
            self,
            weight=self.weight * factor,
            square=None if self.square is None else self.square * factor,
            log=None if self.log is None else self.log * factor,
            curvatures=tuple(c * factor for c in self.curvatures),
        )


class KLProbe:
    """The loss as a function of the posterior alone, at a fixed reconstruction.

    Args:
        probe: the black box.
        x: data.
        x_hat: their reconstruction.
        sizes: of both.
        seeds: to average over.
    """

    def __init__(self, probe: Probe, x: Tensor, x_hat: Tensor, sizes: Sizes, seeds: int = 1) -> None:
        self.probe = probe
        self.x = x
        self.x_hat = x_hat
        self.sizes = sizes
        self.seeds = seeds

    def full(self, value: float) -> Tensor:
        """One number for every latent of every example."""
        return torch.full((self.sizes.batch_size, self.sizes.latent_dim), value, dtype=torch.float64)

    def at(self, mu: Tensor | float, log_std: Tensor | float = 0.0, seeds: int | None = None) -> float:
        """The loss, averaged over seeds."""
        mu, log_std = (v if isinstance(v, Tensor) else self.full(v) for v in (mu, log_std))
        count = seeds or self.seeds
        return sum(self.probe.value(self.x, self.x_hat, mu, log_std, seed) for seed in range(count)) / count

    def mean_at(self, level: float) -> float:
        """The mean of each latent at which an example has so many nats, with unit standard deviation."""
        return math.sqrt(2.0 * level / self.sizes.latent_dim)

    def curvature(self, level: float, step: float = 0.5) -> float:
        """Weight of `mu^2 / 2`, from a second difference about a level; exact under common random numbers."""
        mean = self.mean_at(level)
        delta = step * mean
        bent = self.at(mean + delta, seeds=1) + self.at(mean - delta, seeds=1) - 2.0 * self.at(mean, seeds=1)
        return bent / (delta**2 * self.sizes.batch_size * self.sizes.latent_dim)


def find_divergence(kl: KLProbe, stochastic: bool, scale: float) -> Divergence:
    """Classify the term.

    Args:
        kl: the loss as a function of the posterior.
        stochastic: whether it varies from seed to seed.
        scale: size of the loss, below whose rounding a curvature is nothing.
    """
    resolution = {torch.float64: 1e-12, torch.float32: 1e-5}[kl.probe.dtype] * max(scale, 1e-30)
    n = kl.sizes.batch_size * kl.sizes.latent_dim
    usable, curvatures = _curvatures(kl)
    noise = [resolution / (0.25 * 2.0 * level / kl.sizes.latent_dim * n) * 8.0 for level in usable]
    curvatures = [0.0 if abs(c) < e else c for c, e in zip(curvatures, noise, strict=True)]
    low, high = curvatures[0], curvatures[-1]
    largest = max(map(abs, curvatures))
    if largest == 0.0:
        return _without_mean(kl, resolution, stochastic)
    wrap = None if max(abs(c - high) for c in curvatures) <= SAME * largest else _wrap(kl, usable, curvatures)
    level = usable[-1] if wrap is not None and wrap.kind in ("capacity", "free_bits") else usable[0]
    level = level if wrap is not None else 0.0
    weight = high if wrap is None or wrap.kind in ("capacity", "free_bits") else low if low else high
    return _swept(kl, weight, wrap, level, stochastic, tuple(curvatures))


def _curvatures(kl: KLProbe) -> tuple[list[float], list[float]]:
    """The levels that the loss accepts, and the curvature at each.

    Raises:
        ProbeError: if it accepts fewer than two.
    """
    levels, curvatures, failures = [], [], []
    for level in LEVELS:
        if kl.probe.dtype == torch.float32 and level < 0.1:
            continue
        try:
            found = kl.curvature(level)
        except ProbeError as error:
            failures.append(str(error))
            continue
        if math.isfinite(found):
            levels.append(level)
            curvatures.append(found)
    if len(levels) < 2:
        raise ProbeError(f"the loss is not finite, or raises, at most posteriors: {(failures or ['not finite'])[0]}")
    return levels, curvatures


def _wrap(kl: KLProbe, levels: list[float], curvatures: list[float]) -> Wrap:
    """The kink between the slopes at the lowest and the highest KL."""
    low, high = curvatures[0], curvatures[-1]
    largest = max(abs(low), abs(high))  # between them, about a kink, a second difference means nothing
    settled_low = abs(curvatures[1] - low) <= SAME * largest
    settled_high = abs(curvatures[-2] - high) <= SAME * largest
    if not settled_high:
        return Wrap("other")
    slope = largest * kl.sizes.batch_size  # d loss / d KL while all examples have the same
    at_low = kl.at(kl.mean_at(levels[0]), seeds=1) - slope_of(low, kl) * levels[0]
    at_high = kl.at(kl.mean_at(levels[-1]), seeds=1) - slope_of(high, kl) * levels[-1]
    if settled_low and abs(low + high) <= SAME * largest:
        constant = (at_low - at_high) / (2.0 * slope) * (1.0 if high > 0 else -1.0)
        return Wrap("capacity", constant, _capacity_scope(kl, constant))
    if low == 0.0 and high != 0.0:
        constant = (at_low - at_high) / slope_of(high, kl)
        return Wrap("free_bits", constant, _floor_scope(kl, constant))
    if settled_low and high == 0.0 and low != 0.0:
        constant = (at_high - at_low) / slope_of(low, kl)
        return Wrap("clamp", constant, _ceiling_scope(kl, constant))
    return Wrap("other")


def slope_of(curvature: float, kl: KLProbe) -> float:
    """Change of the loss with the KL of every example."""
    return curvature * kl.sizes.batch_size


def _halves(kl: KLProbe, one: float, two: float) -> float:
    """The loss where half of the examples have one KL and the others another."""
    half = kl.sizes.batch_size // 2
    mu = kl.full(kl.mean_at(one))
    mu[half:] = kl.mean_at(two)
    return kl.at(mu, seeds=1)


def _nearest(value: float, **options: float) -> str:
    return min(options, key=lambda name: abs(options[name] - value))


def _capacity_scope(kl: KLProbe, constant: float) -> str | None:
    if kl.sizes.batch_size < 2 or not constant > 0:
        return None
    mixed = _halves(kl, 0.0, 4.0 * constant)
    share = (kl.sizes.batch_size - kl.sizes.batch_size // 2) / kl.sizes.batch_size
    low, high = kl.at(0.0, seeds=1), kl.at(kl.mean_at(4.0 * constant), seeds=1)
    of_example = low + share * (high - low)
    mean_kl = 4.0 * constant * share
    of_batch = kl.at(kl.mean_at(mean_kl), seeds=1)
    return _nearest(mixed, example=of_example, batch=of_batch)


def _floor_scope(kl: KLProbe, constant: float) -> str | None:
    if not constant > 0:
        return None
    if kl.sizes.latent_dim > 1:
        one = kl.full(0.0)
        one[:, 0] = math.sqrt(2.0 * 4.0 * constant)
        in_total = kl.at(kl.mean_at(4.0 * constant), seeds=1)
        floor = kl.at(0.0, seeds=1)
        by_dimension = floor + (in_total - floor) / 3.0 * (3.0 + 1.0 - 1.0 / kl.sizes.latent_dim)
        if _nearest(kl.at(one, seeds=1), total=in_total, dimension=by_dimension) == "dimension":
            return "dimension"
    return _capacity_scope(kl, constant)


def _ceiling_scope(kl: KLProbe, constant: float) -> str | None:
    if kl.sizes.batch_size < 2 or not constant > 0:
        return None
    mixed = _halves(kl, 0.0, 8.0 * constant)
    low, high = kl.at(0.0, seeds=1), kl.at(kl.mean_at(8.0 * constant), seeds=1)
    share = (kl.sizes.batch_size - kl.sizes.batch_size // 2) / kl.sizes.batch_size
    return _nearest(mixed, example=low + share * (high - low), batch=high)


def _sweep(kl: KLProbe, mean: float, grid: Tensor, seeds: int) -> Tensor:
    return torch.tensor([kl.at(mean, float(log_s), seeds) for log_s in grid], dtype=torch.float64)


def _swept(
    kl: KLProbe, weight: float, wrap: Wrap | None, level: float, stochastic: bool, curvatures: tuple[float, ...]
) -> Divergence:
    """Fit `square s^2/2 - log ln s` to a sweep of s, or a known confusion, or nothing."""
    n = kl.sizes.batch_size * kl.sizes.latent_dim
    span = SPAN
    if wrap is not None and wrap.kind == "clamp" and wrap.constant:
        span = min(SPAN, 0.25 * math.sqrt(wrap.constant / kl.sizes.latent_dim))
    grid = torch.linspace(-span, span, SWEEP, dtype=torch.float64)
    mean = kl.mean_at(level)
    seeds = max(1, min(NOISY_SEEDS, -(-400_000 // n))) if stochastic else 1
    values = _sweep(kl, mean, grid, seeds) / n
    mean_part = 0.5 * (mean**2) * weight  # of every latent; constant over the sweep
    values = values - values[SWEEP // 2]
    basis = torch.stack([0.5 * ((2.0 * grid).exp() - 1.0), -grid], 1)
    found = torch.linalg.lstsq(basis, values[:, None]).solution[:, 0]
    misfit = float((basis @ found - values).abs().max() / values.abs().max().clamp_min(1e-300))
    square, log = float(found[0]), float(found[1])
    tolerance = 1e-4 if kl.probe.dtype == torch.float64 else 2e-2
    error = math.sqrt(2.0 / (n * seeds)) if stochastic else 0.0
    shared = {"weight": weight, "wrap": wrap, "level": level, "curvatures": curvatures}
    if not math.isfinite(misfit) or float(values.abs().max()) <= 1e-9 * max(abs(weight), abs(mean_part), 1e-300):
        return Divergence("not_a_kl", square=0.0, log=0.0, **shared)  # type: ignore[arg-type]
    if misfit <= tolerance:
        close = max(abs(square - weight) - 4.0 * error * abs(weight), abs(log - weight)) <= 5e-3 * abs(weight)
        kind = ("monte_carlo" if stochastic else "exact") if close and weight > 0 else "not_a_kl"
        minimum = (1.0 if close else math.sqrt(log / square)) if square > 0 and log > 0 else None
        return Divergence(kind, square=square, log=log, minimum_std=minimum, error=error, **shared)  # type: ignore[arg-type]
    reading = _reading(grid, values, tolerance)
    minimum = _argmin(kl, mean, seeds)
    return Divergence("not_a_kl", minimum_std=minimum, reading=reading, error=error, **shared)  # type: ignore[arg-type]


def _reading(grid: Tensor, values: Tensor, tolerance: float) -> str | None:
    """The confusion whose KL has the shape of the sweep."""
    zero = torch.zeros_like(grid)
    for name, read in READINGS.items():
        terms = functional.kl_standard_normal(zero[:, None], read(grid)[:, None])[:, 0]
        terms = terms - terms[SWEEP // 2]
        weight = float((values * terms).sum() / terms.square().sum())
        if float((values - weight * terms).abs().max()) <= 10 * tolerance * float(values.abs().max()):
            return name
    return None


def _argmin(kl: KLProbe, mean: float, seeds: int) -> float | None:
    """Where a sweep of the standard deviation is least; `None` at an end, where there is no minimum."""
    values = []
    for log_s in WIDE_GRID:
        try:
            values.append(kl.at(mean, float(log_s), min(seeds, 8)))
        except ProbeError:
            values.append(math.inf)
    best = min(range(len(values)), key=lambda i: values[i] if math.isfinite(values[i]) else math.inf)
    if not 0 < best < len(values) - 1 or not all(map(math.isfinite, values[best - 1 : best + 2])):
        return None
    left, middle, right = values[best - 1 : best + 2]
    bend = left - 2.0 * middle + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return math.exp(float(WIDE_GRID[best]) + shift * float(WIDE_GRID[1] - WIDE_GRID[0]))


def _without_mean(kl: KLProbe, resolution: float, stochastic: bool) -> Divergence:
    """A loss that does not depend on the mean: no KL, or one of the standard deviation alone."""
    grid = torch.linspace(-SPAN, SPAN, SWEEP, dtype=torch.float64)
    values = _sweep(kl, 0.0, grid, 1)
    if float((values - values[0]).abs().max()) <= 8.0 * resolution:
        return Divergence("none", 0.0)
    return Divergence("not_a_kl", 0.0, minimum_std=_argmin(kl, 0.0, 8 if stochastic else 1))
