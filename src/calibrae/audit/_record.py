"""What an audit says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, final

from ._finding import Finding, Severity
from ._text import to_text


@final
@dataclass(frozen=True, slots=True)
class AuditRecord:
    """What a loss really computes; `None` where a number has no meaning or could not be measured.

    The scalar is read as `sum_n a R_n + wrap(sum_n b K_n) + constants` with `R_n` and `K_n` the sums over an example.

    Attributes:
        reconstruction: `gaussian` (squared error), `laplace` (absolute error), `bernoulli`, `categorical`, `log_cosh`, `log_mse`,
            `unknown` or `none`.
        reconstruction_weight: `a`; of `ln MSE` for `log_mse`.
        sse_weight: `a` of a squared error.
        kl_weight: `b`.
        batch_reduction: `mean`, `sum`, or `mixed` where the two terms differ; from how the weights move with the batch size.
        data_reduction: of the reconstruction over the data dimensions.
        latent_reduction: of the KL over the latents.
        kl_kind: `exact`, `monte_carlo`, `not_a_kl` or `none`.
        kl_minimum_std: standard deviation at which the KL-like term is least; 1 for a KL.
        wrap: `kind`, `constant` (nats of the summed KL) and `scope` of what is done to the KL, if anything.
        rho: `b / a` of a squared error.
        implied_sigma: `sqrt(rho / 2)`, of the Gaussian decoder with the same optimum at beta = 1.
        implied_beta: `b / a` of a density; of a `log_mse`, beside its optimal sigma.
        implied_laplace_scale: `b / a` of an absolute error.
        convention: the closest one of the catalogue.
        convention_value: the number that this loss is there.
        nll_sigma: of a full Gaussian NLL, if the loss carries its constants.
        equivalents: the same balance in the others.
        findings: what to know, the worst first.
        stochastic: whether the scalar differs from seed to seed.
        weight_error: relative standard error of the KL's weight on the variance, of a stochastic loss.
        powers: exponents of `B`, `D` and `d` in `a` and `b`, where they could be varied.
        could_not_vary: sizes that the loss does not accept otherwise.
        evaluations: how often the loss was called.
        seconds: how long it took.
    """

    reconstruction: str
    reconstruction_weight: float | None
    sse_weight: float | None
    kl_weight: float | None
    batch_reduction: str | None
    data_reduction: str | None
    latent_reduction: str | None
    kl_kind: str | None
    kl_minimum_std: float | None
    wrap: dict[str, Any] | None
    rho: float | None
    implied_sigma: float | None
    implied_beta: float | None
    implied_laplace_scale: float | None
    convention: str | None
    convention_value: float | None
    nll_sigma: float | None
    equivalents: dict[str, float]
    findings: tuple[Finding, ...]
    stochastic: bool = False
    weight_error: float = 0.0
    powers: dict[str, float | None] = field(default_factory=dict)
    could_not_vary: tuple[str, ...] = ()
    evaluations: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return to_text(self)

    def codes(self, severity: Severity | None = None) -> list[str]:
        """Codes of the findings, of one severity or of all."""
        return [f.code for f in self.findings if severity in (None, f.severity)]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON; numbers that are not finite become `None`."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
