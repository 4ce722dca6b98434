"""What the KL term is, and its weight: the slope along the mean, a sweep of the standard deviation, and random posteriors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .. import functional
from ._kl_probe import KLProbe
from ._prior import Prior
from ._probe import Posterior, ProbeError
from ._wrap import Curve, Wrap, find_constant, find_curve, find_scope

SWEEP = 13
SPAN, NARROW = 1.2, 0.3  # of log s, either side
CLOSE = 5e-3  # of the three coefficients of a KL
MISFIT = 1e-2
NOISY_SEEDS, FEWEST_SEEDS = 64, 8
CALLS, SECONDS = 80.0, 40.0  # of a sampled loss for each seed, and what they may take together
FAR_OUT = (-2.0, -3.0, -4.0, -5.0, 2.0, 3.0)  # log s
LEFT = 0.02  # relative difference from the fitted KL there
NUMBERS_PER_SWEEP = 400_000
WIDE_GRID = torch.linspace(-4.0, 4.0, 41, dtype=torch.float64)
CANCELS = -0.3  # a departure below which means cancel one another: the KL of an average, not an average of KLs
SEEN = 5e-3  # relative difference from a KL at random posteriors

READINGS: dict[Posterior, dict[str, Callable[[Tensor], Tensor]]] = {
    "logvar": {
        "the log-variance is read as a log standard deviation": lambda log_s: 2.0 * log_s,
        "a log standard deviation is read as a log-variance": lambda log_s: 0.5 * log_s,
        "a standard deviation is read as a log-variance": lambda log_s: 0.5 * log_s.exp(),
        "a variance is read as a log-variance": lambda log_s: 0.5 * (2.0 * log_s).exp(),
    },
    "log_std": {
        "the log standard deviation is read as a log-variance": lambda log_s: 0.5 * log_s,
        "a log-variance is read as a log standard deviation": lambda log_s: 2.0 * log_s,
    },
    "std": {
        "the standard deviation is read as a log-variance": lambda log_s: 0.5 * log_s.exp(),
        "the standard deviation is read as a log standard deviation": torch.exp,
        "the standard deviation is read as a variance": lambda log_s: 0.5 * log_s,
        "a variance is read as a standard deviation": lambda log_s: 2.0 * log_s,
    },
    "var": {
        "the variance is read as a standard deviation": lambda log_s: 2.0 * log_s,
        "the variance is read as a log-variance": lambda log_s: 0.5 * (2.0 * log_s).exp(),
        "the variance is read as a log standard deviation": lambda log_s: (2.0 * log_s).exp(),
    },
}
"""What the loss takes the log standard deviation for, from the true one, by what it is given."""


@dataclass(frozen=True)
class Divergence:
    """What was found.

    Attributes:
        kind: `exact`, `monte_carlo`, `not_a_kl` or `none`.
        weight: coefficient, in the scalar, of each example's KL, from the mean's part; `None` if it changes with the KL.
        square: coefficient of the posterior's variance in place of `weight`, where the loss has one.
        log: coefficient of minus the log standard deviation.
        minimum_std: at which standard deviation the term is least; `None` if nowhere.
        minimum_mean: at which mean.
        wrap: what is done to it.
        level: nats at which it was measured.
        error: relative standard error of the weights of the variance, for a sampled KL.
        reading: a confusion of log-variance, log standard deviation and standard deviation that fits exactly.
        misfit: of the sweep, relative.
        flat: the side of 1 on which the standard deviation has no effect: `above` or `below`.
        slopes: weight of the mean's part at each level.
        uneven: what does not count alike: `examples` or `latents`; with `missing` appended where some do not count at all.
        departs: relative difference from the KL at random posteriors, signed.
        coupled: whether that difference comes from examples acting on one another.
        prior: the one that it is a divergence from, where that is not N(0, I) alone.
        bound: whether it looks like an importance-weighted bound.
        undecided: whether it is a sampled term of which no more can be said.
    """

    kind: str
    weight: float | None
    square: float | None = None
    log: float | None = None
    minimum_std: float | None = None
    minimum_mean: float = 0.0
    wrap: Wrap | None = None
    level: float = 0.0
    error: float = 0.0
    reading: str | None = None
    misfit: float = 0.0
    flat: str | None = None
    slopes: tuple[float, ...] = field(default=())
    uneven: str | None = None
    departs: float = 0.0
    coupled: bool = False
    prior: Prior | None = None
    bound: bool = False
    undecided: bool = False

    def rescaled(self, factor: float) -> Divergence:
        """The same with all weights multiplied."""
        return replace(
            self,
            weight=None if self.weight is None else self.weight * factor,
            square=None if self.square is None else self.square * factor,
            log=None if self.log is None else self.log * factor,
            slopes=tuple(c * factor for c in self.slopes),
        )


def find_divergence(kl: KLProbe, sampled: bool) -> Divergence:
    """Classify the term.

    Args:
        kl: the loss as a function of the posterior.
        sampled: whether its part of the loss varies from seed to seed.
    """
    if sampled:
        affordable = int(SECONDS / (CALLS * kl.seconds_of_a_call()))
        kl.seeds = max(FEWEST_SEEDS, min(NOISY_SEEDS, -(-NUMBERS_PER_SWEEP // kl.count), affordable))
    curve = find_curve(kl)
    weight = curve.weight
    if not any(curve.slopes):
        return _without_mean(kl, curve)
    if weight is None:
        return _not_linear(kl, curve)
    constant = find_constant(kl, curve)
    if curve.wrap is not None and constant is not None:
        curve = replace(curve, wrap=replace(curve.wrap, constant=constant, scope=find_scope(kl, curve, constant)))
    found = _swept(kl, curve, weight, sampled)
    if (
        found.kind == "not_a_kl"
        and curve.wrap is not None
        and curve.wrap.kind == "other"
        and _is_function_of_kl(kl, curve)
    ):
        found = replace(found, kind="exact", minimum_std=1.0, reading=None)
    if found.kind in ("exact", "monte_carlo") and found.flat is None:
        found = replace(found, flat=_clamped_far_out(kl, curve, found))
        return found if found.flat is not None else _at_random(kl, curve, found)
    if found.kind == "not_a_kl" and weight > 0 and found.reading is None:
        return replace(found, coupled=_is_coupled(kl, _random_posterior(kl, 4.0 * curve.level, seed=1)))
    return found


def _not_linear(kl: KLProbe, curve: Curve) -> Divergence:
    """A term whose slope settles nowhere: perhaps a function of the KL."""
    if _is_function_of_kl(kl, curve):
        return Divergence("exact", None, minimum_std=1.0, wrap=curve.wrap, level=1.0, slopes=curve.slopes)
    coupled = _is_coupled(kl, _random_posterior(kl, 0.0, seed=1))
    return Divergence("not_a_kl", None, wrap=curve.wrap, level=1.0, slopes=curve.slopes, coupled=coupled)


def _is_function_of_kl(kl: KLProbe, curve: Curve) -> bool:
    """Whether the same KL made of means or of standard deviations gives the same loss."""
    size = max(abs(kl.at(kl.mean_at(v)) - kl.at(0.0)) for v in (1.0, 4.0))
    for level in (1.0, 4.0, max(1.0, min(curve.level, 100.0))):
        log_s = _log_std_at(level / kl.sizes.latent_dim)
        if abs(kl.at(kl.mean_at(level)) - kl.at(0.0, log_s)) > 1e-4 * size:
            return False
    return size > 0


def _log_std_at(nats: float) -> float:
    """The negative log standard deviation at which a latent of mean 0 has so many nats."""
    low, high = -60.0, 0.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        if 0.5 * (math.exp(2.0 * middle) - 1.0) - middle > nats:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _sweep(kl: KLProbe, mean: float, grid: Tensor) -> Tensor:
    return torch.tensor([kl.at(mean, float(log_s)) for log_s in grid], dtype=torch.float64)


def _fit(grid: Tensor, values: Tensor) -> tuple[float, float, float]:
    """Coefficients of `s^2 / 2` and of `-ln s`, and the largest relative misfit."""
    origin = int(grid.abs().argmin())
    values = values - values[origin]
    basis = torch.stack([0.5 * ((2.0 * grid).exp() - 1.0), -grid], 1)
    found = torch.linalg.lstsq(basis, values[:, None]).solution[:, 0]
    misfit = float((basis @ found - values).abs().max() / values.abs().max().clamp_min(1e-300))
    return float(found[0]), float(found[1]), misfit


def _swept(kl: KLProbe, curve: Curve, weight: float, sampled: bool) -> Divergence:
    """Fit `square s^2/2 - log ln s` to a sweep of s, on both sides of 1 or on one, or a known confusion, or nothing."""
    span = SPAN
    if curve.wrap is not None and curve.wrap.kind in ("clamp", "other"):
        span = min(SPAN, 0.5 * math.sqrt(max(curve.room - curve.level, 1e-6) / kl.sizes.latent_dim))
    mean = kl.mean_at(curve.level)
    grid = torch.linspace(-span, span, SWEEP, dtype=torch.float64)
    values = _sweep(kl, mean, grid) / kl.count
    error = math.sqrt(2.0 / (kl.count * kl.seeds)) if sampled else 0.0
    shared = Divergence(
        "not_a_kl", weight, wrap=curve.wrap, level=curve.level, slopes=curve.slopes, error=error,
        minimum_mean=_minimum_mean(kl, curve, weight),
    )  # fmt: skip
    moved = float((values - values[SWEEP // 2]).abs().max())
    if not bool(torch.isfinite(values).all()):
        return replace(shared, misfit=math.inf, minimum_std=_argmin(kl, mean))
    if moved <= 1e-7 * abs(weight):
        return replace(shared, square=0.0, log=0.0)
    best = _best_fit(kl, mean, grid, values, weight, 4.0 * error)
    square, log, misfit, flat = best
    close = max(abs(square / weight - 1.0) - 4.0 * error, abs(log / weight - 1.0) - 0.1 * error) <= CLOSE
    if misfit <= MISFIT and close and weight > 0:
        kind = "monte_carlo" if sampled else "exact"
        return replace(shared, kind=kind, square=square, log=log, misfit=misfit, minimum_std=1.0, flat=flat)
    reading = _reading(grid, values, kl.probe.posterior, 1e-3 + 4.0 * error)
    tight = 1e-3 + 4.0 * error if kl.probe.dtype == torch.float64 else MISFIT
    if misfit <= tight and (reading is None or misfit < 1e-6):
        minimum = math.sqrt(log / square) if square > 0 and log > 0 else None
        return replace(shared, square=square, log=log, misfit=misfit, minimum_std=minimum)
    return replace(shared, misfit=misfit, reading=reading, minimum_std=_argmin(kl, mean))


def _clamped_far_out(kl: KLProbe, curve: Curve, found: Divergence) -> str | None:
    """The side on which a fitted KL is left for standard deviations from e^-5 to e^3."""
    if found.weight is None or (curve.wrap is not None and curve.wrap.kind in ("clamp", "other")):
        return None
    mean = kl.mean_at(curve.level)
    start = kl.at(mean)
    for log_s in FAR_OUT:
        expected = found.weight * kl.count * (0.5 * (math.exp(2.0 * log_s) - 1.0) - log_s)
        try:
            rise = kl.at(mean, log_s) - start
        except ProbeError:
            continue
        if abs(rise - expected) > (LEFT + 4.0 * found.error) * expected:
            return "below" if log_s < 0 else "above"
    return None


def _best_fit(
    kl: KLProbe, mean: float, grid: Tensor, values: Tensor, weight: float, noise: float
) -> tuple[float, float, float, str | None]:
    """Of the whole sweep; if that is no KL, of a narrow one, or of either side, on the other of which s is clamped."""
    middle = SWEEP // 2
    whole = _fit(grid, values)

    def is_kl(fit: tuple[float, float, float]) -> bool:
        return fit[2] <= MISFIT and max(abs(fit[0] / weight - 1.0), abs(fit[1] / weight - 1.0)) <= CLOSE + noise

    if is_kl(whole):
        return *whole, None
    narrow = torch.linspace(-NARROW, NARROW, SWEEP, dtype=torch.float64)
    inner = _sweep(kl, mean, narrow) / kl.count
    for part, side in ((slice(None), None), (slice(None, middle + 1), "above"), (slice(middle, None), "below")):
        found = _fit(narrow[part], inner[part])
        if is_kl(found):
            at_low = abs(float(values[0] - values[1])) < abs(float(values[-1] - values[-2]))
            return *found, side or ("below" if at_low else "above")
    return *whole, None


def _reading(grid: Tensor, values: Tensor, posterior: Posterior, tolerance: float) -> str | None:
    """The confusion whose KL has the shape of the sweep."""
    zero, values = torch.zeros_like(grid), values - values[SWEEP // 2]
    for name, read in READINGS[posterior].items():
        terms = functional.kl_standard_normal(zero[:, None], read(grid)[:, None])[:, 0]
        terms = terms - terms[SWEEP // 2]
        weight = float((values * terms).sum() / terms.square().sum())
        if float((values - weight * terms).abs().max()) <= tolerance * float(values.abs().max()):
            return name
    return None


def _minimum_mean(kl: KLProbe, curve: Curve, weight: float) -> float:
    """At which mean the term is least: the difference between the two signs of the mean, over seeds."""
    mean = kl.mean_at(curve.level or 1.0)
    rises = torch.tensor([kl.one(mean, 0.0, s) - kl.one(-mean, 0.0, s) for s in range(kl.seeds)], dtype=torch.float64)
    found = -float(rises.mean()) / (2.0 * mean * weight * kl.count)
    noise = float(rises.std()) / math.sqrt(kl.seeds) / abs(2.0 * mean * weight * kl.count) if kl.seeds > 1 else 0.0
    return found if abs(found) > 5.0 * noise + (1e-4 if kl.probe.dtype == torch.float64 else 1e-2) else 0.0


def _argmin(kl: KLProbe, mean: float) -> float | None:
    """Where a sweep of the standard deviation is least; `None` at an end, where there is no minimum."""
    grid, best = WIDE_GRID, 0
    for _ in range(3):
        values = []
        for log_s in grid:
            try:
                values.append(kl.at(mean, float(log_s), min(kl.seeds, 8)))
            except ProbeError:
                values.append(math.inf)
        best = min(range(len(values)), key=lambda i: values[i] if math.isfinite(values[i]) else math.inf)
        if not 0 < best < len(values) - 1 or not all(map(math.isfinite, values[best - 1 : best + 2])):
            return None
        left, middle, right = values[best - 1 : best + 2]
        if left - 2.0 * middle + right <= 1e-9 * abs(middle):
            return None
        grid = torch.linspace(float(grid[best - 1]), float(grid[best + 1]), 9, dtype=torch.float64)
    return math.exp(
        float(grid[4]) + 0.5 * (left - right) / (left - 2.0 * middle + right) * 4.0 * float(grid[1] - grid[0])
    )


def _without_mean(kl: KLProbe, curve: Curve) -> Divergence:
    """A loss that does not depend on the mean: no KL, or one of the standard deviation alone."""
    grid = torch.linspace(-SPAN, SPAN, SWEEP, dtype=torch.float64)
    values = _sweep(kl, 0.0, grid)
    rounding = {torch.float64: 1e-13, torch.float32: 1e-5}[kl.probe.dtype] * float(values.abs().max())
    if float((values - values[0]).abs().max()) <= rounding:
        return Divergence("none", 0.0, slopes=curve.slopes)
    return Divergence("not_a_kl", 0.0, minimum_std=_argmin(kl, 0.0), slopes=curve.slopes)


def _random_posterior(kl: KLProbe, level: float, seed: int) -> tuple[Tensor, Tensor]:
    """Means of either sign well beyond a level, and standard deviations about 1, different everywhere."""
    generator = torch.Generator().manual_seed(seed)
    shape = (kl.sizes.batch_size, kl.sizes.latent_dim)
    signs = torch.where(torch.rand(shape, generator=generator, dtype=torch.float64) < 0.5, -1.0, 1.0)
    mu = signs * kl.mean_at(max(level, 0.5 * kl.sizes.latent_dim))
    mu = mu * (0.8 + 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64))
    return mu, 0.5 * (torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5)


def _departure(kl: KLProbe, weight: float, base: tuple[Tensor, Tensor], point: tuple[Tensor, Tensor]) -> float:
    """Difference of the loss between two posteriors, less that of `weight` times the KL; relative to the latter."""
    expected = weight * float((functional.kl_standard_normal(*point) - functional.kl_standard_normal(*base)).sum())
    return (kl.at(*point) - kl.at(*base) - expected) / max(abs(expected), 1e-300)


def _at_random(kl: KLProbe, curve: Curve, found: Divergence) -> Divergence:
    """Compare with the KL at posteriors that differ from example to example and from latent to latent."""
    weight = found.weight
    if weight is None or found.minimum_mean or (curve.wrap is not None and curve.wrap.kind in ("clamp", "other")):
        return found
    level = 4.0 * curve.level if curve.wrap is not None else 0.0
    tolerance = (SEEN if kl.probe.dtype == torch.float64 else 0.05) + 8.0 * found.error
    uneven = _uneven(kl, weight, level, tolerance)
    if uneven is not None:
        return replace(found, uneven=uneven)
    base, further = _random_posterior(kl, level, seed=1), 4.0 * max(level, 0.5 * kl.sizes.latent_dim)
    departures = [_departure(kl, weight, base, _random_posterior(kl, further, s)) for s in (2, 3)]
    departs = max(departures, key=abs)
    if abs(departs) <= tolerance:
        return found
    return replace(found, departs=departs, coupled=departs > CANCELS and _is_coupled(kl, base))


def _uneven(kl: KLProbe, weight: float, level: float, tolerance: float) -> str | None:
    """Whether one half of the examples, or of the latents, counts for more than the other."""
    mu = kl.full(kl.mean_at(max(level, 0.5 * kl.sizes.latent_dim)))
    half_examples, half_latents = torch.zeros_like(mu), torch.zeros_like(mu)
    half_examples[: len(mu) // 2] = 1.0
    half_latents[:, : mu.shape[1] // 2] = 1.0
    for name, mask, size in (("examples", half_examples, len(mu)), ("latents", half_latents, mu.shape[1])):
        if size < 2:
            continue
        shares = []
        for part in (mask, 1.0 - mask):
            delta = 0.1 * mu * part
            bent = sum(w * kl.one(mu + t * delta) for t, w in ((-1.0, 1.0), (0.0, -2.0), (1.0, 1.0)))
            shares.append(bent / (weight * float(delta.square().sum())))
        if abs(shares[0] - shares[1]) > 10.0 * tolerance:
            return f"{name} missing" if min(map(abs, shares)) < tolerance else name
    return None


def is_coupled(kl: KLProbe) -> bool:
    """Whether examples act on one another's terms, at a random posterior."""
    return _is_coupled(kl, _random_posterior(kl, 0.0, seed=1))


def _is_coupled(kl: KLProbe, base: tuple[Tensor, Tensor]) -> bool:
    """Whether a change of one example's posterior matters more or less when another's changes too."""
    if kl.sizes.batch_size < 2:
        return False
    mu, log_std = base
    first, second = mu.clone(), mu.clone()
    first[0] *= 1.5
    second[1] *= 1.5
    both = first.clone()
    both[1] = second[1]
    corners = [kl.at(point, log_std) for point in (mu, first, second, both)]
    jointly = corners[3] - corners[2] - corners[1] + corners[0]
    return abs(jointly) > 1e-6 * max(abs(corners[1] - corners[0]), abs(corners[2] - corners[0]))
