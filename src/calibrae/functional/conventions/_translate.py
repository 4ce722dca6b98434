"""A number of one convention in all the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import ArgumentError
from ._catalogue import DENSITIES, SIZES, SQUARED, Convention, Sizes, catalogue, find

GREY_LEVELS = 255.0


@dataclass(frozen=True, slots=True)
class Translation:
    """Meaning of a number.

    Attributes:
        value: the number.
        convention: in which it is written.
        ratio: weight of the summed KL beside the plain reconstruction term.
        rho: squared error that one nat is worth, in squared units of the data; `None` where there is no fixed squared error.
        sigma: the Gaussian's standard deviation at beta = 1, in units of the data.
        grey: sigma in 8-bit grey levels.
        beta: weight of the summed KL beside a full NLL: outright for densities, at `nll_sigma` for squared errors.
        nll_sigma: the sigma of the NLL that `beta` and the NLL conventions stand beside.
        laplace_scale: Laplace scale of an absolute error, at beta = 1.
        equivalents: number that gives this balance in every other convention that can express it.
        omitted: conventions left out, and why.
        kl_budget: most nats that the KL can reach, for data spread as widely as their range allows: `V / rho`.
        data_range: range of the data that the loss sees.
    """

    value: float
    convention: str
    ratio: float
    rho: float | None
    sigma: float | None
    grey: float | None
    beta: float | None
    nll_sigma: float | None
    laplace_scale: float | None
    equivalents: Mapping[str, float]
    omitted: Mapping[str, str]
    kl_budget: float | None
    data_range: tuple[float, float]


def translate(
    value: float,
    convention: str,
    *,
    data_shape: Sequence[int],
    latent_dim: int,
    data_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
    sigma: float | None = None,
) -> Translation:
    r"""A number of one convention in all the others, and what it implies.

    For a squared error $\rho = b/a$ and $\sigma = \sqrt{\rho/2}$ at beta = 1. NLL conventions pair a beta with a sigma,
    $\rho = 2\sigma^2\beta$: theirs is `sigma`, or 1.

    Args:
        value: the number as written in the paper or repository.
        convention: a name of `catalogue()`.
        data_shape: shape of one example.
        latent_dim: `d`.
        data_range: range of the data that the loss sees; by default the convention's.
        batch_size: `B`, where the convention depends on it.
        sigma: standard deviation of the decoder beside a full NLL, in units of the data.

    Returns:
        The translation; sigma in units of the data as the loss sees them.

    Raises:
        ArgumentError: if a name is unknown, a number is not positive, or a size is missing.
    """
    chosen = find(convention)
    sizes = sizes_of(math.prod(data_shape), latent_dim, batch_size)
    require_positive(value=value, sigma=sigma, **sizes)
    low, high = data_range or chosen.range
    if not low < high:
        raise ArgumentError(f"`data_range` must be lo < hi; got {low:g}, {high:g}.")
    ratio = ratio_of(chosen, value, sizes)
    nll_sigma = _nll_sigma(chosen, sigma)
    rho = rho_of(chosen, ratio, nll_sigma)
    implied = None if rho is None else math.sqrt(rho / 2.0)
    beta = ratio if chosen.term in ("nll", *DENSITIES) else (rho / (2.0 * nll_sigma**2) if rho and nll_sigma else None)
    laplace = ratio if chosen.term == "sae" else None
    equivalents, omitted = _equivalents(chosen, ratio, rho, beta, sizes)
    widest = math.prod(data_shape) * (high - low) ** 2 / 4.0
    return Translation(
        value=value,
        convention=convention,
        ratio=ratio,
        rho=rho,
        sigma=implied,
        grey=None if implied is None else implied / (high - low) * GREY_LEVELS,
        beta=beta,
        nll_sigma=nll_sigma,
        laplace_scale=laplace,
        equivalents=equivalents,
        omitted=omitted,
        data_range=(float(low), float(high)),
        kl_budget=None if rho is None or chosen.wrap is not None else widest / rho,
    )


def sizes_of(data_dim: int, latent_dim: int, batch_size: int | None) -> dict[str, float]:
    sizes = {"D": float(data_dim), "d": float(latent_dim)}
    return sizes if batch_size is None else sizes | {"B": float(batch_size)}


def require_positive(**numbers: float | None) -> None:
    wrong = {name: n for name, n in numbers.items() if n is not None and not (n > 0 and math.isfinite(n))}
    if wrong:
        came = ", ".join(f"{name} {n:g}" for name, n in wrong.items())
        raise ArgumentError(f"a beta and the sizes that it depends on must be positive numbers; got {came}.")


def ratio_of(chosen: Convention, value: float, sizes: Sizes) -> float:
    known = {name: chosen.typical[name] for name in ("T",) if name in chosen.typical} | dict(sizes)
    lacking = chosen.missing(known)
    if lacking is not None:
        raise ArgumentError(
            f"the beta convention `{chosen.name}` ({chosen.formula}) depends on {SIZES[lacking]}; got none. Pass it"
            f"{' with --batch-size' if lacking == 'B' else ''}."
        )
    return chosen.ratio(value, known)


def _nll_sigma(chosen: Convention, sigma: float | None) -> float | None:
    """The sigma beside a full NLL: the user's, the convention's own, or 1; `None` where it follows from the residuals."""
    if chosen.term in ("sae", "spectral", *DENSITIES):
        return None
    if isinstance(chosen.sigma, float):
        return chosen.sigma
    if sigma is not None:
        return sigma
    if chosen.sigma in ("learned", "optimal", "data"):
        return None
    return 1.0


def rho_of(chosen: Convention, ratio: float, nll_sigma: float | None) -> float | None:
    if chosen.term in SQUARED:
        return ratio * (2.0 / (chosen.alpha or 1.0) if chosen.term == "log-cosh" else 1.0)
    if chosen.term == "nll" and nll_sigma is not None:
        return 2.0 * nll_sigma**2 * ratio
    return None


def _equivalents(
    chosen: Convention, ratio: float, rho: float | None, beta: float | None, sizes: Sizes
) -> tuple[dict[str, float], dict[str, str]]:
    found, omitted = {}, {}
    for name, other in catalogue().items():
        known = {name: other.typical[name] for name in ("T",) if name in other.typical} | dict(sizes)
        lacking = other.missing(known)
        theirs = _ratio_there(chosen, other, ratio, rho, beta)
        if theirs is None:
            omitted[name] = (
                "its sigma follows from the data or the residuals"
                if other.term == "nll" and other.sigma != "given" and chosen.term in ("nll", *SQUARED)
                else f"its {other.term} term has no common scale with {chosen.term}"
            )
        elif lacking is not None:
            omitted[name] = f"it depends on {SIZES[lacking]}"
        else:
            found[name] = other.value(theirs, known)
    return found, omitted


def _ratio_there(
    here: Convention, there: Convention, ratio: float, rho: float | None, beta: float | None
) -> float | None:
    """This balance as `b / a` beside another convention's term; `None` where the two share no scale."""
    if there.term == "nll":
        if isinstance(there.sigma, float):
            return None if rho is None else rho / (2.0 * there.sigma**2)
        if there.sigma == "given":
            return beta if here.term in ("nll", *SQUARED) and (rho is not None or here.sigma == "given") else None
        same = there.sigma == here.sigma or {there.sigma, here.sigma} == {"learned", "optimal"}
        return beta if here.term == "nll" and same else None
    if there.term in SQUARED:
        return None if rho is None else rho / (2.0 / (there.alpha or 1.0) if there.term == "log-cosh" else 1.0)
    if there.term in DENSITIES:
        return ratio if here.term in DENSITIES else None
    return ratio if there.term == here.term else None
