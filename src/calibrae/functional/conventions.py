r"""What a beta means: other people's loss scales, and ours.

Write any loss per example as $a R + b\,\mathrm{KL}$ with a reconstruction term $R$ and the KL summed over the latents. Only
$b/a$ moves the optimum: for a squared error it is $\rho = 2\sigma^2\beta$, the squared error that the model accepts to save
one nat; for a density (Gaussian NLL, Bernoulli, categorical) it is beta itself; for an absolute error the Laplace scale at
beta = 1.

The catalogue is data (`conventions.toml`), read when it is first asked for.

Example:
    >>> from calibrae.functional import conventions
    >>> found = conventions.translate(0.00025, "mse", data_shape=(3, 64, 64), latent_dim=128)
    >>> round(found.rho, 3), round(found.sigma, 3), round(found.equivalents["half-sse"], 3)
    (3.072, 1.239, 1.536)
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

from ..errors import ArgumentError

SQUARED = ("sse", "log-cosh")
DENSITIES = ("bce", "ce")
SIZES = {
    "D": "the number of data dimensions",
    "d": "the number of latents",
    "B": "the batch size",
    "T": "the number of frames",
}
COMMON = ("sse", "half-sse", "mse", "mse-mean-kl", "nll-mean-kl", "mean-nll", "mean-nll-mean-kl", "bce", "mean-bce", "mean-bce-mean-kl")  # fmt: skip
GREY_LEVELS = 255.0

Sizes: TypeAlias = Mapping[str, int | float]


@dataclass(frozen=True, slots=True)
class Convention:
    """One way of writing the balance between reconstruction and KL.

    Attributes:
        name: what a user types.
        row: in the survey of real code; 0 for a general form.
        title: in words.
        formula: the loss per example; `SSE`, `NLL`, `KL`, ... are sums over an example.
        symbol: what the number is called there.
        term: the reconstruction: `nll`, `sse`, `sae`, `bce`, `ce`, `log-cosh` or `spectral`.
        default: the number as it is found.
        who: projects and papers that use it.
        worked: what it means there.
        sigma: of an `nll`: `given`, `learned`, `optimal`, `data` or a number.
        a: exponents of `value`, `D`, `d`, `B`, `T` in the weight of the reconstruction, and a constant `factor`.
        b: the same for the KL.
        range: of the data that it was found with.
        typical: sizes that it was found with.
        same_as: the convention whose formula it shares.
        wrap: `capacity` or `free-bits`, if the KL is not taken as it is.
        alpha: sharpness of a `log-cosh`.
    """

    name: str
    row: int
    title: str
    formula: str
    symbol: str
    term: str
    default: float
    who: str
    worked: str
    sigma: str | float | None = None
    a: Mapping[str, float] = field(default_factory=dict)
    b: Mapping[str, float] = field(default_factory=dict)
    range: tuple[float, float] = (0.0, 1.0)
    typical: Mapping[str, float] = field(default_factory=dict)
    same_as: str | None = None
    wrap: str | None = None
    alpha: float | None = None

    def ratio(self, value: float, sizes: Sizes) -> float:
        """`b / a`: the weight of the summed KL beside the plain reconstruction term."""
        return float(value**self.power * self._scale(sizes))

    def value(self, ratio: float, sizes: Sizes) -> float:
        """The number that gives a ratio: the inverse of `ratio`."""
        return float((ratio / self._scale(sizes)) ** (1.0 / self.power))

    @property
    def power(self) -> float:
        """Exponent of the number in the ratio: 1 on the KL, -1 on the reconstruction."""
        return self.b.get("value", 0.0) - self.a.get("value", 0.0)

    def missing(self, sizes: Sizes) -> str | None:
        """A size that is needed and not known."""
        return next((name for name in SIZES if self._exponent(name) and sizes.get(name) is None), None)

    def _exponent(self, name: str) -> float:
        return self.b.get(name, 0.0) - self.a.get(name, 0.0)

    def _scale(self, sizes: Sizes) -> float:
        scale = self.b.get("factor", 1.0) / self.a.get("factor", 1.0)
        return math.prod([scale, *(float(sizes[n]) ** self._exponent(n) for n in SIZES if self._exponent(n))])


@dataclass(frozen=True, slots=True)
class Translation:
    """What a number stands for.

    Attributes:
        value: the number.
        convention: in which it is written.
        ratio: weight of the summed KL beside the plain reconstruction term.
        rho: squared error that one nat is worth, in squared units of the data; `None` where there is no fixed squared error.
        sigma: the Gaussian's standard deviation at beta = 1, in units of the data.
        grey: the same in 8-bit grey levels.
        beta: weight of the summed KL beside a full NLL: outright for densities, at `nll_sigma` for squared errors.
        nll_sigma: the sigma of the NLL that `beta` and the NLL conventions stand beside.
        laplace_scale: of an absolute error, at beta = 1.
        equivalents: the same balance as a number in every other convention that can express it.
        omitted: conventions left out, and why.
        kl_budget: most nats that the KL can reach, for data spread as widely as their range allows: `V / rho`.
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


@cache
def catalogue() -> Mapping[str, Convention]:
    """Every convention by its name."""
    entries = (_entry(entry) for entry in _stored()["convention"])
    return {entry.name: entry for entry in entries}


@cache
def total_variances() -> Mapping[str, tuple[tuple[int, ...], float]]:
    """Known data sets on [0, 1]: shape of an example, and total variance about the mean image."""
    return {entry["name"]: (tuple(entry["shape"]), entry["value"]) for entry in _stored()["total_variance"]}


@cache
def _stored() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("conventions.toml").read_text(encoding="utf-8"))


def _entry(stored: Mapping[str, Any]) -> Convention:
    low, high = stored.get("range", (0.0, 1.0))
    numbers = {part: {k: float(v) for k, v in stored.get(part, {}).items()} for part in ("a", "b", "typical")}
    return Convention(**{**stored, **numbers, "range": (low, high)})


def find(name: str) -> Convention:
    """A convention by its name.

    Raises:
        ArgumentError: if there is none.
    """
    known = catalogue()
    if name not in known:
        raise ArgumentError(
            f"the beta convention must be one of {', '.join(known)} (`calibrae beta --list` explains them); got {name!r}."
        )
    return known[name]


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
    $\rho = 2\sigma^2\beta$: theirs is `sigma`, or what they were found with, or 1.

    Args:
        value: the number as written in the paper or repository.
        convention: a name of `catalogue()`.
        data_shape: of one example.
        latent_dim: `d`.
        data_range: of the data that the loss sees; by default that of the convention.
        batch_size: `B`, where the convention depends on it.
        sigma: standard deviation of the decoder beside a full NLL, in units of the data.

    Returns:
        The translation; sigma in units of the data as the loss sees them.

    Raises:
        ArgumentError: if a name is unknown, a number is not positive, or a size is missing.
    """
    chosen = find(convention)
    sizes = _sizes(math.prod(data_shape), latent_dim, batch_size)
    _require_positive(value=value, sigma=sigma, **sizes)
    low, high = data_range or chosen.range
    if not low < high:
        raise ArgumentError(f"`data_range` must be lo < hi; got {low:g}, {high:g}.")
    ratio = _ratio(chosen, value, sizes)
    nll_sigma = _nll_sigma(chosen, sigma)
    rho = _rho(chosen, ratio, nll_sigma)
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
        kl_budget=None if rho is None else widest / rho,
    )


def _sizes(data_dim: int, latent_dim: int, batch_size: int | None) -> dict[str, float]:
    sizes = {"D": float(data_dim), "d": float(latent_dim)}
    return sizes if batch_size is None else sizes | {"B": float(batch_size)}


def _require_positive(**numbers: float | None) -> None:
    wrong = {name: n for name, n in numbers.items() if n is not None and not (n > 0 and math.isfinite(n))}
    if wrong:
        came = ", ".join(f"{name} {n:g}" for name, n in wrong.items())
        raise ArgumentError(f"a beta and the sizes that it depends on must be positive numbers; got {came}.")


def _ratio(chosen: Convention, value: float, sizes: Sizes) -> float:
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
    return chosen.typical.get("sigma", 1.0)


def _rho(chosen: Convention, ratio: float, nll_sigma: float | None) -> float | None:
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
                "its sigma is not free"
                if other.term == "nll" and chosen.term != "sae"
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
    """The same balance as `b / a` beside another convention's term; `None` where the two share no scale."""
    if there.term == "nll":
        if isinstance(there.sigma, float):
            return None if rho is None else rho / (2.0 * there.sigma**2)
        shares = here.term == "nll" or (here.term in SQUARED and there.sigma == "given")
        return beta if shares else None
    if there.term in SQUARED:
        return None if rho is None else rho / (2.0 / (there.alpha or 1.0) if there.term == "log-cosh" else 1.0)
    if there.term in DENSITIES:
        return ratio if here.term in DENSITIES else None
    return ratio if there.term == here.term else None


def beta_from_convention(
    value: float,
    convention: str,
    data_dim: int,
    latent_dim: int,
    sigma: float | None = None,
    *,
    batch_size: int | None = None,
    likelihood: str = "gaussian",
) -> float:
    r"""The canonical beta, the weight of the summed KL beside the full likelihood, that a number in a convention stands for.

    With a squared error that has no sigma of its own, $\beta = \rho / (2\sigma^2)$.

    Args:
        value: the number as written in the paper or repository.
        convention: a name of `catalogue()`.
        data_dim: `D`.
        latent_dim: `d`.
        sigma: the fixed standard deviation of the decoder, in units of the data; `None` if it is calibrated.
        batch_size: `B`, where the convention depends on it.
        likelihood: `gaussian` or `bernoulli`.

    Returns:
        beta, dimensionless.

    Raises:
        ArgumentError: if the convention is unknown or of another likelihood, a number is not positive, or a sigma is
            needed and missing.

    Example:
        >>> round(beta_from_convention(0.00025, "mse", data_dim=12288, latent_dim=128, sigma=1.0), 3)
        1.536
    """
    chosen = find(convention)
    sizes = _sizes(data_dim, latent_dim, batch_size)
    if value == 0 and chosen.power > 0:
        return 0.0
    _require_positive(value=value, sigma=sigma, **sizes)
    ratio = _ratio(chosen, value, sizes)
    fits = ("nll", *DENSITIES) if likelihood == "bernoulli" else ("nll", *SQUARED)
    if chosen.term not in fits:
        raise ArgumentError(
            f"the beta convention `{convention}` ({chosen.formula}) is not one of a {likelihood} likelihood. Take one with a "
            f"term among {', '.join(fits)}: `calibrae beta --list`."
        )
    if chosen.term not in SQUARED:
        return ratio
    if sigma is None:
        raise ArgumentError(
            f"the beta convention `{convention}` ({chosen.formula}) fixes only rho = 2 sigma^2 beta, so it needs a fixed "
            "sigma; got a sigma that is calibrated. Pass a number for sigma, or use the convention `nll`."
        )
    rho = _rho(chosen, ratio, None)
    assert rho is not None
    return rho / (2.0 * sigma**2)


def beta_in_conventions(
    beta: float, data_dim: int, latent_dim: int, sigma: float | None = None, *, likelihood: str = "gaussian"
) -> dict[str, float]:
    """The canonical `beta` written in the common conventions that have a meaning for this likelihood and sigma.

    Example:
        >>> round(beta_in_conventions(1.536, 12288, 128, sigma=1.0)["mse"], 5)
        0.00025
    """
    known = _sizes(data_dim, latent_dim, None)
    found = {}
    for name in COMMON:
        other = find(name)
        if likelihood == "bernoulli":
            ratio = beta if other.term == "bce" else None
        elif other.term in SQUARED:
            ratio = None if sigma is None else 2.0 * sigma**2 * beta
        else:
            ratio = beta if other.term == "nll" else None
        if ratio is not None:
            found[name] = other.value(ratio, known)
    return found
