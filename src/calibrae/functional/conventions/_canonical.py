"""To and from the one beta that calibrae trains with."""

from __future__ import annotations

from ...errors import ArgumentError
from ._catalogue import DENSITIES, SQUARED, find
from ._translate import ratio_of, require_positive, rho_of, sizes_of

COMMON = ("sse", "half-sse", "mse", "mse-mean-kl", "nll-mean-kl", "mean-nll", "mean-nll-mean-kl", "bce", "mean-bce", "mean-bce-mean-kl")  # fmt: skip


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

    Examples:
        >>> round(beta_from_convention(0.00025, "mse", data_dim=12288, latent_dim=128, sigma=1.0), 3)
        1.536
    """
    chosen = find(convention)
    if likelihood not in ("gaussian", "bernoulli"):
        raise ArgumentError(f"`likelihood` must be gaussian or bernoulli; got {likelihood!r}.")
    fits = ("nll", *DENSITIES) if likelihood == "bernoulli" else ("nll", *SQUARED)
    if chosen.term not in fits:
        raise ArgumentError(
            f"the beta convention `{convention}` ({chosen.formula}) is not one of a {likelihood} likelihood. Take one with a "
            f"term among {', '.join(fits)}: `calibrae beta --list`."
        )
    if chosen.wrap is not None:
        raise ArgumentError(
            f"the beta convention `{convention}` ({chosen.formula}) has a {chosen.wrap} that calibrae's objective has not. Its slope "
            "can be translated: `calibrae beta`."
        )
    sizes = sizes_of(data_dim, latent_dim, batch_size)
    if value == 0 and chosen.power > 0:
        return 0.0
    require_positive(value=value, sigma=sigma, **sizes)
    ratio = ratio_of(chosen, value, sizes)
    if chosen.term not in SQUARED and not isinstance(chosen.sigma, float) and chosen.sigma != "data":
        return ratio
    if sigma is None:
        raise ArgumentError(
            f"the beta convention `{convention}` ({chosen.formula}) fixes only rho = 2 sigma^2 beta, so it needs a fixed "
            "sigma; got a sigma that is calibrated. Pass a number for sigma, or use the convention `nll`."
        )
    rho = rho_of(chosen, ratio, chosen.sigma if isinstance(chosen.sigma, float) else None)
    if rho is None:
        raise ArgumentError(
            f"the beta convention `{convention}` takes its sigma from the data; pass that sigma with `nll` instead."
        )
    low, high = chosen.range  # of the data that it was written for; ours live on [0, 1]
    return rho / (high - low) ** 2 / (2.0 * sigma**2)


def beta_in_conventions(
    beta: float, data_dim: int, latent_dim: int, sigma: float | None = None, *, likelihood: str = "gaussian"
) -> dict[str, float]:
    """The canonical `beta` written in the common conventions that have a meaning for this likelihood and sigma.

    Examples:
        >>> round(beta_in_conventions(1.536, 12288, 128, sigma=1.0)["mse"], 5)
        0.00025
    """
    known = sizes_of(data_dim, latent_dim, None)
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
