r"""What a beta means: other people's loss scales, and ours.

Any Gaussian-type loss per example is $a \cdot \mathrm{SSE} + b \cdot \mathrm{KL}$; only $\rho = b/a = 2\sigma^2\beta$
moves the optimum. A convention says what `rho` a number stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ArgumentError


@dataclass(frozen=True, slots=True)
class BetaConvention:
    """A way of writing the balance between reconstruction and KL.

    The canonical beta is `value ** power * D ** data_power * d ** latent_power * factor`, further divided by
    `2 sigma^2` where the reconstruction is a bare squared error.

    Attributes:
        name: what a user types.
        formula: the loss per example in which the number stands.
        power: 1 if the number weighs the KL, -1 if it weighs the reconstruction.
        data_power: 1 if the reconstruction is averaged over the `D` data dimensions.
        latent_power: -1 if the KL is averaged over the `d` latent dimensions.
        needs_sigma: whether the reconstruction is a squared error without a sigma of its own.
        factor: `rho` per unit: 2 for half the squared error.
    """

    name: str
    formula: str
    power: int = 1
    data_power: int = 0
    latent_power: int = 0
    needs_sigma: bool = False
    factor: float = 1.0

    def to_beta(self, value: float, data_dim: int, latent_dim: int, sigma: float | None = None) -> float:
        """The weight of the summed KL beside a full NLL that has the same optimum as `value` in this convention."""
        return value**self.power * self._scale(data_dim, latent_dim, sigma)

    def from_beta(self, beta: float, data_dim: int, latent_dim: int, sigma: float | None = None) -> float:
        """The number that stands for the canonical `beta` in this convention: the inverse of `to_beta`."""
        return float((beta / self._scale(data_dim, latent_dim, sigma)) ** self.power)

    def _scale(self, data_dim: int, latent_dim: int, sigma: float | None) -> float:
        scale = self.factor * float(data_dim) ** self.data_power * float(latent_dim) ** self.latent_power
        if not self.needs_sigma:
            return scale
        if sigma is None:
            raise ArgumentError(
                f"the beta convention `{self.name}` ({self.formula}) fixes only rho = 2 sigma^2 beta, so it needs a fixed "
                "sigma; got a sigma that is calibrated. Pass a number for sigma, or use the convention `nll`."
            )
        return scale / (2.0 * sigma**2)


BETA_CONVENTIONS: Mapping[str, BetaConvention] = {
    convention.name: convention
    for convention in (
        BetaConvention("nll", "NLL + beta KL"),
        BetaConvention("nll-mean-kl", "NLL + beta KL/d", latent_power=-1),
        BetaConvention("mean-nll", "NLL/D + w KL", data_power=1),
        BetaConvention("mean-nll-mean-kl", "NLL/D + w KL/d", data_power=1, latent_power=-1),
        BetaConvention("half-sse", "SSE/2 + beta KL", needs_sigma=True, factor=2.0),
        BetaConvention("sse", "SSE + beta KL", needs_sigma=True),
        BetaConvention("sse-weight", "lambda SSE + KL", power=-1, needs_sigma=True),
        BetaConvention("sse-mean-kl", "SSE + beta KL/d", latent_power=-1, needs_sigma=True),
        BetaConvention("mse", "MSE + w KL", data_power=1, needs_sigma=True),
        BetaConvention("mse-mean-kl", "MSE + w KL/d", data_power=1, latent_power=-1, needs_sigma=True),
        BetaConvention("mse-weight-mean-kl", "lambda MSE + KL/d", -1, 1, -1, needs_sigma=True),
    )
}


def beta_from_convention(
    value: float, convention: str, data_dim: int, latent_dim: int, sigma: float | None = None
) -> float:
    r"""The canonical beta, the weight of the summed KL beside the full NLL, that a number in a convention stands for.

    With a squared error that has no sigma of its own, $\beta = \rho / (2\sigma^2)$.

    Args:
        value: the number as written in the paper or repository.
        convention: a key of `BETA_CONVENTIONS`.
        data_dim: `D`.
        latent_dim: `d`.
        sigma: the fixed standard deviation of the decoder, in units of the data; `None` if it is calibrated.

    Returns:
        beta, dimensionless.

    Raises:
        ArgumentError: if the convention is unknown, a number is not positive, or a sigma is needed and missing.

    Example:
        >>> round(beta_from_convention(0.00025, "mse", data_dim=12288, latent_dim=128, sigma=1.0), 3)
        1.536
    """
    if convention not in BETA_CONVENTIONS:
        raise ArgumentError(f"`convention` must be one of {', '.join(BETA_CONVENTIONS)}; got {convention!r}.")
    if not (value >= 0 and data_dim > 0 and latent_dim > 0 and (sigma is None or sigma > 0)):
        raise ArgumentError(
            "beta must not be negative, and data_dim, latent_dim and sigma must be positive; got "
            f"{value}, {data_dim}, {latent_dim}, {sigma}."
        )
    chosen = BETA_CONVENTIONS[convention]
    if value == 0 and chosen.power < 0:
        raise ArgumentError(
            f"a weight of 0 on the reconstruction (`{convention}`) leaves no data term; pass a positive one."
        )
    return chosen.to_beta(value, data_dim, latent_dim, sigma)


def beta_in_conventions(beta: float, data_dim: int, latent_dim: int, sigma: float | None = None) -> dict[str, float]:
    """The canonical `beta > 0` written in every convention that has a meaning for this sigma.

    Example:
        >>> round(beta_in_conventions(1.536, 12288, 128, sigma=1.0)["mse"], 5)
        0.00025
    """
    return {
        name: convention.from_beta(beta, data_dim, latent_dim, sigma)
        for name, convention in BETA_CONVENTIONS.items()
        if (sigma is not None or not convention.needs_sigma) and (beta > 0 or convention.power > 0)
    }
