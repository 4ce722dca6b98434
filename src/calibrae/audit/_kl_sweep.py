"""Sweeps of the posterior's standard deviation, which must follow that of a KL of Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from .. import functional
from ._kl_curve import Curve
from ._kl_probe import KLProbe
from ._kl_term import Coefficients, KLWeight, Misread, NoFit, StandardKL, StdClamped, WrongFormula
from ._probe import Posterior, ProbeError
from ._tolerances import Tolerances

SWEEP = 13
MIDDLE = SWEEP // 2
SPAN, NARROW = 1.2, 0.3  # of log s, either side
FAR_OUT = (-2.0, -3.0, -4.0, -5.0, 2.0, 3.0)  # log s
WIDE_GRID = torch.linspace(-4.0, 4.0, 41, dtype=torch.float64)

MISREADINGS: dict[Posterior, dict[str, Callable[[Tensor], Tensor]]] = {
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
"""Log standard deviation that a confused loss works with, as a function of the true one, by declared parametrisation."""


@final
@dataclass(frozen=True)
class Fit:
    """Least-squares fit of `variance s^2 / 2 - log ln s` to a sweep.

    Attributes:
        variance: coefficient of `s^2 / 2`.
        log: coefficient of `-ln s`.
        misfit: largest difference, relative to the largest value.
        clamped: side of 1 on which the standard deviation has no effect: `above` or `below`.
    """

    variance: float
    log: float
    misfit: float
    clamped: str | None = None

    def is_kl(self, weight: float, noise: float) -> bool:
        """Tell whether both coefficients are the weight of the mean's part."""
        off = max(abs(self.variance / weight - 1.0), abs(self.log / weight - 1.0))
        return self.misfit <= Tolerances.sweep_misfit.value and off <= Tolerances.kl_coefficient.value + noise


def judge_sweep(kl: KLProbe, curve: Curve, weight: KLWeight) -> StandardKL | WrongFormula:
    """Fit a sweep of the standard deviation on both sides of 1, or on one, or find a known confusion, or nothing."""
    size, error = weight.value or 0.0, weight.error
    mean, grid = kl.mean_at(curve.level), torch.linspace(-1.0, 1.0, SWEEP, dtype=torch.float64) * _span(kl, curve)
    values = _sweep(kl, mean, grid) / kl.count
    wrong = WrongFormula(weight, NoFit(math.inf), least_mean=_least_mean(kl, curve, size))
    moved = float((values - values[MIDDLE]).abs().max())
    if not bool(torch.isfinite(values).all()):
        return replace(wrong, least_std=least_std(kl, mean))
    if moved <= Tolerances.no_variance.value * abs(size):
        return replace(wrong, formula=Coefficients(0.0, 0.0))
    sure = Tolerances.sure_digits.value * error
    fit = _best_fit(kl, mean, grid, values, size, sure)
    off = max(abs(fit.variance / size - 1.0) - sure, abs(fit.log / size - 1.0) - 0.1 * error)
    if fit.misfit <= Tolerances.sweep_misfit.value and off <= Tolerances.kl_coefficient.value and size > 0:
        defect = None if fit.clamped is None else StdClamped(fit.clamped)
        return StandardKL(weight, error > 0, wrong.least_mean, defect)
    confusion = _confusion(grid, values, kl.probe.posterior, Tolerances.misread_shape.value + sure)
    exact = Tolerances.exact_sweep.at(kl.probe.dtype) + (sure if kl.probe.dtype == torch.float64 else 0.0)
    if fit.misfit <= exact and (confusion is None or fit.misfit < Tolerances.exact_shape.value):
        least = math.sqrt(fit.log / fit.variance) if fit.variance > 0 and fit.log > 0 else None
        return replace(wrong, formula=Coefficients(fit.variance / size, fit.log / size), least_std=least)
    formula = NoFit(fit.misfit) if confusion is None else Misread(confusion)
    return replace(wrong, formula=formula, least_std=least_std(kl, mean))


def _span(kl: KLProbe, curve: Curve) -> float:
    """Range of log s either side of 0, within the levels on which the loss is linear in the KL."""
    if curve.transform is None or not curve.transform.limits_range:
        return SPAN
    return min(SPAN, 0.5 * math.sqrt(max(curve.room - curve.level, 1e-6) / kl.sizes.latent_dim))


def _sweep(kl: KLProbe, mean: float, grid: Tensor) -> Tensor:
    """Loss at every log standard deviation of a grid."""
    return torch.tensor([kl.at(mean, float(log_s)) for log_s in grid], dtype=torch.float64)


def _fit(grid: Tensor, values: Tensor, clamped: str | None = None) -> Fit:
    """Fit the two coefficients by least squares."""
    values = values - values[int(grid.abs().argmin())]
    basis = torch.stack([0.5 * ((2.0 * grid).exp() - 1.0), -grid], 1)
    solved = torch.linalg.lstsq(basis, values[:, None]).solution[:, 0]
    misfit = float((basis @ solved - values).abs().max() / values.abs().max().clamp_min(1e-300))
    return Fit(float(solved[0]), float(solved[1]), misfit, clamped)


def _best_fit(kl: KLProbe, mean: float, grid: Tensor, values: Tensor, weight: float, noise: float) -> Fit:
    """Fit the whole sweep; if that is no KL, a narrow one, or either side, on the other of which s is clamped."""
    whole = _fit(grid, values)
    if whole.is_kl(weight, noise):
        return whole
    narrow = torch.linspace(-NARROW, NARROW, SWEEP, dtype=torch.float64)
    inner = _sweep(kl, mean, narrow) / kl.count
    flat_below = abs(float(values[0] - values[1])) < abs(float(values[-1] - values[-2]))
    outside = "below" if flat_below else "above"
    for part, side in (
        (slice(None), outside),
        (slice(None, MIDDLE + 1), "above"),
        (slice(MIDDLE, None), "below"),
    ):
        fit = _fit(narrow[part], inner[part], side)
        if fit.is_kl(weight, noise):
            return fit
    return whole


def _confusion(grid: Tensor, values: Tensor, posterior: Posterior, tolerance: float) -> str | None:
    """Name the confusion whose KL has the shape of the sweep."""
    zero, values = torch.zeros_like(grid), values - values[MIDDLE]
    for name, misread in MISREADINGS[posterior].items():
        terms = functional.kl_standard_normal(zero[:, None], misread(grid)[:, None])[:, 0]
        terms = terms - terms[MIDDLE]
        weight = float((values * terms).sum() / terms.square().sum())
        if float((values - weight * terms).abs().max()) <= tolerance * float(values.abs().max()):
            return name
    return None


def _least_mean(kl: KLProbe, curve: Curve, weight: float) -> float:
    """Mean at which the term is least: from the difference between the two signs of the mean, over seeds."""
    mean = kl.mean_at(curve.level or 1.0)
    scale = 2.0 * mean * weight * kl.count
    rises = torch.tensor([kl.one(mean, 0.0, s) - kl.one(-mean, 0.0, s) for s in range(kl.seeds)], dtype=torch.float64)
    least = -float(rises.mean()) / scale
    noise = float(rises.std()) / math.sqrt(kl.seeds) / abs(scale) if kl.seeds > 1 else 0.0
    tolerance = Tolerances.off_centre_noise.value * noise + Tolerances.off_centre.at(kl.probe.dtype)
    return least if abs(least) > tolerance else 0.0


def least_std(kl: KLProbe, mean: float) -> float | None:
    """Standard deviation at which a sweep is least; `None` at an end of it, where there is no minimum."""
    grid = WIDE_GRID
    for _ in range(3):
        values = [_or_infinite(kl, mean, float(log_s)) for log_s in grid]
        best = min(range(len(values)), key=lambda i: values[i] if math.isfinite(values[i]) else math.inf)
        if not 0 < best < len(values) - 1 or not all(map(math.isfinite, values[best - 1 : best + 2])):
            return None
        left, middle, right = values[best - 1 : best + 2]
        if left - 2.0 * middle + right <= Tolerances.flat_minimum.value * abs(middle):
            return None
        grid = torch.linspace(float(grid[best - 1]), float(grid[best + 1]), 9, dtype=torch.float64)
    vertex = 0.5 * (left - right) / (left - 2.0 * middle + right)
    return math.exp(float(grid[4]) + vertex * 4.0 * float(grid[1] - grid[0]))


def _or_infinite(kl: KLProbe, mean: float, log_s: float) -> float:
    """Loss at a standard deviation, infinite where it raises."""
    try:
        return kl.at(mean, log_s, min(kl.seeds, 8))
    except ProbeError:
        return math.inf


def clamp_far_out(kl: KLProbe, curve: Curve, term: StandardKL) -> StdClamped | None:
    """Find the side on which a fitted KL is not followed, for standard deviations from e^-5 to e^3."""
    weight = term.weight
    if weight.value is None or (curve.transform is not None and curve.transform.limits_range):
        return None
    mean = kl.mean_at(curve.level)
    start = kl.at(mean)
    tolerance = Tolerances.far_out.value + Tolerances.sure_digits.value * weight.error
    for log_s in FAR_OUT:
        expected = weight.value * kl.count * (0.5 * (math.exp(2.0 * log_s) - 1.0) - log_s)
        try:
            rise = kl.at(mean, log_s) - start
        except ProbeError:
            continue
        if abs(rise - expected) > tolerance * expected:
            return StdClamped("below" if log_s < 0 else "above")
    return None


def has_no_variance(kl: KLProbe) -> bool:
    """Tell whether a sweep at mean 0 leaves the loss as it is."""
    values = _sweep(kl, 0.0, torch.linspace(-SPAN, SPAN, SWEEP, dtype=torch.float64))
    rounding = Tolerances.constant_loss.at(kl.probe.dtype) * float(values.abs().max())
    return float((values - values[0]).abs().max()) <= rounding
