"""Meaning of a beta, for a reader and for data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..data import Data
from ..errors import ArgumentError
from ..evaluation import training_spectrum
from ..functional import LinearCode, Spectrum, linear_code
from ..functional.conventions import Translation, find, total_variances, translate

CALIBRATED = ("learned", "optimal")


@dataclass(frozen=True, slots=True)
class BetaReport:
    """A translated beta.

    Attributes:
        translation: rho, sigma and the equivalents.
        budgets: most nats that the KL can reach, `V / rho`, on known data of this shape, or on the user's.
        total_variance: `V` of the user's data, on the range that the loss sees.
        linear: code of a linear model of the user's data.
        optimal_sigma: sigma of probabilistic PCA on the user's data, on the range that the loss sees.
        sentence: effect of the number, in a sentence.
    """

    translation: Translation
    budgets: dict[str, float]
    total_variance: float | None
    linear: LinearCode | None
    optimal_sigma: float | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        found = asdict(self)
        translation: dict[str, Any] = found.pop("translation")
        return translation | found


def explain_beta(
    value: float,
    convention: str,
    *,
    data_shape: Sequence[int] | None = None,
    latent_dim: int,
    data_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
    sigma: float | None = None,
    data: Data | None = None,
) -> BetaReport:
    """Translate a beta and say what it will do, on the user's data if they are given.

    Args:
        value: the number as written.
        convention: a name of `functional.conventions.catalogue()`.
        data_shape: shape of one example; by default that of `data`.
        latent_dim: `d`.
        data_range: range of the data that the loss sees.
        batch_size: `B`.
        sigma: standard deviation of the decoder beside a full NLL; with `data` and a calibrated sigma, that of a linear model at this beta is taken.
        data: prepared data.

    Raises:
        ArgumentError: if a number, a name or a shape is not usable.
    """
    if data is not None and data_shape is not None and tuple(data_shape) != data.spec.data_shape:
        raise ArgumentError(
            f"--data-shape must be that of the data, {data.spec.data_shape}; got {tuple(data_shape)}. Leave it out."
        )
    shape = tuple(data.spec.data_shape if data is not None else data_shape or ())
    if not shape:
        raise ArgumentError("the shape of an example is needed: pass --data-shape C,H,W, or --data PATH.")
    chosen = find(convention)
    low, high = data_range or chosen.range
    sizes: dict[str, Any] = {
        "data_shape": shape,
        "latent_dim": latent_dim,
        "data_range": data_range,
        "batch_size": batch_size,
    }
    if data is None:
        found = translate(value, convention, sigma=sigma, **sizes)
        known = {name: v * (high - low) ** 2 for name, (s, v) in total_variances().items() if s == shape}
        bounded = found.rho and chosen.wrap is None and chosen.sigma not in CALIBRATED
        budgets = {name: v / found.rho for name, v in known.items()} if bounded and found.rho else {}
        return BetaReport(found, budgets, None, None, None, _said(found, None, latent_dim, budgets))
    spectrum = training_spectrum(data, latent_dim)
    variance = spectrum.total_variance * (high - low) ** 2
    optimal = spectrum.ppca(latent_dim).sigma * (high - low)
    calibrated = chosen.sigma in CALIBRATED
    if sigma is None and calibrated:
        beta = translate(value, convention, **sizes).beta or 1.0
        sigma = (high - low) * _calibrated_sigma(spectrum, beta, latent_dim, data.spec.data_dim)
    found = translate(value, convention, sigma=sigma, **sizes)
    if data.spec.scale.startswith("columns"):
        found = replace(found, grey=None, kl_budget=None)
    linear = None
    if found.rho is not None and chosen.wrap is None:
        reachable = min(latent_dim, len(spectrum.eigenvalues))
        linear = linear_code(spectrum.eigenvalues * (high - low) ** 2, variance, found.rho, reachable)
    budgets = {data.source.name: variance / found.rho} if found.rho and chosen.wrap is None and not calibrated else {}
    return BetaReport(found, budgets, variance, linear, optimal, _said(found, linear, latent_dim, budgets))


def _calibrated_sigma(spectrum: Spectrum, beta: float, latent_dim: int, data_dim: int) -> float:
    """The sigma at which a linear model's own residuals have that sigma, on the data's scale: the optimum for this beta."""
    sigma = math.sqrt(spectrum.total_variance / data_dim)
    reachable = min(latent_dim, len(spectrum.eigenvalues))
    for _ in range(1000):
        code = linear_code(spectrum.eigenvalues, spectrum.total_variance, 2.0 * sigma**2 * beta, reachable)
        following = math.sqrt(code.sse / data_dim)
        if abs(following - sigma) <= 1e-12 * sigma:
            break
        sigma = following
    return sigma


def _said(found: Translation, linear: LinearCode | None, latent_dim: int, budgets: dict[str, float]) -> str:
    """Say what the number will do."""
    if find(found.convention).wrap is not None:
        return _sentence_of_wrap(found)
    most = max(budgets.values(), default=found.kl_budget)
    if linear is None and most is not None and most < 1.0:
        return f"One nat is worth a squared error of {found.rho:.4g}, more than there is to save: the latents will not be used."
    return _sentence(found, linear, latent_dim)


def _sentence(found: Translation, linear: LinearCode | None, latent_dim: int) -> str:
    if found.laplace_scale is not None:
        return f"One nat is worth an absolute error of {found.laplace_scale:.4g}; a Laplace decoder of that scale has the same optimum."
    if found.rho is None:
        if found.beta is None:
            return f"One nat weighs {found.ratio:.4g} units of the reconstruction, which has no scale of its own."
        if abs(found.beta - 1.0) < 1e-9:
            return "This is the ELBO: no weight but the likelihood's own."
        change = "less" if found.beta > 1 else "more"
        return f"A nat of KL costs {found.beta:.4g} nats of reconstruction: the latents carry {change} than under the ELBO."
    price = f"One nat is worth a squared error of {found.rho:.4g} (sigma {found.sigma:.4g} at beta 1)"
    if linear is not None:
        if linear.directions == 0:
            return f"{price}: no direction of these data varies that much, so a linear model codes nothing and the posterior collapses."
        return (
            f"{price}: a linear model codes {linear.directions} of {latent_dim} directions with {linear.kl:.1f} nats, and leaves a "
            f"squared error of {linear.sse:.4g}."
        )
    grey = found.grey or 0.0
    if grey > 100:
        return f"{price}, and only what changes a whole picture is worth coding: expect blurred means and few used latents."
    if grey > 40:
        return f"{price}: only the strongest variations are coded, the rest is averaged away."
    if grey > 5:
        return f"{price}, about what good models leave of pictures: both terms matter."
    return f"{price}, less than the noise of most data: nearly an autoencoder, sharp reconstructions and poor samples."


def _sentence_of_wrap(found: Translation) -> str:
    price = f" (rho {found.rho:.4g})" if found.rho is not None else ""
    if find(found.convention).wrap == "capacity":
        return f"The KL is held at the capacity C; {found.value:.4g} is the slope on either side of it{price}."
    return f"The KL is free up to its floor; above it {found.value:.4g} is its weight{price}."
