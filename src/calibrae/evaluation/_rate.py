"""Rate and distortion of several trained models: a curve, and which of them to take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import functional
from ..errors import ArgumentError
from ..functional import error_of_mean
from ._record import with_error

CURVE_POINTS = 200
CURVE_DECADES = 8.0  # of rho, below twice the largest variance


@dataclass(frozen=True)
class RatePoint:
    r"""One model on the rate-distortion plane, on examples that it was not trained on.

    Attributes:
        name: name of the point.
        axes: values of what was varied, by option name.
        beta: weight of the KL in training.
        sigma: root mean square sigma of the decoder; `None` without one.
        latent_dim: `d`.
        elbos: ELBO of each example at beta = 1, `[N]`, nats.
        kl_nats: the rate, mean KL, nats.
        reconstruction_nats: mean `-log p(x|z)`, nats: the distortion of data without a sigma.
        sse: the distortion, mean squared error at a sampled `z`, summed over the data dimensions; `None` where there are categories.
        active_units: latents in use.
    """

    name: str
    axes: dict[str, float]
    beta: float
    sigma: float | None
    latent_dim: int
    elbos: Tensor
    kl_nats: float
    reconstruction_nats: float
    sse: float | None
    active_units: int

    @property
    def elbo_nats(self) -> float:
        """Mean ELBO at beta = 1."""
        return float(self.elbos.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of `elbo_nats`, from its spread over examples."""
        return error_of_mean(self.elbos)

    @property
    def rho(self) -> float | None:
        r"""Squared error that one nat was worth, $2\sigma^2\beta$."""
        return None if self.sigma is None else 2.0 * self.sigma**2 * self.beta

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "name": self.name,
            **self.axes,
            "beta": self.beta,
            "sigma": self.sigma,
            "rho": self.rho,
            "latent_dim": self.latent_dim,
            "elbo_nats": self.elbo_nats,
            "elbo_standard_error": self.standard_error if len(self.elbos) > 1 else None,
            "kl_nats": self.kl_nats,
            "reconstruction_nats": self.reconstruction_nats,
            "sse": self.sse,
            "active_units": self.active_units,
            "n": len(self.elbos),
        }


@dataclass(frozen=True)
class Recommendation:
    """Point to take.

    Attributes:
        name: name of the point.
        beta: its weight of the KL.
        capacity: `C`, nats that its code holds: where a capacity schedule would end.
        latent_dim: how many latents it needs.
        reason: in plain words.
    """

    name: str
    beta: float
    capacity: float
    latent_dim: int
    reason: str


def linear_curve(spectrum: functional.Spectrum, latent_dim: int, most_nats: float) -> list[functional.LinearCode]:
    r"""Curve of the best linear models: $(\mathrm{KL}, \mathrm{SSE})$ for rho from $2\lambda_1$ down, up to a rate.

    Args:
        spectrum: spectrum of the training data.
        latent_dim: `d`; no more than the eigenvalues that are known.
        most_nats: rate at which the curve ends.

    Returns:
        Codes of rising rate. See `functional.linear_code`.
    """
    known = min(latent_dim, len(spectrum.eigenvalues))
    highest = math.log10(2.0 * float(spectrum.eigenvalues[0]))
    rhos = torch.logspace(highest, highest - CURVE_DECADES, CURVE_POINTS, dtype=torch.float64).tolist()
    codes = (functional.linear_code(spectrum.eigenvalues, spectrum.total_variance, rho, known) for rho in rhos)
    return [code for code in codes if code.kl <= most_nats]


def recommend(points: Sequence[RatePoint], spectrum: functional.Spectrum | None = None) -> Recommendation:
    r"""The cheapest code whose ELBO is as good as the best, as far as the examples can tell.

    The best point has the highest mean ELBO at beta = 1. Another is as good if the mean of the differences per example is at most
    one standard error of it (the rule of Breiman et al. 1984, on paired differences). Of those, the one with the fewest latents is
    taken, then the one with the lowest KL.

    Args:
        points: points on one split of one data set.
        spectrum: spectrum of the training data, to say how much a linear model would code; `None` for binary data.

    Raises:
        ArgumentError: if there are no points, or they were taken on different examples.

    References:
        Breiman, Friedman, Olshen & Stone 1984, *Classification and Regression Trees*, 3.4.3
    """
    if not points:
        raise ArgumentError("a recommendation needs points; got none.")
    if len({len(point.elbos) for point in points}) > 1:
        raise ArgumentError(
            f"points are compared example by example; got {sorted({len(point.elbos) for point in points})} examples. Take one split."
        )
    best = max(points, key=lambda point: point.elbo_nats)
    taken = min(
        (point for point in points if _is_as_good(point, best)),
        key=lambda point: (point.latent_dim, point.kl_nats, point.name),
    )
    needed = max(1, min(taken.active_units, taken.latent_dim))
    reason = " ".join(
        sentence
        for sentence in (
            _said_of_choice(points, best, taken),
            _said_of_code(taken, spectrum),
            *_said_of_ends(points, taken),
        )
        if sentence
    )
    return Recommendation(taken.name, taken.beta, taken.kl_nats, needed, reason)


def _difference(point: RatePoint, best: RatePoint) -> tuple[float, float]:
    """Compute how far a point is below the best, and the standard error of that."""
    differences = best.elbos - point.elbos
    return float(differences.mean()), error_of_mean(differences)


def _is_as_good(point: RatePoint, best: RatePoint) -> bool:
    below, error = _difference(point, best)
    return point is best or below <= error


def _said_of_choice(points: Sequence[RatePoint], best: RatePoint, taken: RatePoint) -> str:
    first = f"Of {len(points)} points the highest ELBO is {with_error(best.elbo_nats, best.standard_error)} nats, of {best.name}."
    if taken is best:
        others = [_difference(point, best) for point in points if point is not best]
        if not others:
            return first
        below, error = min(others)
        return f"{first} The next is {with_error(below, error)} nats lower on the same examples."
    below, error = _difference(taken, best)
    cheaper = "with fewer latents" if taken.latent_dim < best.latent_dim else "with a cheaper code"
    return f"{first} {taken.name} is as good, {with_error(below, error)} nats lower on the same examples, {cheaper}."


def _said_of_code(taken: RatePoint, spectrum: functional.Spectrum | None) -> str:
    used = f"Its code holds C = {taken.kl_nats:.1f} nats in {taken.active_units} of {taken.latent_dim} latents"
    if taken.active_units < taken.latent_dim:
        return f"{used}; the others are unused, so {max(1, taken.active_units)} would do."
    if spectrum is None or taken.rho is None:
        return f"{used}."
    linear = functional.linear_code(
        spectrum.eigenvalues, spectrum.total_variance, taken.rho, len(spectrum.eigenvalues)
    ).directions
    if linear <= taken.latent_dim:
        return f"{used}, and a linear model at this rho would use no more than {linear}."
    least = "at least " if linear == len(spectrum.eigenvalues) else ""
    return f"{used}, all in use. The data have {least}{linear} useful directions at this rho: try a larger latent size."


def _said_of_ends(points: Sequence[RatePoint], taken: RatePoint) -> list[str]:
    """Warnings that a swept axis ends where the choice lies."""
    found = []
    for axis, value in taken.axes.items():
        values = sorted({point.axes[axis] for point in points})
        if len(values) > 1 and value in (values[0], values[-1]):
            which, beyond = ("smallest", "smaller") if value == values[0] else ("largest", "larger")
            found.append(f"It has the {which} {axis} of the sweep: {beyond} ones may do better still.")
    return found
